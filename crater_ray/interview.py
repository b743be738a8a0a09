"""What `init` asks of a plugin, by what its spec declares; answers are given beforehand or typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import click
from pydantic import TypeAdapter, ValidationError

from crater_ray.errors import PluginError
from crater_ray.plugins import Kind, PluginSpec, Question, registry
from crater_ray.plugins.registry import in_words

NOTHING = "none"  # the answer that leaves an option out


def questions_of(spec: PluginSpec) -> tuple[Question, ...]:
    """Those that it declares, else one for every option that has no default."""
    fields = spec.options.model_fields
    needed = (Question(name, name.replace("_", " ")) for name, field in fields.items() if field.is_required())
    return spec.questions or tuple(needed)


class Asking:
    """An `Ask` of one plugin's questions: what was given as an option is not asked.

    given: text of options by name; `said` and `used` tell afterwards what was found and which were needed.
    Without `prompt` proposals are taken, and click.UsageError names the option where there is none.
    """

    def __init__(self, spec: PluginSpec, given: Mapping[str, str], prompt: bool) -> None:
        self._spec, self._given, self._prompt = spec, given, prompt
        self._questions = {one.name: one for one in questions_of(spec)}
        self.said: list[str] = []
        self.used: set[str] = set()

    def say(self, text: str) -> None:
        click.echo(text, err=True)
        self.said.append(text)

    def __call__(self, name: str, proposal: Any = None) -> Any:
        if name not in self._questions:
            raise PluginError(
                f"the interview of {self._spec.name!r} asks {name!r}, which it does not declare"
            )
        self.used.add(name)
        flag = option_of(name)
        if name in self._given:
            return self._checked(name, self._given[name], f"{flag}: ")
        proposal = self._proposal(name) if proposal is None else as_typed(proposal)
        if self._prompt:
            return click.prompt(
                self._questions[name].text,
                default=proposal,
                value_proc=lambda text: self._checked(name, text, ""),
                err=True,
            )
        if proposal is None:
            raise click.UsageError(f"{flag} is needed: {self._questions[name].text}")
        return self._checked(name, proposal, f"{flag}: ")

    def _proposal(self, name: str) -> str | None:
        field = self._spec.options.model_fields[name]
        if own := self._questions[name].proposal:
            return own
        return None if field.is_required() else as_typed(field.get_default(call_default_factory=True))

    def _checked(self, name: str, text: str, where: str) -> Any:
        """Plain data of what was typed: a list is written with commas. Raises click.UsageError."""
        field = self._spec.options.model_fields[name]
        if text == NOTHING and not field.is_required():
            return None
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        try:
            value = adapter.validate_python(text)
        except ValidationError as error:
            try:
                value = adapter.validate_python([one.strip() for one in text.split(",")])
            except ValidationError as second:
                several = "," in text or error.errors()[0]["type"] in ("tuple_type", "list_type")
                why = in_words((second if several else error).errors()[0])
                raise click.UsageError(f"{where}{text!r}: {why[:1].lower()}{why[1:]}") from None
        return adapter.dump_python(value, mode="json")


def as_typed(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    return (
        ",".join(map(str, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )


def option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def interview(kind: Kind, name: str, asking: Asking) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The options of a plugin and of the queries beside it, by its interview, else asked one by one."""
    entry = registry().find(kind, name)
    if entry.spec.interview:
        options, queries = registry().load(entry, entry.spec.interview)(asking)
    else:
        options, queries = {one.name: asking(one.name) for one in questions_of(entry.spec)}, None
    return {key: value for key, value in options.items() if value is not None}, queries

"""docs/reference/python.md: what is public in Python, as its source declares it, without the bodies."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import is_dataclass
from inspect import cleandoc, getsource, isclass, isfunction, unwrap
from textwrap import dedent
from typing import Any

import crater_ray
from crater_ray import errors, plugins, testing, types
from crater_ray.evaluation.evaluate import EvaluationReport
from crater_ray.jobs.index import IndexReport
from crater_ray.jobs.neighbours import NeighboursReport
from crater_ray.retrieve import Index

SPECIAL = {"__init__", "__call__", "__len__"}


def markdown() -> str:
    """Every public name: signature or fields, and docstring."""
    requests = [
        crater_ray.SearchRequest,
        crater_ray.Filter,
        crater_ray.Box,
        crater_ray.Near,
        crater_ray.Place,
    ]
    search = [crater_ray.open_index, Index, *requests, crater_ray.Hits, crater_ray.embed]
    jobs = [crater_ray.load_job, crater_ray.build_index, crater_ray.evaluate, crater_ray.neighbours]
    reports = [IndexReport, EvaluationReport, NeighboursReport]
    only = {Index: ("__init__", "__len__", "ids", "groups", "items", "vectors", "search", "score")}
    data = [types.Hit, types.TokenPair, types.Item, types.Tokens, types.TokenShape]
    return "".join(
        [
            "`import crater_ray` is light: torch and FAISS are loaded on first use. What is listed here is\n"
            "public.\n",
            "\n## Search and encode\n\nAll but `Index` are names of `crater_ray`.\n",
            *(_block(one, only.get(one)) for one in search),
            "\n## Jobs\n\nNames of `crater_ray`, and the reports that they return.\n",
            *map(_block, [*jobs, *reports]),
            "\n## Data\n\n`crater_ray.types`\n",
            *map(_block, data),
            "\n## For plugins\n\n`crater_ray.plugins`\n",
            *(_block(one) for one in map(plugins.__dict__.get, plugins.__all__) if _declared(one)),
            "\n`crater_ray.testing`\n",
            *(_block(one) for one in map(testing.__dict__.get, testing.__all__) if _declared(one)),
            f"\n## Errors\n\n`crater_ray.errors`\n\n```text\n{cleandoc(errors.__doc__ or '')}\n```\n",
        ]
    )


def _declared(one: Any) -> bool:
    return isclass(one) or isfunction(unwrap(one))


def _block(one: Any, members: Sequence[str] | None = None) -> str:
    return f"\n### {one.__name__}\n\n```python\n{stub(one, members)}\n```\n"


def stub(one: Any, members: Sequence[str] | None = None) -> str:
    """The declaration of a class or function: no bodies, of a class its public members or those named."""
    source = dedent(getsource(unwrap(one)))
    lines, (tree,) = source.splitlines(), ast.parse(source).body
    if not isinstance(tree, ast.ClassDef):
        return "\n".join(_head(tree, lines))
    shown, first = _head(tree, lines), True
    for node in tree.body[1:] if ast.get_docstring(tree) else tree.body:
        name = getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", None)
        if name is None or (name not in members if members is not None else not _public(name, one)):
            continue
        if isinstance(node, ast.AnnAssign):
            shown += [*[""] * first, *lines[node.lineno - 1 : node.end_lineno]]
            first = False
        else:
            shown += ["", *_head(node, lines)]
    return "\n".join(shown)


def _public(name: str, owner: Any) -> bool:
    return not name.startswith("_") or (name in SPECIAL and not is_dataclass(owner))


def _head(node: Any, lines: Sequence[str]) -> list[str]:
    """From the decorators to the end of the docstring."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    body = node.body[0]
    if ast.get_docstring(node) is not None:
        return list(lines[first : body.end_lineno])
    if isinstance(node, ast.ClassDef):
        return list(lines[first : body.lineno - 1])
    end = max(body.lineno - 1, node.lineno)
    head = list(lines[first:end])
    return head if head[-1].endswith("...") else [*head[:-1], f"{head[-1]} ..."]

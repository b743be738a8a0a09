"""What a deployment is made of: plain data, so that it travels, and so that `serve deploy` can say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from crater_ray.config import ServeTable
from crater_ray.errors import ConfigError, IndexMismatch
from crater_ray.index.config import read_config
from crater_ray.index.store import store_at
from crater_ray.index.versions import latest, read
from crater_ray.plugins.registry import explain

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseModel):
    """The arguments of `crater_ray.serve.deploy:build`. Paths must hold on every node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: Path
    version: int | None = None  # current at the start; None: the newest
    token_file: Path | None = None
    no_auth: bool = False  # for a service that only its own machine can reach
    app: str = "crater-ray"  # the name of the Serve application
    logs: Path | None = None  # a folder for the JSON logs; None: Ray's own
    serve: ServeTable = ServeTable()

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if (self.token_file is None) == (not self.no_auth):
            raise ValueError("name a token_file, or say no_auth for a service on 127.0.0.1 alone")
        return self

    @property
    def name(self) -> str:
        """What replies call the index."""
        return self.index.resolve().name

    def logging(self) -> dict[str, Any]:
        """Ray Serve's logging_config: JSON lines, and no access log, for the gate writes one."""
        place = {} if self.logs is None else {"logs_dir": str(self.logs)}
        return {"encoding": "JSON", "enable_access_log": False, **place}

    def first_version(self) -> int:
        """Raises IndexMismatch when there is none, or not the one that is named."""
        read_config(store_at(self.index))
        return self.published(self.version)

    def published(self, version: int | None) -> int:
        """The number of a version of the index, None: the newest. Raises IndexMismatch."""
        store = store_at(self.index)
        found = latest(store) if version is None else read(store, version)
        if found is None:
            raise IndexMismatch(f"{self.index} has no version yet: run `crater-ray index JOB.toml`")
        return found.number


def settings(plain: dict[str, Any]) -> Settings:
    """Checked. Raises ConfigError."""
    try:
        return Settings.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(f"the arguments of serve.deploy:build: {explain(error, Settings)}") from None

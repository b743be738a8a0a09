"""A change of the current version without a dropped or mixed reply: three steps, each awaited everywhere.

1. searchers hold {old, new}    2. ingresses pin new    3. after the request timeout they drop old
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import HTTPException

from crater_ray.errors import CraterRayError
from crater_ray.serve.service import Pin
from crater_ray.serve.settings import Settings

NAME = "crater-ray-reload"  # of the actor that does it: there is one at a time


def begin(wanted: Settings, pin: Pin, version: int | None) -> None:
    """Starts the change of version in an actor of its own, which outlives this replica.

    Raises HTTPException for a version that is not there, or while another change is under way.
    """
    import ray

    try:
        number = wanted.published(version)
    except CraterRayError:
        raise HTTPException(
            404, f"no version {version or 'at all'}; see `published` of GET /v1/index"
        ) from None
    if pin.version == number and pin.held == (number,):
        return
    plain = wanted.model_dump(mode="json")
    try:
        actor = ray.remote(_Reload).options(
            name=f"{NAME}:{wanted.app}", num_cpus=0, lifetime="detached", namespace=NAME, max_restarts=0
        )
        actor.remote().run.remote(plain, pin.version, number)  # not waited for: its process takes a while
    except ValueError:  # the name is taken
        raise HTTPException(409, "another change of version is under way; see GET /v1/index") from None


def change(
    wanted: Settings, old: int, new: int, run: Callable[..., Any], wait: Callable[[float], None]
) -> None:
    """The three steps; `run` deploys an application and waits until every replica has it."""
    from crater_ray.serve.deploy import bound, running

    code, both = running(wanted.app)[0], tuple(sorted({old, new}))
    more = {"name": wanted.app, "logging_config": wanted.logging()}
    for version in (old, new):
        run(bound(wanted, version, both, code), **more)
    wait(wanted.serve.timeout_s)
    run(bound(wanted, new, (new,), code), **more)


class _Reload:
    """Lives for one change."""

    def run(self, plain: dict[str, Any], old: int, new: int) -> None:
        """Ends the process, so that the name is free again. What was deployed until then stays."""
        import logging
        import os

        from ray import serve

        from crater_ray.serve.deploy import prefix
        from crater_ray.serve.settings import settings

        try:
            wanted = settings(plain)
            change(wanted, old, new, partial(serve.run, route_prefix=prefix(wanted.app)), time.sleep)
        except Exception:
            logging.getLogger("ray.serve").exception("the change from version %d to %d failed", old, new)
        finally:
            os._exit(0)

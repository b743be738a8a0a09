"""Ray: one of this machine alone, or a running one joined by its address."""

from __future__ import annotations

import os
from typing import Any

from crater_ray.errors import ClusterError

STARTS = 3  # of a cluster of this machine, which Ray gives up on after 30 s, however busy the machine is
LOCAL_STORE_BYTES = 200 * 2**20  # big arrays go to files, so the object store carries only plain data


def start(address: str | None, runtime_env: dict[str, Any] | None = None, **local: Any) -> None:
    """Connects; `local` are options of ray.init for a cluster of this machine.

    Raises ClusterError when the address does not answer, or no cluster comes up here.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # a signal to a whole process group ends the cluster first: its events are not waited for, for 5 s
        os.environ.setdefault("RAY_task_events_shutdown_flush_timeout_ms", "300")
        local = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES, **local}
    else:
        local = {}
    for attempt in range(STARTS):
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env=runtime_env or None,
                **local,
            )
            return
        except Exception as error:  # a node that does not start in Ray's 30 s is an Exception and no more
            ray.shutdown()
            if address or "timed out during startup" not in str(error) or attempt == STARTS - 1:
                raise ClusterError(
                    f"no Ray cluster at {address or 'this machine'}: {error}; "
                    "start one with `ray start --head`, or leave the address out"
                ) from error

"""Whether the head of the cluster still answers; where it does not, the work that waits for it is ended."""

from __future__ import annotations

import signal
import socket
import threading
import time
from types import TracebackType
from typing import Any

import ray

from crater_ray.errors import ClusterError

PERIOD, ANSWER = 2.0, 2.0  # seconds between two looks, and for one
# Ray itself ends the driver after 60 s without a word (gcs_rpc_server_reconnect_timeout_s). A link that was
# down for 20 s is waited for.
LOST = 40.0
INTERRUPTION = signal.SIGUSR1  # SIGINT is ignored in a job of a shell's background


class Heartbeat:
    """A context in the main thread that is left by an exception when the head has not answered for 40 s.

    `lost` then says so. Elsewhere, and for a client at `ray://`, it does nothing: Ray ends these itself.
    """

    def __init__(self) -> None:
        self.lost = False
        self.address = ""
        self._before: Any = None  # what handled the signal outside
        self._stop = threading.Event()

    def error(self) -> ClusterError:
        return ClusterError(
            f"the head of the Ray cluster at {self.address} has not answered for {LOST:.0f} s; "
            "start a cluster again, then run the same command: what is done is kept"
        )

    def __enter__(self) -> Heartbeat:
        if threading.current_thread() is threading.main_thread() and not ray.util.client.ray.is_connected():
            self.address = ray.get_runtime_context().gcs_address
            self._before = signal.signal(INTERRUPTION, _interrupted)
            threading.Thread(target=self._watch, name="head watch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._before is not None:
            signal.signal(INTERRUPTION, self._before)

    def _watch(self) -> None:
        host, _, port = self.address.rpartition(":")
        last = time.monotonic()
        while not self._stop.wait(PERIOD):
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
                last = time.monotonic()
            except OSError:
                if time.monotonic() - last > LOST and not self._stop.is_set():
                    self.lost = True
                    signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPTION)
                    return


def _interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt

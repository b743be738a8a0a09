"""The head of a cluster that no longer answers ends the work that waits for it."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace

import pytest

from crater_ray.jobs import heartbeat


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """What a driver takes for the heartbeat."""
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    driver = SimpleNamespace(is_connected=lambda: False)
    ray = SimpleNamespace(
        get_runtime_context=lambda: SimpleNamespace(gcs_address=address),
        util=SimpleNamespace(client=SimpleNamespace(ray=driver)),
    )
    monkeypatch.setattr(heartbeat, "ray", ray)
    monkeypatch.setattr(heartbeat, "PERIOD", 0.01)
    monkeypatch.setattr(heartbeat, "LOST", 0.2)
    return server


def test_work_that_waits_for_a_head_that_has_gone_is_ended(listening: socket.socket) -> None:
    watch = heartbeat.Heartbeat()

    def wait() -> None:
        with watch:
            listening.close()
            threading.Event().wait(30)

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert watch.lost
    assert "has not answered" in watch.error().message


def test_a_head_that_answers_ends_nothing(listening: socket.socket) -> None:
    with listening, heartbeat.Heartbeat() as watch:
        for _ in range(20):
            listening.accept()[0].close()
    assert not watch.lost

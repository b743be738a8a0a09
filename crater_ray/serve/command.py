"""What `crater-ray serve` does: a service here or on a running cluster, until a signal stops it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crater_ray import errors
from crater_ray.config import ServeTable, load_job
from crater_ray.errors import ClusterError, ConfigError, CraterRayError
from crater_ray.jobfile import is_job, url_of
from crater_ray.ray_log import ray_apart
from crater_ray.serve.basemap import read_maps
from crater_ray.serve.bearer_tokens import read_tokens
from crater_ray.serve.settings import LOOPBACK, Settings
from crater_ray.start import start

APP = "crater-ray"


def plan(
    index: Path,
    *,
    host: str,
    token_file: Path | None,
    no_auth: bool,
    version: int | None,
    logs: Path | None,
    changes: dict[str, Any],
    overrides: Sequence[str] = (),
) -> Settings:
    """What is to be served: an index, or a job file's, with its [serve].

    Raises ConfigError, IndexMismatch: everything that can be checked before a process is started.
    """
    if is_job(index):
        own = [f"serve.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in changes.items()]
        job = load_job(index, (*overrides, *own))
        index, table = job.out, job.serve
    elif overrides:
        raise ConfigError("--set changes a job file; name one in place of the index")
    else:
        table = ServeTable.model_validate(changes)
    if no_auth and host not in LOOPBACK:
        raise ConfigError(f"--no-auth opens the service to all who can reach {host}; name a --token-file")
    if token_file is None and not no_auth:
        raise ConfigError(
            "name a file with a token in it, such as `openssl rand -hex 32` prints: --token-file F; "
            "or, on 127.0.0.1 alone, say --no-auth"
        )
    if token_file is not None:
        read_tokens(token_file)
    read_maps(table)
    wanted = Settings(
        index=index.resolve() if url_of(index) is None else index,
        version=version,
        token_file=None if token_file is None else token_file.resolve(),
        no_auth=no_auth,
        logs=None if logs is None else logs.resolve(),
        serve=table,
    )
    wanted.first_version()
    return wanted


@ray_apart()
def run(
    wanted: Settings,
    *,
    host: str,
    port: int,
    prefix: str,
    address: str | None,
    metrics_port: int | None,
    say: Callable[[str], None],
) -> None:
    """Serves until SIGINT or SIGTERM. Raises ClusterError, DamagedIndex and what else a replica dies of."""
    began = time.monotonic()
    _free(host, port)
    os.environ.update({name: value for name, value in environment().items() if name not in os.environ})
    stop = threading.Event()
    import ray
    from ray import serve

    ours = not ray.is_initialized()
    if ours:
        ports = {} if metrics_port is None else {"_metrics_export_port": metrics_port}
        # a running cluster's Serve then has our environment; one of this machine inherits it
        start(address, {"env_vars": environment()} if address else None, **ports)
    for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which has a handler of its own
        signal.signal(number, lambda *_: stop.set())
    try:
        serve.start(http_options={"host": host, "port": port, "request_timeout_s": None})
        from crater_ray.serve.deploy import bound, running

        version = wanted.first_version()
        _deploy(wanted, bound(wanted, version, (version,), lone=True), prefix)  # one of each is sooner there
        shown = f"[{host}]" if ":" in host else host
        say(
            f"{wanted.name}, version {version}: http://{shown}:{port}{prefix.rstrip('/')}/ "
            f"(API: {prefix.rstrip('/')}/docs), ready after {time.monotonic() - began:.1f} s; Ctrl-C stops it"
        )
        if not stop.is_set():
            code, now, held = running(wanted.app)
            _deploy(wanted, bound(wanted, now, held, code), prefix)
            say(f"every replica is there after {time.monotonic() - began:.1f} s")
        stop.wait()
    finally:
        if address is None:
            serve.shutdown()
        else:
            serve.delete(wanted.app)
        if ours:
            ray.shutdown()


def served_below(prefix: str) -> str:
    """The route prefix as Ray Serve has it: / or /so/and/so. Raises ConfigError for what is none."""
    parts = [part for part in prefix.split("/") if part]
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", part) and part.strip(".") for part in parts):
        raise ConfigError(
            f"--prefix {prefix!r}: write a path such as /moon, of letters, digits and any of . _ ~ -"
        )
    return "/" + "/".join(parts)


def environment() -> dict[str, str]:
    """What the processes of Ray Serve should find in their environment, unless it is there already.

    HAProxy in front: a killed proxy or ingress is not noticed, and a request takes one hop less. What it
    listens on besides the service itself is moved to free ports. Loops are shared: threads cost latency.
    """
    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's own 15 is for work that nobody waits for
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_SERVE_FREEZE_GC_ON_STARTUP": "1",  # what was imported is not looked through again and again
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",  # a call of a replica takes 2 ms less than by an actor's task
    }
    if sys.platform == "linux":
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(_any_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(_any_port()),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_any_port()),
            # the third that finds HAProxy dead starts another: 3 s without an answer, not 23
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.3",
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
            "RAY_SERVE_HAPROXY_NBTHREAD": "2",
            # every request of ours may be repeated: one that an ingress took into its death is
            "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        }
    return variables


def _deploy(wanted: Settings, application: Any, prefix: str) -> None:
    """Waits until every replica is there. Raises what one of them died of."""
    from ray import serve

    try:
        serve.run(application, name=wanted.app, route_prefix=prefix, logging_config=wanted.logging())
    except RuntimeError as error:  # what a replica died of stands with its deployment
        there = serve.status().applications.get(wanted.app)
        messages = [one.message for one in there.deployments.values()] if there else []
        raise _reason("\n".join([str(error), *messages])) from error


def _reason(text: str) -> CraterRayError:
    """The error of ours that a replica died of, out of what Serve says; or all that Serve says."""
    found = re.findall(r"crater_ray\.errors\.(\w+): (.+)", text)
    for name, message in reversed(found):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, CraterRayError):
            return kind(message.strip().replace("\\n", " "))
    return ClusterError(f"the service did not start: {text.strip()}")


def _free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; use another --port"
        ) from None


def _any_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])

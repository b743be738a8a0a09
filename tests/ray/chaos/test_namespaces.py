"""Nodes with a network of their own, for CRATER_RAY_NETNS=1 and root; benchmarks/nodes.py is the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.chaos
@pytest.mark.fault(
    "a link down for 20 s, then a node unplugged and another joining", "every item once, the same bytes"
)
@pytest.mark.skipif(
    "CRATER_RAY_NETNS" not in os.environ, reason="CRATER_RAY_NETNS=1 makes network namespaces"
)
def test_links_and_nodes(request: pytest.FixtureRequest) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "nodes.py"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items_once"] == 480
    request.node.user_properties.append(("audited", 3 * 480))

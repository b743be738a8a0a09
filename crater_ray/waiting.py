"""How threads of one computation wait for each other. Imports nothing heavy: it has to come before torch."""

from __future__ import annotations

import os

SPIN = "10000"  # looks at the barrier before a thread sleeps: fewer cost a quiet machine a quarter


def brief_spin() -> None:
    """Lets a thread that waits for its team sleep soon, in this process and in those it starts.

    By default libgomp spins for milliseconds. On cores shared with other work the thread that spins keeps the
    one it waits for from running: docs/benchmarks/search.md has what that costs. What the user's environment
    says of it stays. Has no effect once torch or FAISS is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)

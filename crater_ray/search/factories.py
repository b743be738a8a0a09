"""The FAISS index that "auto" stands for: a rule of the number of shortlist vectors.

Below FEW vectors it is Flat: exhaustive, nothing is learnt, and one thread reads them in a few milliseconds.
Above it is IVF{lists},SQ8, a byte a dimension, whose nprobe is tuned (nprobe.py).
"""

from __future__ import annotations

import math
import re
from typing import Final

AUTO: Final = "auto"
FLAT: Final = "Flat"
FEW: Final = 32_768  # vectors; 50 MB of float32 at 384 dimensions, read in 3 ms
LISTS_PER_ROOT: Final = 4  # lists are the power of two nearest to 4 sqrt(vectors), as FAISS advises
LEARNT_A_LIST: Final = 48  # vectors that k-means learns a list from; FAISS warns below 39
LEARNT: Final = 131_072  # vectors that any other factory learns from, at most


def chosen(factory: str, vectors: int) -> str:
    """The factory string itself, or what "auto" means for that many vectors."""
    if factory != AUTO:
        return factory
    return FLAT if vectors < FEW else f"IVF{lists(vectors)},SQ8"


def lists(vectors: int) -> int:
    """Of an IVF index over that many vectors."""
    return int(2 ** round(math.log2(LISTS_PER_ROOT * math.sqrt(max(vectors, 1)))))


def learns_from(factory: str) -> int:
    """Vectors that its training reads, at most."""
    found = re.search(r"IVF(\d+)", factory)
    return LEARNT if found is None else LEARNT_A_LIST * max(int(found.group(1)), 1)

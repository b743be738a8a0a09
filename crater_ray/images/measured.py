"""What is a measurement, and what stands for none: the one place that decides it, for images and rasters.

Three layers, each told apart in words: what the file declares; special pixels of a format or a type; and
sanity, a conventional "no data" value that nobody declared and that lies apart from every other sample.
A file's own mask (alpha, .msk) is the reader's business: GDAL or Pillow gives it.

Special pixels of ISIS: SpecialPixel.h of USGS ISIS (NULL, LRS, LIS, HIS, HRS).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
HUGE = 1e30  # no instrument gives more: ±1e32, ±3.4e38 and ISIS's 32- and 64-bit special pixels lie beyond
NEAR = 4 * 2.0**-23  # relative: a declared value that went through text or another float type
APART = 0.02  # of the other samples' range, that lies empty beside a sentinel
# Values that stand for "no data" by convention; believed only where they lie apart from all other samples.
SENTINELS = (
    *(-(10.0**digits) + 1.0 for digits in range(3, 9)),  # -999, -9999 … -99999999
    *(10.0**digits - 1.0 for digits in range(4, 9)),  # 9999 …
    -32768.0,
    -32767.0,
    32767.0,
    65535.0,
    2147483647.0,
    4294967295.0,
    -1e20,
    1e20,
)
_SENTINELS = {cast(one) for one in SENTINELS for cast in (float, lambda one: float(np.float32(one)))}
# By type: the lowest and highest valid sample of an ISIS cube
ISIS = {"uint8": (1, 254), "int16": (-32752, 32767), "uint16": (3, 65522), "uint32": (3, 4294967282)}


@dataclass(frozen=True, slots=True)
class Rule:
    """Which samples of one type are measurements, whatever else the file's own mask says."""

    dtype: str
    declared: tuple[float, ...] = ()
    lowest: float = -math.inf  # of a measurement
    highest: float = math.inf
    sane: bool = True  # whether undeclared sentinels are looked for
    nan: bool = False  # declared as no data

    def told(self) -> str:
        """What is no measurement, in words; empty where nothing is declared or special."""
        words = [f"{value:.9g}" for value in self.declared]
        ends = np.iinfo(self.dtype) if np.dtype(self.dtype).kind in "iu" else None
        if ends is None:
            words.append("NaN, beyond ±1e30")
        else:
            words += [f"below {self.lowest:.0f}"] if self.lowest > ends.min else []
            words += [f"above {self.highest:.0f}"] if self.highest < ends.max else []
        return ", ".join(words)

    @property
    def plain(self) -> bool:
        """Whether nothing but declared values is ever missing."""
        whole = np.iinfo(self.dtype) if np.dtype(self.dtype).kind in "iu" else None
        return whole is not None and not self.sane and self.lowest <= whole.min and self.highest >= whole.max

    def missing(self, samples: Array) -> Array:
        """Bool of the samples' shape: declared, special, NaN or infinite. Any type, NaN as no data."""
        found = ~((samples >= self.lowest) & (samples <= self.highest))
        for value in self.declared:
            if self.dtype.startswith("float"):
                found |= np.abs(samples - value) <= abs(value) * NEAR
            else:
                found |= samples == value
        return found

    def undeclared(self, parts: Iterable[tuple[Array, Array]]) -> tuple[float, ...]:
        """The sentinels in samples that come in parts, each with its mask of what is missing already.

        A sentinel is extreme and lies apart from all other samples; where there are no others it is one, too.
        """
        if not self.sane:
            return ()
        present: set[float] = set()
        low, high = math.inf, -math.inf
        for samples, missing in parts:
            rest = samples[~missing]
            if rest.size and {float(rest.min()), float(rest.max())} & _SENTINELS:
                here = [value for value in SENTINELS if (rest == value).any()]
                present.update(here)
                rest = rest[~np.isin(rest, np.array(here))]
            if rest.size:
                low, high = min(low, float(rest.min())), max(high, float(rest.max()))
        gap = APART * (high - low) if low <= high else 0.0
        return tuple(sorted(value for value in present if value < low - gap or value > high + gap))

    def also(self, values: Iterable[float]) -> Rule:
        """The same with more declared values, and none looked for."""
        return replace(self, declared=tuple(sorted({*self.declared, *values})), sane=False)


def measured(
    dtype: str, declared: tuple[float | None, ...] = (), *, isis: bool = False, sane: bool | None = None
) -> Rule:
    """The rule for samples of a type such as "int16", with what the file declares as no data.

    isis: of a cube, whose special pixels lie at both ends of a type. 8-bit samples are all measurements but
    for those and the declared ones.
    """
    kind = np.dtype(dtype)
    told = [float(one) for one in declared if one is not None]
    values = tuple(sorted({one for one in told if math.isfinite(one)}))
    eight = kind.itemsize == 1
    sane = not eight if sane is None else sane
    if kind.kind == "f":
        return Rule(kind.name, values, -HUGE, HUGE, sane, any(map(math.isnan, told)))
    ends = np.iinfo(kind)
    lowest, highest = float(ends.min), float(ends.max)
    if kind.kind == "i" and not eight:
        lowest += 1.0  # what overflows; no scale of heights or greys begins there
    if isis or (kind.name == "int16" and -32768.0 in values):
        low, high = ISIS.get(kind.name, (lowest, highest))
        lowest, highest = max(lowest, low), min(highest, high)
    return Rule(kind.name, values, lowest, highest, sane)

"""A raster's dataset: one handle a thread, dropped after any error, so that a retry reads the files again.

A handle that failed once must not be asked again: GDAL then gives what it had of a missing tile (zeros,
memory that nobody wrote) or of a broken one, and says nothing.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from crater_ray.errors import ReaderError
from crater_ray_mosaic.unrecognised import advice
from crater_ray_mosaic.virtual import tiles

Found = TypeVar("Found")

# Read from the environment alone, where GDAL's own threads see them too.
os.environ.setdefault("GDAL_CACHEMAX", "256")  # of the process; by itself 5 % of the memory an actor
os.environ["VRT_NUM_THREADS"] = "1"  # errors of its threads never reach rasterio, which then returns zeros
os.environ["GDAL_ERROR_ON_LIBJPEG_WARNING"] = "YES"  # a JPEG that ends early is no grey area
os.environ.setdefault("GDAL_HTTP_MAX_RETRY", "3")
os.environ.setdefault("GDAL_HTTP_RETRY_DELAY", "1")

_DAMAGE = re.compile(r"corrupt|premature|truncat|unexpected end", re.IGNORECASE)  # GDAL only warns of these


_lost: set[str] = (
    set()
)  # tiles that GDAL has found missing: its pool gives zeros for them until the process ends


class UnreadableRaster(ReaderError, OSError):
    """A raster, or a file that it is made of, that cannot be read now. Tried again like any OSError."""


class _Heard(logging.Handler):
    """What GDAL warns of in this thread while it reads."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        lines = getattr(self.lines, "now", None)
        if lines is not None and _DAMAGE.search(record.getMessage()):
            lines.append(record.getMessage())


_heard = _Heard()
for _name in ("rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addHandler(_heard)


class Source:
    """The dataset of a GDAL name, opened once a thread."""

    def __init__(self, name: str, path: Path) -> None:
        """`path`: the file that the name is of."""
        self.name, self.path = name, path
        self._own = threading.local()
        self._tiles = list(tiles(path))

    def ask(self, action: Callable[[Any], Found], window: Window | None = None) -> Found:
        """What `action` gives of the open dataset, reading no more than `window`.

        Raises UnreadableRaster with the file that is at fault.
        """
        touched = [] if window is None else self._touched(window)
        with self._guarded(touched), _listening() as warned:
            for tile in touched:
                if str(tile) in _lost:
                    raise FileNotFoundError(f"{tile}: was not there when GDAL opened it; run again")
                if not tile.exists():
                    raise FileNotFoundError(f"{tile}: No such file or directory")
            found = action(self._handle())
            if warned:
                raise RasterioError(warned[0])
            return found

    def _touched(self, window: Window) -> list[Path]:
        left, top = window.col_off, window.row_off
        right, bottom = left + window.width, top + window.height
        return [tile.path for tile in self._tiles if tile.touches(left, right, top, bottom)]

    def _handle(self) -> Any:
        pid, handle = getattr(self._own, "dataset", (0, None))
        if handle is None or pid != os.getpid():
            with warnings.catch_warnings():  # a file without a place is refused, or has option extent
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                handle = rasterio.open(self.name)
            self._own.dataset = os.getpid(), handle
            _whole(handle)
        return handle

    def _drop(self) -> None:
        _, handle = getattr(self._own, "dataset", (0, None))
        self._own.dataset = 0, None
        if handle is not None:
            handle.close()

    @contextmanager
    def _guarded(self, touched: Sequence[Path]) -> Iterator[None]:
        try:
            yield
        except (RasterioError, OSError) as error:
            self._drop()
            if isinstance(error, RasterioError):
                _lost.update(str(tile) for tile in touched if not tile.exists())
            reason = _reason(error)
            advised = advice(self.path, reason)
            told = f"{reason.rstrip('.')}{advised}" if advised else reason
            raise UnreadableRaster(f"cannot read {self.path.name}: {told}") from error
        except BaseException:
            self._drop()
            raise


@contextmanager
def _listening() -> Iterator[list[str]]:
    before = getattr(_heard.lines, "now", None)
    lines: list[str] = []
    _heard.lines.now = lines
    try:
        yield lines
    finally:
        _heard.lines.now = before


def _reason(error: BaseException) -> str:
    """GDAL's own words: of the file that failed, then of what failed in it."""
    texts = []
    at: BaseException | None = error
    while at is not None:
        text = str(at).strip()
        if text and not text.startswith("Read failed."):
            texts.append(text)
        at = at.__cause__
    if not texts:
        return str(error)
    return texts[0] if texts[-1] in texts[0] else f"{texts[0]} ({texts[-1]})"


def _whole(handle: Any) -> None:
    """Raises OSError for a raw file that is shorter than its header says: GDAL reads the rest as zeros."""
    if handle.driver != "ENVI" or not handle.files or not Path(handle.files[0]).is_file():
        return
    from numpy import dtype

    wanted = handle.width * handle.height * sum(dtype(kind).itemsize for kind in handle.dtypes)
    there = Path(handle.files[0]).stat().st_size
    if there < wanted and handle.tags(ns="ENVI").get("file_compression", "0") == "0":
        raise OSError(f"{handle.files[0]} has {there} bytes of {wanted}")

"""Colour of 16 bits a sample: as stored, whatever the order of its bytes, planes and strips."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from crater_ray.images import grey, pixels

LIMIT = 1_000_000
HEIGHT, WIDTH = 40, 64
_TYPES = {"H": 3, "I": 4}


def camera(bands: int = 3) -> np.ndarray:
    """A 12-bit camera's samples in 16 bits, whose low bytes matter."""
    return np.random.default_rng(3).integers(300, 3900, (HEIGHT, WIDTH, bands)).astype(np.uint16)


def stretched(samples: np.ndarray) -> np.ndarray:
    low, high = np.percentile(samples, (1, 99))
    return np.floor(np.clip((samples - low) / (high - low) * 255 + 0.5, 0, 255))


def png(samples: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    kind = {3: 2, 4: 6}[samples.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, kind, 0, 0, 0))
    key = chunk(b"tRNS", struct.pack(">HHH", *transparent)) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + head + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(
    samples: np.ndarray, order: str = "<", planar: bool = False, strips: int = 2, packed: bool = False
) -> bytes:
    """As of TIFF 6.0: uncompressed or deflated, samples of a pixel together or in planes of their own."""
    bands = samples.shape[2]
    layers = [samples[:, :, band] for band in range(bands)] if planar else [samples]
    bodies = [
        part.astype(f"{order}u2").tobytes() for layer in layers for part in np.array_split(layer, strips)
    ]
    bodies = [zlib.compress(body) for body in bodies] if packed else bodies
    starts = [8 + sum(map(len, bodies[:which])) for which in range(len(bodies))]
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [WIDTH]),
        (257, "I", [HEIGHT]),
        (258, "H", [16] * bands),
        (259, "H", [8 if packed else 1]),
        (262, "H", [2]),
        (273, "I", starts),
        (277, "H", [bands]),
        (278, "I", [HEIGHT // strips]),
        (279, "I", [len(body) for body in bodies]),
        (284, "H", [2 if planar else 1]),
        *([(338, "H", [2])] if bands == 4 else []),
    ]
    at = 8 + sum(map(len, bodies))
    extra_at, extra, entries = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, kind, values in tags:
        body = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(body) > 4:
            entry, extra = struct.pack(f"{order}I", extra_at + len(extra)), extra + body
        else:
            entry = body.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, _TYPES[kind], len(values)) + entry
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, at)
    table = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return start + b"".join(bodies) + table + extra


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("strips", [1, 2])
def test_a_tiff_is_stretched_between_percentiles_of_its_samples(
    order: str, planar: bool, strips: int
) -> None:
    samples = camera()
    content = tiff(samples, order, planar, strips)
    assert np.abs(pixels(content, LIMIT) - stretched(samples)).max() <= 1
    assert np.abs(grey(content, LIMIT) - samples.mean(axis=2)).max() < 0.01


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_deflated_tiff_is_too(order: str) -> None:
    samples = camera()
    assert np.abs(pixels(tiff(samples, order, packed=True), LIMIT) - stretched(samples)).max() <= 1


def test_deflated_planes_keep_the_high_bytes() -> None:
    samples = camera() << 4
    out = pixels(tiff(samples, planar=True, packed=True), LIMIT)
    assert np.abs(out - stretched(samples >> 8 << 8)).max() <= 1


@pytest.mark.parametrize("planar", [False, True])
def test_alpha_of_16_bits_is_laid_over_black_and_left_out_of_the_percentiles(planar: bool) -> None:
    samples = camera(4)
    samples[:, :, 3] = 65535
    samples[:5] = (65535, 65535, 65535, 0)
    for content in (tiff(samples, planar=planar), *([] if planar else [png(samples)])):
        out = pixels(content, LIMIT)
        assert (out[:5] == 0).all()
        assert np.abs(out[5:] - stretched(samples[5:, :, :3])).max() <= 1
        shown = grey(content, LIMIT)
        assert np.isnan(shown[:5]).all()
        assert np.abs(shown[5:] - samples[5:, :, :3].mean(axis=2)).max() < 0.01


def test_a_png_is_stretched_and_its_transparent_colour_is_black() -> None:
    samples = camera()
    assert np.abs(pixels(png(samples), LIMIT) - stretched(samples)).max() <= 1
    samples[3, 4] = (9000, 9001, 9002)
    out = pixels(png(samples, (9000, 9001, 9002)), LIMIT)
    rest = np.ones((HEIGHT, WIDTH), bool)
    rest[3, 4] = False
    assert (out[3, 4] == 0).all()
    low, high = np.percentile(samples[rest], (1, 99))
    expected = np.floor(np.clip((samples[rest] - low) / (high - low) * 255 + 0.5, 0, 255))
    assert np.abs(out[rest] - expected).max() <= 1


def test_one_colour_is_black_and_8_bits_stay_as_they_are() -> None:
    assert (pixels(tiff(np.full((HEIGHT, WIDTH, 3), 700, np.uint16)), LIMIT) == 0).all()
    array = np.random.default_rng(0).integers(90, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    assert np.array_equal(pixels(file.getvalue(), LIMIT), array)

"""TIFFs that are whole, but of samples that no decoder has a mode for, say what they hold."""

from __future__ import annotations

import struct

import pytest

from crater_ray.errors import BadImage
from crater_ray.images import pixels


def tiff(bits: int, samples: int, kind: int, method: int = 1, order: str = "<") -> bytes:
    size = 16 * 16 * bits // 8 * samples
    many = 8 + size  # where the bits of each sample stand
    tags = [
        (256, 3, 1, 16),
        (257, 3, 1, 16),
        (258, 3, samples, bits if samples == 1 else many),
        (259, 3, 1, method),
        (262, 3, 1, 2 if samples == 3 else 1),
        (273, 4, 1, 8),
        (277, 3, 1, samples),
        (278, 3, 1, 16),
        (279, 4, 1, size),
        (339, 3, 1, kind),
    ]
    spare = struct.pack(f"{order}{samples}H", *[bits] * samples)
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, type, count)
        + (
            struct.pack(f"{order}HH", value, 0)
            if type == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        for tag, type, count, value in tags
    )
    at = many + len(spare)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, at)
    return head + bytes(size) + spare + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("form", "told"),
    [
        ((64, 1, 3), "a TIFF of 1 × 64-bit float, which is not read"),
        ((32, 3, 3), "a TIFF of 3 × 32-bit float, which is not read"),
        ((16, 8, 1), "a TIFF of 8 × 16-bit integer, which is not read"),
        ((64, 1, 6), "a TIFF of 1 × 64-bit complex, which is not read"),
        ((8, 1, 1, 34887), "a TIFF of 1 × 8-bit integer, compressed by method 34887, which is not read"),
    ],
)
def test_a_form_that_is_not_read_is_named(order: str, form: tuple[int, ...], told: str) -> None:
    with pytest.raises(BadImage, match=told):
        pixels(tiff(*form, order=order), 1000)


def test_what_is_cut_is_truncated() -> None:
    whole = tiff(64, 1, 3)
    for end in (9, 100, len(whole) - 40):
        with pytest.raises(BadImage, match="truncated or corrupt TIFF"):
            pixels(whole[:end], 1000)

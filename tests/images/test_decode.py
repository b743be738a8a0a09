"""The pixels gate: what comes out is always (H, W, 3) uint8, what cannot be used says why."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from crater_ray.errors import BadImage
from crater_ray.images import pixels

LIMIT = 64_000_000


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(height: int = 24, width: int = 40, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is huge; its data are zeros."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(width + 1) * 64)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_same_pixels(format: str) -> None:
    array = noise()
    out = pixels(encoded(Image.fromarray(array), format), LIMIT)
    assert np.array_equal(out, array)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.flags.writeable


def test_a_window_is_what_a_file_of_it_alone_would_be() -> None:
    array = noise(60, 90)
    turn = Image.Exif()
    turn[0x0112] = 6
    turned = np.rot90(array, -1)
    window = (12, 20, 30, 24)
    for content, upright in (
        (array, array),
        (encoded(Image.fromarray(array), "PNG"), array),
        (encoded(Image.fromarray(array), "PNG", exif=turn), turned),
    ):
        assert np.array_equal(pixels(content, 30 * 24, window), upright[20:44, 12:42])
    deep = np.random.default_rng(0).integers(0, 60_000, (60, 90)).astype(np.uint16)
    alone = encoded(Image.fromarray(deep[20:44, 12:42].copy()), "TIFF")
    whole = encoded(Image.fromarray(deep), "TIFF")
    assert np.array_equal(pixels(whole, LIMIT, window), pixels(alone, LIMIT))
    with pytest.raises(BadImage, match="more than max_pixels = 99"):
        pixels(whole, 99, window)
    for outside in ((61, 0, 30, 9), (0, 52, 9, 9), (-1, 0, 9, 9), (0, 0, 0, 9)):
        with pytest.raises(BadImage, match=r"is not inside its 90 × 60 pixels; write x,y,width,height"):
            pixels(array, LIMIT, outside)


def test_photographs_in_boxes_are_decoded_upright() -> None:
    turn = Image.Exif()
    turn[0x0112] = 6  # shown turned by 90 degrees
    coarse = Image.fromarray(noise(6, 8)).resize((128, 96), Image.Resampling.BICUBIC)
    seen = np.asarray(coarse.transpose(Image.Transpose.ROTATE_270)).astype(int)
    heic = io.BytesIO()
    pillow_heif.from_pillow(coarse).save(heic, quality=95, exif=turn.tobytes())
    for content in (heic.getvalue(), encoded(coarse, "AVIF", quality=95, exif=turn)):
        out = pixels(content, LIMIT)
        assert out.shape == (128, 96, 3)
        assert np.abs(out - seen).mean() < 6
        with pytest.raises(BadImage, match="more than max_pixels = 99"):
            pixels(content, 99)
        with pytest.raises(BadImage, match=r"truncated or corrupt (HEIC|AVIF)"):
            pixels(content[: len(content) // 2], LIMIT)


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    content = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(64)
    with pytest.raises(BadImage, match=r"HEIC, which needs pillow-heif: pip install 'crater-ray\[heif\]'"):
        pixels(content, LIMIT)
    film = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64)
    with pytest.raises(BadImage, match="not an image"):
        pixels(film, LIMIT)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {}),
        ("GIF", {}),
    ],
)
def test_other_formats_open(format: str, options: dict) -> None:
    flat = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    out = pixels(encoded(Image.fromarray(flat), format, **options), LIMIT)
    assert out.shape == (32, 48, 3)
    assert np.abs(out.astype(int) - flat).max() <= 4


def test_grey_palette_bilevel_and_cmyk_become_rgb() -> None:
    grey = noise(16, 16, 1)[:, :, 0]
    assert (pixels(encoded(Image.fromarray(grey), "PNG"), LIMIT) == grey[:, :, None]).all()
    palette = Image.fromarray(noise(16, 16)).quantize(16)
    assert np.array_equal(pixels(encoded(palette, "PNG"), LIMIT), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(grey > 100)
    assert set(np.unique(pixels(encoded(bilevel, "PNG"), LIMIT))) == {0, 255}
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = pixels(encoded(cmyk, "JPEG", quality=95), LIMIT)[8, 8]
    assert red[0] > 240
    assert red[1:].max() < 15


def test_transparency_is_laid_over_black() -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, :8] = (255, 255, 255, 0)
    rgba[:, 8:] = (200, 100, 0, 255)
    out = pixels(encoded(Image.fromarray(rgba), "PNG"), LIMIT)
    assert (out[:, :8] == 0).all()
    assert (out[:, 8:] == (200, 100, 0)).all()
    assert (pixels(encoded(Image.new("LA", (16, 16), (200, 0)), "PNG"), LIMIT) == 0).all()


def test_a_palette_with_transparent_entries_warns_of_nothing() -> None:
    palette = Image.fromarray(noise(16, 16)).quantize(16)
    out = pixels(encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))), LIMIT)
    assert out.shape == (16, 16, 3)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_are_stretched_between_percentiles(format: str) -> None:
    samples = np.random.default_rng(1).integers(1000, 3000, (64, 64)).astype(np.uint16)
    samples[0, 0] = 65535  # one hot pixel must not make the rest black
    out = pixels(encoded(Image.fromarray(samples), format), LIMIT)
    low, high = np.percentile(samples, (1, 99))
    expected = np.floor(np.clip((samples.astype(float) - low) / (high - low) * 255 + 0.5, 0, 255))
    assert np.abs(out[:, :, 0].astype(int) - expected).max() <= 1
    assert out[:, :, 0].mean() > 100
    assert (out[:, :, 0] == out[:, :, 2]).all()


def test_float_samples_are_stretched_and_nan_is_refused() -> None:
    ramp = np.linspace(-2000.0, 5000.0, 32 * 32, dtype=np.float32).reshape(32, 32)
    out = pixels(encoded(Image.fromarray(ramp), "TIFF"), LIMIT)
    assert out.min() == 0
    assert out.max() == 255
    assert (np.diff(out[:, :, 0].reshape(-1).astype(int)) >= 0).all()
    ramp[3, 3] = np.nan
    with pytest.raises(BadImage, match="NaN"):
        pixels(encoded(Image.fromarray(ramp), "TIFF"), LIMIT)


def test_a_flat_16_bit_image_is_black() -> None:
    assert (pixels(encoded(Image.fromarray(np.full((16, 16), 700, np.uint16)), "PNG"), LIMIT) == 0).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_exif_orientation_is_applied_once(format: str, turn: int) -> None:
    array = noise(16, 24)
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array, -1),
        7: np.rot90(array.transpose(1, 0, 2), 2),
        8: np.rot90(array, 1),
    }[turn]
    assert np.array_equal(pixels(encoded(Image.fromarray(array), format, exif=exif), LIMIT), upright)


def test_broken_exif_leaves_the_pixels_and_warns_of_nothing(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01broken"
    path = tmp_path / "odd.jpg"
    path.write_bytes(encoded(Image.fromarray(noise()), "JPEG", exif=exif))
    # a fresh interpreter: pytest puts its own warning filters over the module's
    program = (
        "import sys, pathlib; from crater_ray.images import pixels; "
        "sys.stdout.write(str(pixels(pathlib.Path(sys.argv[1]).read_bytes(), 10**6).shape))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "default", "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("(24, 40, 3)", "")


def test_the_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert (pixels(data, LIMIT) == (255, 0, 0)).all(), format


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not an image at all", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not an image of a known format"),
        (b"\xff\xd8\xff" + b"\0" * 50, "truncated or corrupt JPEG"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not an image of a known format"),
        (None, "the reader gave NoneType"),
        ("text", "the reader gave str"),
    ],
)
def test_what_is_no_image_says_so(data: object, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        pixels(data, LIMIT)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PPM"])
def test_truncation_is_always_a_bad_image_with_a_stable_reason(format: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), format)
    for keep in (0.02, 0.3, 0.7):
        reasons = set()
        for _ in range(2):
            with pytest.raises(BadImage) as caught:
                pixels(data[: max(4, int(len(data) * keep))], LIMIT)
            reasons.add(caught.value.message)
        assert len(reasons) == 1
        assert "0x" not in reasons.pop()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000"])
def test_random_damage_gives_pixels_or_a_bad_image(format: str) -> None:
    data = encoded(Image.fromarray(noise(32, 32)), format)
    generator = np.random.default_rng(7)
    for _ in range(60):
        damaged = bytearray(data)
        for place in generator.integers(0, len(data), 5):
            damaged[place] = generator.integers(0, 256)
        try:
            out = pixels(bytes(damaged), 1_000_000)
        except BadImage:
            continue
        assert out.dtype == np.uint8
        assert out.shape[2] == 3


def test_a_png_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(BadImage, match="12000 × 12000 pixels, more than max_pixels = 64000000"):
        pixels(bomb(12000, 12000), LIMIT)
    with pytest.raises(BadImage, match="max_pixels"):  # beyond Pillow's own hard limit
        pixels(bomb(60000, 60000), LIMIT)
    assert len(bomb(12000, 12000)) < 10_000


def test_pillows_own_limit_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Image.open warns above it, fails above twice it
    for format in ("JPEG", "PNG", "BMP"):
        assert pixels(encoded(Image.new("L", (12, 12)), format), LIMIT).shape == (12, 12, 3)
        assert pixels(encoded(Image.new("L", (99, 99)), format), LIMIT).shape == (99, 99, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(BadImage, match="more pixels in one tile than Pillow decodes"):
        pixels(encoded(Image.new("L", (99, 99)), "TIFF"), LIMIT)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (7, 7)])
def test_slivers_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(BadImage, match="less than 8 × 8"):
        pixels(encoded(Image.new("L", size), "PNG"), LIMIT)
    with pytest.raises(BadImage, match="less than 8 × 8"):
        pixels(np.zeros(size, np.uint8), LIMIT)


def test_arrays_pass_or_say_why_not() -> None:
    array = noise()
    assert np.array_equal(pixels(array, LIMIT), array)
    assert np.array_equal(pixels(array[:, :, 0], LIMIT), np.repeat(array[:, :, :1], 3, 2))
    assert np.array_equal(pixels(array[:, :, :1], LIMIT), np.repeat(array[:, :, :1], 3, 2))
    flipped = pixels(array[::-1], LIMIT)
    assert flipped.flags.c_contiguous
    frozen = array.copy()
    frozen.setflags(write=False)
    assert pixels(frozen, LIMIT).flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        np.full((16, 16), np.nan),
        np.zeros((16, 16), np.float32),
        np.zeros((16, 16), bool),
        np.zeros((16, 16), np.uint16),
        np.zeros((16, 16, 4), np.uint8),
        np.zeros((16,), np.uint8),
        np.zeros((2, 16, 16, 3), np.uint8),
        np.zeros((0, 16), np.uint8),
    ],
)
def test_other_arrays_are_bad_images(array: np.ndarray) -> None:
    with pytest.raises(BadImage):
        pixels(array, LIMIT)


def test_an_array_over_the_limit_is_refused() -> None:
    with pytest.raises(BadImage, match="max_pixels = 100"):
        pixels(np.zeros((16, 16), np.uint8), 100)


def test_many_threads_agree() -> None:
    data = [encoded(Image.fromarray(noise(40, 40, seed=seed)), "JPEG") for seed in range(8)]
    alone = [pixels(one, LIMIT) for one in data]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(
                number
                for number, one in enumerate(data)
                if not np.array_equal(pixels(one, LIMIT), alone[number])
            )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.real
def test_real_photographs_open() -> None:
    root = Path(os.environ.get("CRATER_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))
    photos = sorted((root / "sfm" / "boruszyn" / "images").glob("*.jpg"))[:3]
    if not photos:
        pytest.skip(f"no photographs below {root} (set CRATER_RAY_DATA)")
    for photo in photos:
        with Image.open(photo) as image:
            size = image.size
        out = pixels(photo.read_bytes(), LIMIT)
        assert sorted(out.shape[:2]) == sorted(size)

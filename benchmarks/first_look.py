"""The Moon bench of first_look.csv: what each representation is worth, near the gallery's sun and any."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from table import Report, arguments, show

from crater_ray.bench import evaluate
from crater_ray.config import Job, load_job
from crater_ray.jobs.cluster import cluster
from crater_ray.jobs.index import run

HERE = Path(__file__).resolve().parent
MOON = Path(os.environ.get("CRATER_RAY_DATA", HERE.parents[1] / "shared" / "data")) / "moon"
EXPECTED = {  # mAP near and any, as first measured: to be met within 0.015
    "cls": (0.187, 0.084),
    "mean of patch tokens": (0.177, 0.074),
    "K = 16 instance tokens": (0.237, 0.102),
    "K = 64 instance tokens": (0.292, 0.130),
    "two stages, cls, S = 50, K = 64": (0.255, 0.113),
    "two stages, cls, S = 100, K = 64": (0.267, 0.118),
    "all 256 tokens, every 4th query": (0.271, 0.125),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--keep", type=Path, help="keep tokens and indexes here, and use what is there")
    options = parser.parse_args()
    if not MOON.is_dir():
        sys.exit(f"{MOON} is absent: set CRATER_RAY_DATA to the folder that holds moon/")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        rows = measure((options.keep or Path(folder)).resolve(), options.threads)
    off = max(
        abs(rows[name][sun][0] - expected)
        for name, both in EXPECTED.items()
        for sun, expected in zip(("near", "any"), both, strict=True)
    )
    table = [
        (
            name,
            *(f"{row[sun][0]:.3f} / {row[sun][1]:.3f}" for sun in ("near", "any")),
            "{:.3f} / {:.3f}".format(*EXPECTED[name]) if name in EXPECTED else "",
            f"{row['bytes']:,.0f}",
        )
        for name, row in rows.items()
    ]
    keys = {f"{sun}: {name}": row[sun][0] for name, row in rows.items() for sun in ("near", "any")}
    columns = (
        "representation",
        "near: mAP / hit@1",
        "any: mAP / hit@1",
        "first look: near / any mAP",
        "bytes/image",
    )
    note = (
        "1,500 craters, 3,000 gallery views, 1,500 queries under each sun, own-crater relevance; frozen "
        f"DINOv2 ViT-S/14 at 224 px, bf16, int8 tokens. Largest difference from the first look: {off:.3f} mAP"
    )
    show(
        Report("First look at the Moon", columns, table, {**keys, "largest_difference": off}, {}, (note,)),
        options,
        **{name: version(name) for name in ("torch", "timm", "faiss-cpu")},
    )


def measure(root: Path, threads: int) -> dict[str, dict[str, Any]]:
    sample = every_fourth(root / "every_fourth.csv")
    k64, everything = {"name": "instance_tokens", "k": 64}, {"name": "all"}
    plans: dict[str, tuple[str, dict[str, Any], Path, dict[str, Any]]] = {
        "cls": ("cls", {"name": "cls"}, MOON / "first_look.csv", {}),
        "mean of patch tokens": ("mean", {"name": "mean"}, MOON / "first_look.csv", {}),
        "K = 16 instance tokens": ("k16", {**k64, "k": 16}, MOON / "first_look.csv", {}),
        "K = 64 instance tokens": ("k64", k64, MOON / "first_look.csv", {}),
        "two stages, cls, S = 50, K = 64": ("k64", k64, MOON / "first_look.csv", two_stages(50)),
        "two stages, cls, S = 100, K = 64": ("k64", k64, MOON / "first_look.csv", two_stages(100)),
        "two stages, cls whitened, S = 100, K = 64": (
            "k64w",
            k64,
            MOON / "first_look.csv",
            two_stages(100),
        ),
        "all 256 tokens, every 4th query": ("all", everything, sample, {}),
    }
    rows: dict[str, dict[str, Any]] = {}
    job = write_job(root, "k64", k64, MOON / "first_look.csv", "near", threads)
    with cluster(job.cluster):  # one for all the jobs
        for name, (out, rerank, poses, how) in plans.items():
            print(name, file=sys.stderr)
            found: dict[str, Any] = {}
            for sun in ("near", "any"):
                job = write_job(root, out, rerank, poses, sun, threads)
                run(job)
                report = evaluate.run(job, **how)
                found[sun] = (report.means["image_map"], report.means["hit@1"])
                found["bytes"] = report.bytes_per_image["total"]
            rows[name] = found
    return rows


def two_stages(candidates: int) -> dict[str, Any]:
    return {"mode": "shortlist", "candidates": candidates}


def write_job(root: Path, out: str, rerank: Mapping[str, Any], poses: Path, sun: str, threads: int) -> Job:
    def reader(table: str, role: str, poses: Path) -> str:
        return (
            f'[{table}]\nname = "mosaic"\nkind = "dem"\nbody = "moon"\nco_visible = false\n'
            f'raster = "{MOON / "moon_gld100_64ppd_50s50n.tif"}"\nposes = "{poses}"\nrole = "{role}"\n'
            f'catalogue = "{MOON / "moon_craters_head_povilaitis.csv"}"\npreset = "head_povilaitis"\n'
        )

    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{out}.{sun}.toml"
    tokens = "".join(f"{key} = {value!r}\n" for key, value in rerank.items()).replace("'", '"')
    path.write_text(
        f'out = "{out}"\n{reader("reader", "gallery", MOON / "first_look.csv")}'
        f"{reader('queries', sun, poses)}"
        f'[shortlist]\nname = "cls"\nwhiten = {str(out == "k64w").lower()}\n'
        f'[backbone]\nname = "dinov2_offline"\ncache = "tokens"\n[rerank]\n{tokens}'
        f"[cluster]\nencoders = 1\nthreads = {threads}\n"
    )
    return load_job(path)


def every_fourth(path: Path) -> Path:
    """The poses with every 4th query of each sun."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (MOON / "first_look.csv").open(newline="") as source, path.open("w", newline="") as target:
        rows = list(csv.DictReader(source))
        kept = [row for role in ("near", "any") for row in [r for r in rows if r["role"] == role][::4]]
        writer = csv.DictWriter(target, rows[0])
        writer.writeheader()
        writer.writerows(kept)
    return path


if __name__ == "__main__":
    main()

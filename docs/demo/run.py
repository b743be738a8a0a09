"""`make demo`: index real planets, evaluate both ways, draw what was found, say how to explore it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from maps import make_maps

HERE = Path(__file__).resolve().parent
JOB = HERE / "job.toml"
OUT = HERE.parents[1] / "demo"
SHEET = OUT / "sheet.png"


def crater_ray(*arguments: str) -> dict:
    """One command of crater-ray; its JSON."""
    shown = " ".join(str(Path(a).relative_to(Path.cwd())) if Path(a).is_absolute() else a for a in arguments)
    print(f"\n$ crater-ray {shown}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "crater_ray.cli", *arguments, "--json"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def main() -> None:
    start = time.monotonic()
    OUT.mkdir(exist_ok=True)
    indexed = crater_ray("index", str(JOB))
    print(
        f"{indexed['rows']} views of real craters in {indexed['parts']} parts; "
        f"{indexed['encoded']} encoded in {indexed['seconds']:.0f} s"
    )
    exact = crater_ray("evaluate", str(JOB))
    staged = crater_ray(
        "evaluate", str(JOB), "--mode", "shortlist", "--candidates", "100", "--sheet", str(SHEET)
    )
    columns = (
        "image_map",
        "id_map",
        "hit@1",
        "hit@10",
        "recall@10",
        "bytes_per_image",
        "seconds_per_query",
    )
    print(f"\n{'':<18}" + "".join(f"  {name:>7}" for name in columns))
    for name, report in (("exact", exact), ("shortlist, S = 100", staged)):
        numbers = "".join(
            f"  {report[column]:>{max(7, len(column))},.{0 if column == 'bytes_per_image' else 4}f}"
            for column in columns
        )
        print(f"{name:<18}{numbers}")
    print(
        f"\n{exact['queries']} queries against {exact['gallery']} views, {time.monotonic() - start:.0f} s. "
        f"Queries, hits and matched tokens: {SHEET.relative_to(Path.cwd())}"
    )
    make_maps(JOB)
    program, job = Path(sys.executable).with_name("crater-ray"), JOB.relative_to(Path.cwd())
    print(
        f"\nTo explore it, on maps of the bodies: {_short(program)} serve {job} --no-auth\n"
        "and open http://127.0.0.1:8000/ once that says it is ready."
    )


def _short(program: Path) -> Path:
    """As it is typed here."""
    return program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program


if __name__ == "__main__":
    main()

"""Regenerates docs/results.md: `python benchmarks/results.py [NAME …]` replaces the named sections."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

from table import machine

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "results.md"
PICTURES = RESULTS.parent / "pictures"
MOON20K = "benchmarks/moon20k.toml --sun any --sun near:queries.query_azimuth=[225.0,315.0]"
SMALL = "backbone.image_size=112;cluster.encoders=2"  # as the Moon's recipe trains
HELD_OUT = "queries.box=[60.0,-45.0,120.0,45.0];queries.max_diameter_km=300.0"
COMMANDS = {  # section: the command that prints it
    "embed": "benchmarks/embed.py",
    "embed_avx2": "benchmarks/embed.py --images 160 --rounds 1",
    "rerank_avx2": "benchmarks/rerank.py --rounds 5",
    "memory": "benchmarks/embed.py --memory --images 20000 --threads 2",
    "rerank": "benchmarks/rerank.py",
    "store": "benchmarks/store.py",
    "stages": "benchmarks/stages.py indexes/moon20k near=indexes/moon20k/queries@1 "
    "any=indexes/moon20k/queries@2 --queries 120",
    "stages_default": "benchmarks/stages.py indexes/moon20k-default near=indexes/moon20k-default/queries@1 "
    "any=indexes/moon20k-default/queries@2 --queries 120",
    "token_bytes": f"benchmarks/token_bytes.py {MOON20K}",
    "tokens_free": f"benchmarks/tokens_free.py {MOON20K} --queries 400 --ways 'whitened, farthest'",
    "any_sun": f"benchmarks/any_sun.py benchmarks/moon_box.toml --sun 'any:{SMALL}' "
    f"--sun 'near:queries.query_azimuth=[225.0,315.0];{SMALL}' "
    "--backbone adapted=artefacts/moon/model --trained-alone --threads 2",
    "optical": f"benchmarks/any_sun.py benchmarks/wac.toml --sun 'held out:{HELD_OUT};{SMALL}' "
    f"--sun 'held out, stretched:{HELD_OUT};queries.stretch=always;{SMALL}' "
    "--backbone adapted=artefacts/moon/model --backbone slopes=artefacts/optical/model "
    "--backbone wac=artefacts/optical_wac/model --threads 2",
    "ablations": "benchmarks/ablations.py --threads 2 --steps 160 --set backbone.image_size=112 "
    "--set loss.late_tokens=16 --set held_out.tokens=16 --figure docs/pictures/ablations.png",
    "serve": "benchmarks/serve.py indexes/moon20k",
    "chaos": "benchmarks/chaos.py indexes/moon20k",
    "soak": "benchmarks/soak.py indexes/moon20k",
    "faults": "benchmarks/faults.py",
    "nodes": "benchmarks/nodes.py",
    "scale": "benchmarks/scale.py",
    "scale_filters": "benchmarks/scale.py --filters 60000",
    "half": "benchmarks/half.py indexes/scale-1000000 indexes/scale-1000000-int4",
    "nearness": "benchmarks/nearness.py indexes/scale-real indexes/scale-20000 indexes/scale-100000",
    "plan": "benchmarks/planned.py",
    "first_look": "benchmarks/first_look.py --threads 2 --keep indexes/first_look",
    "colmap_retrieval": "benchmarks/colmap.py retrieval --threads 2 --keep indexes/sfm",
    "colmap_models": "benchmarks/colmap.py models --threads 2 --keep indexes/sfm",
    "dedup": "benchmarks/dedup.py --threads 2 --keep indexes/dedup",
    "analogues": "benchmarks/analogues.py indexes/moon20k-default",
    "match": "benchmarks/match.py indexes/moon_box-trained --scenes 40 --optical 30 --control 30 "
    "--keep indexes/match",
    "consumers": "benchmarks/consumers.py",
}

OTHER = "--axis pooling --axis falsifier --axis whitening"  # what is asked of other views and bodies
RELIEF = (
    "--set queries.kind=dem --set queries.raster=../../shared/data/moon/moon_gld100_64ppd_50s50n.tif "
    "--set queries.extent=[-180.0,-50.0,180.0,50.0]"
)
SWEEPS = {  # section: the job and options of `crater-ray bench tokens`, and the job's out
    "tokens_near": ("first_look.toml", "first_look-near"),
    "tokens_any": ("first_look.toml --set queries.role=any", "first_look-any"),
    "tokens_wac": (f"wac.toml {OTHER}", "wac53"),
    "tokens_relief": (f"wac.toml {RELIEF} {OTHER}", "relief53"),
    "tokens_planets": (f"planets.toml {OTHER}", "planets"),
}


def main() -> None:
    every = [*COMMANDS, *SWEEPS]
    names = sys.argv[1:] or every
    unknown = sorted(set(names) - set(every))
    if unknown:
        sys.exit(f"no section {unknown[0]!r}; there are: {', '.join(every)}")
    for name in names:
        if name in SWEEPS:
            sweep(name)
            continue
        print(f"{name}: python {COMMANDS[name]}", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, *shlex.split(COMMANDS[name]), "--markdown"],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{name} failed")
        replace(name, done.stdout.strip())


def sweep(name: str) -> None:
    """The section of a token sweep: its tables one heading lower, its figures beside them."""
    words, out = SWEEPS[name]
    command = f"crater-ray bench tokens benchmarks/{words} --set out=../indexes/{out}"
    print(f"{name}: {command}", file=sys.stderr)
    if subprocess.run(shlex.split(command), cwd=HERE.parent, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"{name} failed")
    folder = HERE.parent / "indexes" / out / "bench"
    lines = (folder / "tokens.md").read_text(encoding="utf-8").splitlines()[2:]  # without its title
    text = "\n".join(f"#{line}" if line.startswith("## ") else line for line in lines).strip()
    for figure in sorted(folder.glob("*.png")):
        kept = PICTURES / f"{name}-{figure.name}"
        kept.write_bytes(figure.read_bytes())
        text += f"\n\n![{figure.stem.replace('_', ' ')}](pictures/{kept.name})"
    told = machine()
    made = (
        f"{told['processor']}, {told['cores']} cores. torch {version('torch')}. {date.today()}. `{command}`"
    )
    replace(name, f"{text}\n\n{made}")


def replace(name: str, text: str) -> None:
    """Puts the text between the section's marks."""
    page = RESULTS.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(page):
        sys.exit(f"{RESULTS.name} has no marks <!-- {name} --> … <!-- /{name} -->")
    RESULTS.write_text(pattern.sub(lambda mark: f"{mark[1]}{text}\n{mark[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()

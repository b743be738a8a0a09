"""Regenerates tables of docs/benchmarks: `python benchmarks/results.py [NAME …]` replaces the named ones."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from table import footer

HERE = Path(__file__).resolve().parent
PAGES = HERE.parent / "docs" / "benchmarks"
PICTURES = PAGES.parent / "pictures"
SMALL = "backbone.image_size=112;cluster.encoders=2"  # as the Moon's recipe trains
HELD_OUT = "queries.box=[60.0,-45.0,120.0,45.0];queries.max_diameter_km=300.0"
COMMANDS = {  # table: the command that prints it
    "embed": "benchmarks/embed.py",
    "embed_avx2": "benchmarks/embed.py --images 160 --rounds 1",
    "rerank_avx2": "benchmarks/rerank.py --rounds 5",
    "memory": "benchmarks/embed.py --memory --images 20000 --threads 2",
    "rerank": "benchmarks/rerank.py",
    "busy": "benchmarks/busy.py --threads 2",
    "store": "benchmarks/store.py",
    "object_storage": "benchmarks/object_storage.py",
    "any_sun": f"benchmarks/any_sun.py benchmarks/moon_box.toml --sun 'any:{SMALL}' "
    f"--sun 'near:queries.query_azimuth=[225.0,315.0];{SMALL}' "
    "--backbone adapted=artefacts/moon/model --trained-alone --threads 2",
    "optical": f"benchmarks/any_sun.py benchmarks/wac.toml --sun 'held out:{HELD_OUT};{SMALL}' "
    f"--sun 'held out, stretched:{HELD_OUT};queries.stretch=always;{SMALL}' "
    "--backbone adapted=artefacts/moon/model --backbone slopes=artefacts/optical/model "
    "--backbone wac=artefacts/optical_wac/model --threads 2",
    "serve": "benchmarks/serve.py indexes/moon20k",
    "chaos": "benchmarks/chaos.py indexes/moon20k",
    "soak": "benchmarks/soak.py indexes/moon20k",
    "faults": "benchmarks/faults.py",
    "nodes": "benchmarks/nodes.py",
    "scale": "benchmarks/scale.py",
    "scale_filters": "benchmarks/scale.py --filters 60000",
    "half": "benchmarks/half.py indexes/scale-1000000 indexes/scale-1000000-int4",
    "colmap_retrieval": "benchmarks/colmap.py retrieval --threads 2 --keep indexes/sfm",
    "photographs": "benchmarks/photographs.py --threads 2 --keep indexes/photographs",
    "colmap_models": "benchmarks/colmap.py models --threads 2 --keep indexes/sfm",
    "dedup": "benchmarks/dedup.py --threads 2 --keep indexes/dedup",
    "analogues": "benchmarks/analogues.py indexes/moon20k-default",
    "match": "benchmarks/match.py indexes/moon_box-trained --scenes 40 --optical 30 --control 30 "
    "--keep indexes/match",
    "consumers": "benchmarks/consumers.py",
}

SWEEPS = {  # table: the job and options of `crater-ray bench tokens`, and the job's out
    "tokens_near": ("moon3k.toml", "moon3k-near"),
}


def main() -> None:
    every = [*COMMANDS, *SWEEPS]
    names = sys.argv[1:] or every
    unknown = sorted(set(names) - set(every))
    if unknown:
        sys.exit(f"no table {unknown[0]!r}; there are: {', '.join(every)}")
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
    """The tables of a token sweep: one heading lower, its figures beside them."""
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
        text += f"\n\n![{figure.stem.replace('_', ' ')}](../pictures/{kept.name})"
    replace(name, f"{text}\n\n{footer(command, torch=version('torch'))}")


def replace(name: str, text: str) -> None:
    """Puts the text between the table's marks, on whichever page has them."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    for page in PAGES.glob("*.md"):
        before = page.read_text(encoding="utf-8")
        if pattern.search(before):
            after = pattern.sub(lambda mark: f"{mark[1]}{text}\n{mark[2]}", before)
            page.write_text(after, encoding="utf-8")
            return
    sys.exit(f"no page in {PAGES} has marks <!-- {name} --> … <!-- /{name} -->")


if __name__ == "__main__":
    main()

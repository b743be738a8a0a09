"""`crater-ray bench backbones`: one vector an image of every backbone whose weights can be had."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from crater_ray.config import BackboneTable, Job, QueriesTable, ReaderTable, RerankTable, ShortlistTable
from crater_ray.encode.device import named
from crater_ray.errors import ConfigError, UserError
from crater_ray.evaluation.encoded import token_keys
from crater_ray.jobs.cluster import cluster
from crater_ray.plugins import registry
from crater_ray_craterbench.backbones_report import write
from crater_ray_craterbench.ledger import Ledger, check_folder
from crater_ray_craterbench.measure import measure, suite_of
from crater_ray_craterbench.paper import Backbone, Pooling, rows
from crater_ray_craterbench.sweep import Configuration, digest

POOLINGS: tuple[str, ...] = get_args(Pooling)
LARGEST = 400.0  # million parameters


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backbone to try: a row of the paper's list, a model by name, or the job's own."""

    name: str
    table: BackboneTable | None  # None: no weights are known
    reason: str = ""  # why it is not tried
    row: Backbone | None = None


@dataclass(frozen=True, slots=True)
class BackbonesReport:
    """Where the results are, and which backbones have one."""

    files: tuple[Path, ...]
    ran: tuple[str, ...]
    not_available: Mapping[str, str]  # name -> reason

    def as_dict(self) -> dict[str, Any]:
        files = [str(path) for path in self.files]
        return {"files": files, "ran": list(self.ran), "not_available": dict(self.not_available)}

    def as_text(self) -> str:
        lines = [f"{len(self.ran)} backbones ran, {len(self.not_available)} are not available here"]
        return "\n".join([*lines, *map(str, self.files)])


def folder_job(folder: Path, backbone: Mapping[str, Any] | None = None) -> Job:
    """A job over a folder in the CraterBench-R layout; ConfigError for one that is not there."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is neither a job file nor a folder in the CraterBench-R layout")
    layout = {"name": "craterbench", "root": str(folder.resolve())}
    table = BackboneTable.model_validate({"name": "timm", "model": rows()[0].timm, **(backbone or {})})
    gallery = ReaderTable.model_validate({**layout, "split": "gallery"})
    queries = QueriesTable.model_validate({**layout, "split": "query"})
    out = Path.cwd() / folder.resolve().name
    return Job(out=out, reader=gallery, queries=queries, backbone=table, path=folder.resolve())


def run(
    job: Job,
    *,
    own: bool = True,
    models: Sequence[str] = (),
    weights: Mapping[str, Path] | None = None,
    largest: float = LARGEST,
    queries: int | None = None,
    out: Path | None = None,
    device: str = "cpu",
    quiet: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> BackbonesReport:
    """mAP of cls, mean, max and gem with each backbone, measured once and kept; a table, a CSV, a figure.

    `own`: the job's backbone is one of them. models: rows of the list or timm names, all rows if none;
    weights: name -> a file of its weights. Results go to `out`, `<out of the job>-backbones` by default. A
    backbone whose weights cannot be had is reported with the reason. Raises as `bench tokens`.
    """
    job.queries_ref()
    named(device)
    check_folder(out or job.out)
    _check_weights(models, weights or {})
    root = out or job.out.with_name(f"{job.out.name}-backbones")
    ledger = Ledger(root, "backbones")
    missing: dict[str, str] = {}
    results: dict[str, dict[str, dict[str, Any]]] = {}
    listed: dict[str, Backbone | None] = {}
    with cluster(job.cluster):
        for one in _candidates(job, own, models, weights or {}, largest):
            if one.table is None:
                missing[one.name] = one.reason
                continue
            say(f"{one.name} …")
            try:
                results[one.name] = _poolings(job, one, root, ledger, queries, device, quiet)
                listed[one.name] = one.row
            except UserError as error:
                missing[one.name] = error.message
    return BackbonesReport(write(root, job, results, listed, missing, POOLINGS), tuple(results), missing)


def _check_weights(models: Sequence[str], weights: Mapping[str, Path]) -> None:
    """Raises ConfigError for weights of a backbone that `models` leave out."""
    rows_named = [row for row in rows() if {row.name, row.timm} & set(models)]
    taken = {*models, *(row.name for row in rows_named)}
    for name in weights:
        if models and name not in taken:
            raise ConfigError(f"--weights {name!r} are not used: no --model names it; add --model {name!r}")


def _candidates(
    job: Job, own: bool, models: Sequence[str], weights: Mapping[str, Path], largest: float
) -> Iterator[Candidate]:
    if own:
        yield Candidate(job.backbone.name, job.backbone)
    known = {row.name: row for row in rows()}
    by_timm = {row.timm: row for row in rows() if row.timm}
    for name in models or (*known, *(name for name in weights if name not in known)):
        row = known.get(name) or by_timm.get(name)
        file = weights.get(name) or (weights.get(row.name) if row else None)
        model = (row.timm or row.architecture) if row else name
        if row is not None and row.timm is None and file is None:
            yield Candidate(
                row.name, None, f"its weights are not published: give --weights '{name}=FILE'", row
            )
        elif row is not None and row.parameters > largest and name not in models:
            reason = f"{row.parameters:,.0f} million parameters are above --largest {largest:g}"
            yield Candidate(row.name, None, reason, row)
        else:
            options = {"name": "timm", "model": model, "weights": str(file.resolve()) if file else None}
            kept = {"batch": job.batch(), "precision": job.backbone.precision}
            table = BackboneTable.model_validate({**options, **kept})
            yield Candidate(row.name if row else name, table, "", row)


def _poolings(
    job: Job, one: Candidate, root: Path, ledger: Ledger, queries: int | None, device: str, quiet: bool
) -> dict[str, dict[str, Any]]:
    """Pooling -> its result, from the ledger or measured now."""
    folder = root / re.sub(r"[^A-Za-z0-9_.-]+", "-", one.name)
    pooled = {"shortlist": ShortlistTable(name="mean"), "rerank": RerankTable(name="mean")}
    assert one.table is not None  # else it is not tried
    table = one.table.model_copy(update={"cache": one.table.cache or folder / "tokens"})
    job = job.model_copy(update={**pooled, "out": folder, "backbone": table})
    backbone = registry().build(job.backbone_ref())  # says at once whether the weights can be had
    shape, weights = backbone.shape, str(backbone.digest)
    size = sum(p.numel() for p in backbone.parameters()) / 1e6 if hasattr(backbone, "parameters") else None
    del backbone
    names = [name for name in POOLINGS if name != "cls" or shape.cls]
    listed = [digest(token_keys(job, ref, weights)) for ref in (job.reader_ref(), job.queries_ref())]
    keys = {name: Configuration(name).key(*listed, queries) for name in names}
    if not all(key in ledger.results for key in keys.values()):
        suite, places = suite_of(job, queries, device, quiet)
        clusters = [item.group for item in suite.asked(places)]
        for name, key in keys.items():
            found = measure(suite, [Configuration(name)], places)[0]
            row = {
                "backbone": one.name,
                "pooling": name,
                "parameters": one.row.parameters if one.row else size,
                "gallery": len(suite.gallery.items),
                **found.row(clusters),
            }
            ledger.add(key, row, found.scores["image_ap"])
    if one.table.cache is None:
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes of tokens, whose results are kept
    return {name: ledger.results[key] for name, key in keys.items()}

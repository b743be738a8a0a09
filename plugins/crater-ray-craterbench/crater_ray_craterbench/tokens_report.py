"""The bench's results as Markdown, the protocol beside each table, and as one CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crater_ray.evaluation.metrics import Interval
from crater_ray.files import write_whole
from crater_ray_craterbench.results import Bench
from crater_ray_craterbench.sweep import Configuration

Result = dict[str, Any]
NONE = "–"
COLUMNS = (
    "axis", "aggregator", "options", "seeds", "assign", "scoring", "codec", "candidates", "k", "query_k",
    "dim", "bytes", "queries", "excluded", "image_map", "low", "high", "id_map", "hit@1", "hit@5", "hit@10",
    "recall@1", "recall@5", "recall@10", "seconds",
)  # fmt: skip


def write(bench: Bench) -> tuple[Path, Path]:
    """The paths of tokens.md and tokens.csv."""
    folder = bench.ledger.folder
    markdown, listed = folder / "tokens.md", folder / "tokens.csv"
    write_whole(markdown, as_markdown(bench).encode())
    write_whole(listed, as_csv(COLUMNS, _rows(bench)).encode())
    return markdown, listed


def as_csv(columns: Sequence[str], rows: Iterable[Result]) -> str:
    """The columns of the rows; what else a row holds is left out."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _rows(bench: Bench) -> Iterator[Result]:
    """One a configuration and axis."""
    for axis, members in bench.axes.items():
        for one in members:
            if (found := bench.find(one)) is not None:
                yield {**found, "axis": axis}


def as_markdown(bench: Bench) -> str:
    """Every axis that has a result."""
    have, axes = bench.have, bench.axes
    default = have.instance(have.k)
    pages = [f"# Tokens: {bench.job.out.name}", _protocol(bench)]

    def section(title: str, note: str, rows: str) -> None:
        if rows:
            pages.append(f"## {title}\n\n{note} {_short(bench)}\n\n{rows}")

    def listed(axis: str, name: Callable[[Configuration], str], first: str) -> str:
        members = [one for one in axes[axis] if bench.find(one) is not None]
        rows = [[name(one), *_numbers(bench, one, default)] for one in dict.fromkeys(members)]
        return table([first, "K", "bytes an image", "mAP", "hit@1", "hit@10", "− default"], rows)

    section(f"K = {have.k} against all tokens", "The paper's falsifier.", _falsifier(bench))
    section(
        "Pooling",
        "One vector an image, inner product.",
        listed("pooling", lambda one: one.aggregator, "pooling"),
    )
    section(
        "Selection",
        "Which patches are seeds; residual assignment. mAP by K.",
        _by_k(bench, "seeds", have.seeds, lambda name, k: have.instance(k, seeds=name))
        if axes["selection"]
        else "",
    )
    section(
        "Selection, raw",
        "The seeds alone, nothing assigned to them. mAP by K.",
        _by_k(bench, "seeds", have.seeds, lambda name, k: have.instance(k, seeds=name, assign="none"))
        if axes["raw selection"]
        else "",
    )
    section(
        "Assignment",
        f"What becomes of the other patches; {have.seeds[0]} seeds. mAP by K.",
        _by_k(bench, "assignment", have.assigns, lambda name, k: have.instance(k, assign=name))
        if axes["assignment"]
        else "",
    )
    section(
        "Whitened tokens",
        "Centred and evened out before they are chosen: seeds that lie farthest apart, residual assignment.",
        listed("whitening", lambda one: f"K = {one.flat()['k']}, {one.codec}", "tokens"),
    )
    section("Scoring", _around(bench), listed("scoring", lambda one: one.scoring, "scoring"))
    section(
        "Heads of the attention",
        _around(bench),
        listed("heads", lambda one: dict(one.options).get("heads", "mean"), "reduction"),
    )
    query_k = _query_by_gallery(bench) if axes["query k"] else ""
    section("Query K and gallery K", "mAP; rows: K of the query.", query_k)
    section("Codec", _around(bench), listed("codec", lambda one: one.codec, "codec"))
    section(
        "Two stages",
        f"Shortlist: {bench.suite.shortlist.name}, exact. S images have their tokens read.",
        _stages(bench),
    )
    for seeds in have.seeds if "grid" in axes else ():
        section(
            f"Grid: {seeds}",
            "mAP by K.",
            _by_k(
                bench,
                "assignment",
                have.assigns,
                lambda name, k, seeds=seeds: have.instance(k, seeds=seeds, assign=name),  # type: ignore[misc]
            ),
        )
    if bench.left_out:
        lines = [f"- {name}: {reason}" for name, reason in sorted(bench.left_out.items())]
        pages.append("## Left out\n\n" + "\n".join(lines))
    return "\n\n".join(pages) + "\n"


def _protocol(bench: Bench) -> str:
    suite, shape = bench.suite, bench.suite.gallery.shape
    backbone = bench.job.backbone_ref()
    model = backbone.options.get("model", "")
    groups = len({item.group for item in suite.gallery.items})
    few = (
        f" Figures marked † are of {len(bench.few)} of them, evenly spaced."
        if len(bench.few) < len(bench.places)
        else ""
    )
    return (
        f"Gallery: {len(suite.gallery.items)} images of {groups} groups. Queries: {len(bench.places)}"
        f" of {len(suite.queries.items)}, evenly spaced where not all.{few} Backbone: {backbone.name}"
        f"{f' {model}' if model else ''}, {shape.grid[0]} × {shape.grid[1]} tokens of {shape.dim},"
        f" {bench.job.backbone.precision}; its tokens were computed once. Relevant are the gallery images of"
        " the groups a query names. mAP is the plain mean of image AP over queries that have a relevant"
        " image; ± is half the 95 % bootstrap interval (2,000 samples), the queries of one group drawn"
        " together; differences are paired. Bytes an image count what every stage keeps. Around: "
        f"{bench.have.seeds[0]} seeds, residual assignment, MaxSim, fp16, K = {bench.have.k}, exact scan."
    )


def _short(bench: Bench) -> str:
    return f"({len(bench.places)} queries, {len(bench.suite.gallery.items)} gallery images.)"


def _around(bench: Bench) -> str:
    return f"{bench.have.seeds[0].capitalize()} seeds, K = {bench.have.k}."


def _numbers(bench: Bench, one: Configuration, default: Configuration) -> list[str]:
    found = bench.find(one)
    assert found is not None  # callers list what was found
    difference = bench.difference(one, default) if one != default else None
    return [
        str(found["k"]),
        f"{found['bytes']:,}",
        _map(found, one),
        f"{found['hit@1']:.3f}",
        f"{found['hit@10']:.3f}",
        _signed(difference) if difference else NONE,
    ]


def _map(found: Result | None, one: Configuration) -> str:
    if found is None:
        return NONE
    half = (found["high"] - found["low"]) / 2
    return f"{found['image_map']:.3f} ± {half:.3f}{'†' if one.few else ''}"


def _by_k(bench: Bench, what: str, names: Sequence[str], made: Callable[[str, int], Configuration]) -> str:
    rows = [[name, *(_cell(bench, made(name, k)) for k in bench.have.ks)] for name in names]
    rows = [row for row in rows if set(row[1:-1]) != {NONE}]  # K = T alone is shared by all
    return table([what, *(str(k) for k in bench.have.ks[:-1]), f"all {bench.have.total}"], rows)


def _cell(bench: Bench, one: Configuration) -> str:
    one = bench.planned(one)
    return _map(bench.find(one), one)


def _query_by_gallery(bench: Bench) -> str:
    have = bench.have
    ks = [k for k in (16, 64) if k < have.total] + [have.total]
    rows = [[str(q), *(_cell(bench, have.instance(k, query_k=q)) for k in ks)] for q in ks]
    return table(["query K", *(f"gallery {k}" for k in ks)], rows)


def _stages(bench: Bench) -> str:
    exact = bench.have.instance(bench.have.k)
    base = bench.find(exact)
    rows = []
    for one in bench.axes["stages"]:
        if base is None or (found := bench.find(one)) is None:
            continue
        lost = bench.difference(one, exact)
        rows.append(
            [
                str(one.candidates),
                f"{found['bytes']:,}",
                _map(found, one),
                f"{100 * found['image_map'] / base['image_map']:.1f} %" if base["image_map"] else NONE,
                _signed(lost) if lost else NONE,
            ]
        )
    if rows and base is not None:
        rows.append(["all (exact)", f"{base['bytes']:,}", _map(base, exact), "100 %", NONE])
    return table(["S", "bytes an image", "mAP", "of exact", "− exact"], rows)


def _falsifier(bench: Bench) -> str:
    have = bench.have
    some, every = have.instance(have.k), bench.planned(have.instance(have.total))
    lost = bench.difference(some, every)
    if lost is None or some == every:
        return ""
    return table(
        [f"mAP(K = {have.k})", f"mAP(all {have.total})", "difference"],
        [[_map(bench.find(some), some), _map(bench.find(every), every), _signed(lost)]],
    )


def _signed(difference: Interval) -> str:
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; nothing without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) if lines else ""

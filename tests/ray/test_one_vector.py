"""Mode shortlist-only: a ranking by one vector an image, against brute force in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import crater_ray
from crater_ray import Filter, open_index
from crater_ray.config import Job, NeighboursTable
from crater_ray.jobs.index import run
from crater_ray.retrieve import Index
from crater_ray.types import Hit

Make = Callable[..., Job]


def compared(index: Index, vectors: np.ndarray | None = None) -> np.ndarray:
    """(N, G') the unit vectors that the shortlist compares, in double precision: as kept, or whitened."""
    rows = (index.vectors() if vectors is None else vectors)[:, 0].astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)  # float16
    (segment,) = index.snapshot.segments
    if (learnt := index.snapshot.fitted(segment)) is None:
        return rows
    rows = (rows - learnt["centre"]) @ learnt["axes"].T.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def best(index: Index, scores: np.ndarray, top: int) -> list[tuple[str, float]]:
    """The best ids and their scores, ties by id, without rows of -inf."""
    order = sorted(np.flatnonzero(scores > -np.inf), key=lambda row: (-scores[row], index.ids[row]))
    return [(index.ids[row], pytest.approx(float(scores[row]), abs=1e-5)) for row in order[:top]]


def told(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in hits]


@pytest.fixture(params=["whitened", "plain"])
def by_vectors(request: pytest.FixtureRequest, job_here: Make) -> Index:
    """An index whose shortlist vectors are compared whitened, and one that compares them as they are."""
    job = job_here(request.param, shortlist={"whiten": request.param == "whitened"})
    run(job, quiet=True)
    return open_index(job.out)


def test_one_vector_alone_ranks_as_brute_force_does(by_vectors: Index) -> None:
    index, rows = by_vectors, compared(by_vectors)
    few = Filter(column="radius", max=9)
    for id in ("i00004", "i00033"):
        own = index.row(id)
        scores = rows @ rows[own]
        scores[own] = -np.inf
        assert told(index.search(id=id, top=40, mode="shortlist-only")) == best(index, scores, 40)
        assert told(index.search(id=id, top=3, mode="shortlist-only")) == best(index, scores, 3)
        passing = np.where(np.array(index.items(["radius"])["radius"]) <= 9, scores, -np.inf)
        found = index.search(id=id, top=5, mode="shortlist-only", filters=(few,))
        assert told(found) == best(index, passing, 5)
        assert [hit.rank for hit in found] == [1, 2, 3, 4, 5]
        assert all(not hit.explanation for hit in found)
    picture = index.image("i00007")
    hits = index.search(picture, top=40, mode="shortlist-only")
    (asked,) = compared(index, index.local.encode(picture).vectors)
    assert told(hits) == best(index, rows @ asked, 40)
    assert hits.described() == "shortlist-only, version 1"
    assert hits.show().width > 100  # a sheet on which nothing is joined


def test_first_hits_join_one_vector_and_each_image_scores_its_best(by_vectors: Index) -> None:
    index, rows = by_vectors, compared(by_vectors)
    own = index.row("i00004")
    scores = rows @ rows[own]
    scores[own] = -np.inf
    first, second = (index.row(id) for id, _ in best(index, scores, 2))
    joined = np.maximum.reduce([scores, rows @ rows[first], rows @ rows[second]])
    joined[own] = -np.inf
    for hit, other in ((first, second), (second, first)):  # which would match itself
        joined[hit] = max(scores[hit], rows[hit] @ rows[other])
    found = index.search(id="i00004", top=40, mode="shortlist-only", expand=2)
    assert told(found) == best(index, joined, 40)


@pytest.mark.ray
def test_neighbours_by_one_vector(job_here: Make, ray_cluster: str, tmp_path: Path) -> None:
    job = job_here().model_copy(update={"neighbours": NeighboursTable(top=3, mode="shortlist-only")})
    run(job, quiet=True)
    index = open_index(job.out)
    report = crater_ray.neighbours(job, tmp_path / "n.parquet", quiet=True)
    assert (report.request.mode, report.as_dict()["candidates"]) == ("shortlist-only", None)
    table = pq.read_table(report.out).to_pylist()
    for id in ("i00000", "i00021"):
        wanted = [hit.id for hit in index.search(id=id, top=3, mode="shortlist-only")]
        assert [row["id"] for row in table if row["query_id"] == id] == wanted


def test_an_evaluation_by_one_vector_counts_its_bytes(job_here: Make, tmp_path: Path) -> None:
    job = job_here()
    scored = crater_ray.evaluate(job, mode="shortlist-only", sheet=tmp_path / "sheet.png", quiet=True)
    whole = crater_ray.evaluate(job, quiet=True)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert {"codes", "scales"} == whole.bytes_per_image.keys() - scored.bytes_per_image.keys()
    stages = [size for stage, size in scored.bytes_per_image.items() if stage != "total"]
    assert scored.as_dict()["bytes_per_image"] == pytest.approx(sum(stages))
    assert scored.as_text().startswith("shortlist-only: 20 queries against 40 images")

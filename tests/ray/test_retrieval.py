"""What comes out of an index: ranks, explanations, filters, scores, neighbours, consumers."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow.parquet as pq
import pytest
from ir_measures import AP, Success
from pyarrow.dataset import Dataset

import crater_ray
from crater_ray import Filter, embed, open_index
from crater_ray.builtin.pairs import Pairs
from crater_ray.cli import main
from crater_ray.config import Job, NeighboursTable
from crater_ray.errors import ConfigError, IndexMismatch, QueryError, UserError
from crater_ray.evaluation import evaluate
from crater_ray.jobs import consume, neighbours
from crater_ray.jobs.index import run
from crater_ray.plugins import Index as IndexProtocol
from crater_ray.plugins import Registry, registry
from crater_ray.request import SearchRequest
from crater_ray.retrieve import Index
from crater_ray.search.codecs import Fp16
from crater_ray.serve.encoder import QueryEncoder
from crater_ray.shard import Queries
from crater_ray.types import MODES

pytestmark = pytest.mark.ray
Make = Callable[..., Job]


@pytest.fixture(scope="module")
def indexed(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job whose index is made once for this file."""
    from crater_ray.config import load_job

    path = tmp_path_factory.mktemp("retrieval") / "job.toml"
    path.write_text(
        'out = "index"\n[reader]\nname = "disks"\n'
        '[queries]\nname = "disks"\nitems = 20\n[backbone]\nname = "fake"\n'
        '[shortlist]\nname = "mean"\n[rerank]\nname = "instance_tokens"\nk = 6\ncodec = "fp16"\n'
        "[cluster]\nencoders = 1\ncpus_per_encoder = 0.5\nthreads = 1\n"
    )
    job = load_job(path)
    run(job, quiet=True)
    return job


@pytest.fixture
def index(indexed: Job) -> Index:
    return open_index(indexed.out)


def brute(query: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(N,) mean over query tokens of the best of each image's tokens (s_LI, CraterBench-R), slowly."""
    return np.array([np.mean([max(float(q @ g) for g in image) for q in query]) for image in tokens])


def test_an_exhaustive_search_is_brute_force(index: Index) -> None:
    _, tokens = index.stored(np.arange(len(index)))
    for id in ("i00004", "i00033"):
        row = index.row(id)
        expected = brute(tokens[row], tokens)
        hits = index.search(id=id, top=39, mode="exact")
        assert [hit.rank for hit in hits] == list(range(1, 40))
        assert id not in {hit.id for hit in hits}
        rows = [index.row(hit.id) for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], expected[rows], atol=1e-5)
        assert all(a.score > b.score or a.id < b.id for a, b in itertools.pairwise(hits))
        np.testing.assert_allclose(index.score([(id, hit.id) for hit in hits]), expected[rows], atol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "shortlist"])
def test_an_expanded_query_is_asked_again_with_its_first_hits(
    index: Index, indexed: Job, mode: str, tmp_path: Path
) -> None:
    _, tokens = index.stored(np.arange(len(index)))
    deep = {} if mode == "exact" else {"candidates": 39}
    asked = {"top": 39, "mode": mode, **deep}
    for id in ("i00004", "i00033"):
        row = index.row(id)
        first, second = firsts = [index.row(hit.id) for hit in index.search(id=id, **asked)[:2]]
        expected = brute(np.concatenate([tokens[row], *tokens[firsts]]), tokens)
        for hit, other in ((first, second), (second, first)):  # which would match itself
            expected[hit] = brute(np.concatenate([tokens[row], tokens[other]]), tokens[[hit]])[0]
        hits = index.search(id=id, **asked, expand=2, explain=True)
        rows = [index.row(hit.id) for hit in hits]
        assert sorted([row, *rows]) == list(range(40))
        np.testing.assert_allclose([hit.score for hit in hits], expected[rows], atol=1e-5)
        assert all(a.score > b.score or a.id < b.id for a, b in itertools.pairwise(hits))
        assert {len(hit.explanation) for hit in hits} == {6}  # of the query's own tokens
        [alone] = [hit for hit in index.search(id=id, **asked, expand=1) if index.row(hit.id) == first]
        assert alone.score == pytest.approx(index.search(id=id, **asked)[0].score, abs=1e-6)
    request = SearchRequest(top=3, mode=mode, expand=1, **deep)
    neighbours.run(index.root, request, tmp_path / "n.parquet", indexed.cluster, quiet=True)
    found = pq.read_table(tmp_path / "n.parquet").to_pylist()
    for id in ("i00000", "i00021"):
        listed = [line["id"] for line in found if line["query_id"] == id]
        assert listed == [hit.id for hit in index.search(id=id, top=3, mode=mode, expand=1, **deep)]
    where = {"index": {"name": "index", "version": 1}}
    assert neighbours.asked(tmp_path / "n.parquet") == {**request.described(), **where}


@pytest.mark.parametrize("name", ["n.csv", "n.foo", "n"])
def test_a_table_is_not_parquet_under_another_format_s_name(
    index: Index, indexed: Job, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UserError, match=r"is written as Parquet; name a \.parquet file"):
        neighbours.run(index.root, SearchRequest(), tmp_path / name, indexed.cluster, quiet=True)
    assert not list(tmp_path.iterdir())


def test_tokens_of_another_codec_s_version_are_refused(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fp16, "algorithm_version", 2)
    with pytest.raises(
        IndexMismatch, match=r"its tokens by fp16 of algorithm version 1, and here is 2; install"
    ):
        index.search(id="i00004", mode="exact")


def test_a_query_image_finds_itself_and_says_which_tokens_matched(index: Index, indexed: Job) -> None:
    picture = index.image("i00007")
    vectors, tokens = embed(indexed, [picture], side="query")
    hits = index.search(picture, top=3, mode="exact", explain=True)
    assert "i00007" in {hit.id for hit in hits[:2]}  # two views of a crater differ by noise only
    assert hits[0].score == pytest.approx(1, abs=2e-3)
    assert {hit.group for hit in hits[:2]} == {"c00003"}
    explanation = hits[0].explanation
    assert len(explanation) == tokens.shape[1]
    assert np.mean([pair.similarity for pair in explanation]) == pytest.approx(hits[0].score, abs=1e-4)
    assert all(a.similarity >= b.similarity for a, b in itertools.pairwise(explanation))
    assert vectors.shape == (1, 1, 16)


def test_a_mask_is_applied_inside_both_modes(index: Index) -> None:
    allowed = np.zeros(len(index), bool)
    allowed[:5] = True
    vectors, tokens = index.stored(np.array([index.row("i00030")]))
    for mode in ("exact", "shortlist"):
        queries = Queries(vectors, tokens, mask=allowed)
        hits = index.local.answer(queries, SearchRequest(top=10, mode=mode))
        assert sorted(hit.id for hit in hits) == sorted(index.ids[:5])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"id": "nobody"}, "nobody"),
        ({}, "one image or one id"),
        ({"id": "i00000", "top": 0}, "1 or more"),
        ({"id": "i00000", "mode": "guess"}, "guess"),
        ({"id": "i00000", "expand": -1}, "0 to 100"),
        ({"id": "i00000", "mode": "exact", "candidates": 30}, "mode exact scores every image"),
        ({"id": "i00000", "mode": "shortlist-only", "explain": True}, "no pairs of tokens make up its"),
        ({"image": b""}, "cannot be used"),
        ({"image": b"\xff\xd8\xff\xe0 half a picture"}, "cannot be used"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(index: Index, asked: dict, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        index.search(**asked)


@pytest.mark.parametrize("mode", MODES)
def test_more_hits_than_there_are_images_cost_no_more_than_all(index: Index, mode: str) -> None:
    """A shortlist of 10^12 would not fit into memory."""
    every = index.search(id="i00000", top=len(index), mode=mode)
    deep = {"candidates": 10**12} if mode == "shortlist" else {}
    assert list(index.search(id="i00000", top=10**12, mode=mode, **deep)) == list(every)


def test_it_is_what_consumers_are_promised(index: Index) -> None:
    assert isinstance(index, IndexProtocol)
    assert index.items(["id", "radius"]).column_names == ["id", "radius"]
    assert index.vectors().shape == (40, 1, 16)


def test_an_outside_tool_scores_the_run_to_evaluates_own_map(
    indexed: Job, here: None, tmp_path: Path
) -> None:
    for mode, candidates in (("exact", None), ("shortlist", 5), ("shortlist-only", None)):
        report = evaluate.run(
            indexed,
            SearchRequest(mode=mode, candidates=candidates),
            run_file=tmp_path / "run",
            qrels=tmp_path / "qrels",
            quiet=True,
        )
        outside = ir_measures.calc_aggregate(
            [AP, Success @ 1],
            list(ir_measures.read_trec_qrels(str(tmp_path / "qrels"))),
            list(ir_measures.read_trec_run(str(tmp_path / "run"))),
        )
        assert report.means["image_map"] == pytest.approx(outside[AP], abs=1e-6)
        assert report.means["hit@1"] == pytest.approx(outside[Success @ 1], abs=1e-6)
        assert (report.queries, report.own, report.namesakes, report.version) == (20, 20, 0, 1)
        assert set(report.as_dict()) >= {"image_map", "id_map", "hit@5", "recall@10", "bytes_per_image"}
        json.dumps(report.as_dict(), allow_nan=False)
        assert "seconds a query" in report.as_text()


def test_depth_cuts_the_ranking_and_what_lies_below_counts_zero(indexed: Job, here: None) -> None:
    whole = evaluate.run(indexed, quiet=True).means
    one = evaluate.run(indexed, depth=1, quiet=True).means
    assert one["hit@1"] == whole["hit@1"]
    assert one["hit@10"] == one["hit@1"]
    assert one["image_map"] == pytest.approx(one["hit@1"])  # the other view of a crater; a query is none


def test_evaluate_before_index_and_without_queries(job_here: Make) -> None:
    assert (
        evaluate.run(job_here("fresh", reader={"items": 10}, queries={"items": 4}), quiet=True).gallery == 10
    )
    job = job_here("bare").model_copy(update={"queries": None})
    with pytest.raises(ConfigError, match="queries"):
        evaluate.run(job, quiet=True)


def test_queries_of_another_catalogue_are_an_error_and_not_a_nan(job_here: Make) -> None:
    job = job_here(queries={"step": 1000, "items": 10}, reader={"items": 10})
    run(job, quiet=True)
    with pytest.raises(ConfigError, match="no query"):
        evaluate.run(job, quiet=True)


def test_neighbours_are_those_of_a_search_and_never_oneself(
    indexed: Job, index: Index, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "table.parquet"
    report = crater_ray.neighbours(indexed, out, top=3, mode="exact", quiet=True)
    table = pq.read_table(out).to_pylist()
    assert (report.rows, report.items, report.as_dict()["mode"]) == (len(table), 40, "exact")
    assert len(table) == 40 * 3
    for id in ("i00000", "i00039"):
        expected = [(hit.rank, hit.id) for hit in index.search(id=id, top=3, mode="exact")]
        assert [(row["rank"], row["id"]) for row in table if row["query_id"] == id] == expected


def test_neighbours_among_the_items_that_pass(indexed: Job, index: Index) -> None:
    few = Filter(column="radius", max=9)
    report = crater_ray.neighbours(indexed, top=3, filters=(few,), quiet=True)
    assert report.out.parent == indexed.out / "neighbours"
    table = pq.read_table(report.out).to_pylist()
    ids = {f"i{number:05d}" for number in range(10)}
    assert {row["query_id"] for row in table} == ids
    assert {row["id"] for row in table} <= ids
    assert (report.items, report.rows) == (10, 30)
    expected = [hit.id for hit in index.search(id="i00003", top=3, filters=(few,))]
    assert [row["id"] for row in table if row["query_id"] == "i00003"] == expected
    with pytest.raises(QueryError, match=r"no item of .* passes: shortlist, 200 candidates, radius>=900"):
        crater_ray.neighbours(indexed, filters=(Filter(column="radius", min=900),), quiet=True)
    narrowed = indexed.model_copy(
        update={"neighbours": NeighboursTable(top=3, filters=(few,)), "consume": {"pairs": {"top": 3}}}
    )
    assert consume.run("pairs", narrowed, quiet=True).read_text().count("\n") <= 30


def test_evaluation_against_the_images_that_pass(indexed: Job, here: None, tmp_path: Path) -> None:
    """Queries whose crater is filtered away do not count; the others have fewer to be mistaken for."""
    few = Filter(column="radius", max=9)
    report = crater_ray.evaluate(indexed, filters=(few,), qrels=tmp_path / "qrels.txt", quiet=True)
    assert (report.gallery, report.queries, report.without_relevant) == (10, 10, 10)
    assert report.as_dict()["filters"] == [{"column": "radius", "max": 9.0}]
    assert report.means["hit@1"] >= crater_ray.evaluate(indexed, quiet=True).means["hit@1"]
    judged = {line.split()[2] for line in (tmp_path / "qrels.txt").read_text().splitlines()}
    assert judged <= {f"i{number:05d}" for number in range(10)}
    with pytest.raises(QueryError, match=r"no image of .* passes"):
        crater_ray.evaluate(indexed, filters=(Filter(column="radius", min=900),), quiet=True)


def test_a_job_is_a_file_or_a_dict(job_here: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_here("file", reader={"items": 12}, queries={"items": 4})
    report = crater_ray.build_index(job.path, quiet=True)
    assert (report.rows, report.version, report.out) == (12, 1, str(job.out))
    monkeypatch.chdir(tmp_path)
    with open(job.path, "rb") as file:
        tables = tomllib.load(file)
    again = crater_ray.build_index({**tables, "out": Path("other")}, quiet=True)
    assert again.out == str(tmp_path / "other")
    assert crater_ray.open_index("other").ids == crater_ray.open_index("file").ids
    told = crater_ray.evaluate({**tables, "out": "other"}, run="run.txt", qrels="qrels.txt", quiet=True)
    assert told.request.mode == "exact"
    assert Path("run.txt").is_file()
    assert Path("qrels.txt").is_file()
    with pytest.raises(TypeError, match="the path of its file, not 5"):
        crater_ray.build_index(5, quiet=True)
    tables["reader"]["itmes"] = 3
    with pytest.raises(
        ConfigError, match=r"\[reader\] in the job 'disks': unknown option 'itmes'; did you mean 'items'"
    ):
        crater_ray.build_index(tables, quiet=True)


def test_every_road_from_a_file_gives_the_indexed_rows(indexed: Job, index: Index) -> None:
    """The index job, a query, the service and embed: the same bytes of the same image."""
    row = index.row("i00003")
    stored = index.vectors()[row], index.snapshot.gather(np.array([row]))
    reader = registry().build(indexed.reader_ref())
    uri = index.items(["uri"])["uri"][row].as_py()
    image = reader.load(uri)
    (served,) = QueryEncoder(indexed.out, threads=1).encode([image], [True])
    assert not isinstance(served, QueryError)
    encoded = index.local.encode(image)
    vectors, tokens = embed(indexed, [image], side="query")
    for found_vectors, found_tokens in (
        (encoded.vectors, encoded.tokens),
        (served.vectors[None], served.tokens[None]),
        (vectors, tokens),
    ):
        assert np.array_equal(found_vectors[0], stored[0])
        codes, scales = index.codec.encode(found_tokens)
        assert np.array_equal(codes, stored[1][0])
        assert np.array_equal(scales, stored[1][1])


def test_a_consumer_gets_the_index_and_its_neighbours(indexed: Job) -> None:
    written = consume.run("pairs", indexed, quiet=True)
    lines = written.read_text().splitlines()
    assert ["i00000", "i00001"] in [line.split() for line in lines]
    assert len(set(lines)) == len(lines)


def test_a_consumer_that_reads_no_neighbours_costs_no_table(
    indexed: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def count(self: Pairs, index: object, neighbours: Dataset, out: Path) -> Path:
        given.append(neighbours.count_rows())
        return out

    spec = replace(registry().find("consumer", "pairs").spec, reads_neighbours=False)
    monkeypatch.setattr(Registry, "spec", lambda self, ref: spec)
    monkeypatch.setattr(Pairs, "__call__", count)
    job = indexed.model_copy(update={"neighbours": NeighboursTable(top=2)})  # of which there is no table yet
    before = sorted((job.out / "neighbours").glob("*"))
    consume.run("pairs", job, quiet=True)
    assert given == [0]
    assert sorted((job.out / "neighbours").glob("*")) == before


def test_the_query_command_answers_files_and_ids_and_draws(
    indexed: Job, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    photo = tmp_path / "photo.png"
    Image.fromarray(index.image("i00010")).save(photo)
    sheet = tmp_path / "sheet.png"
    arguments = [
        "query",
        str(indexed.out),
        str(photo),
        "--id",
        "i00020",
        "--top",
        "2",
        "--sheet",
        str(sheet),
        "--json",
    ]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code
    first, second = json.loads(capsys.readouterr().out)
    assert first["hits"][0]["id"] == "i00010"
    assert second["query"] == "i00020"
    assert [hit["rank"] for hit in second["hits"]] == [1, 2]
    with Image.open(sheet) as drawn:
        assert min(drawn.size) > 200
    with pytest.raises(SystemExit):
        main(["query", str(indexed.out), str(photo), "--top", "1", "--explain"])
    assert "token" in capsys.readouterr().out

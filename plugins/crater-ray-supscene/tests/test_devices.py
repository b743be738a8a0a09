"""What a GPU changes, without one: devices that fail on purpose, ranks that disagree, fake tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch._subclasses.fake_tensor import FakeTensorMode

from crater_ray.errors import ClusterError, ConfigError, DeviceError, ReaderError
from crater_ray_supscene.pictures.command import heatmaps
from crater_ray_supscene.training import encoding, frozen_features
from crater_ray_supscene.training.batch import Batch, Inputs
from crater_ray_supscene.training.device import computed_on
from crater_ray_supscene.training.encoding import fill_all
from crater_ray_supscene.training.held_out import best_cosines, late_scores
from crater_ray_supscene.training.job import ClusterTable, load_train
from crater_ray_supscene.training.prefetch import Prefetcher

torch.set_num_threads(1)

RANK = """
import sys
import numpy as np, torch, torch.distributed as dist
from crater_ray_supscene.gather import agreed, averaged
from crater_ray_supscene.overlap.graph import Edges, overlap_graph
from crater_ray_supscene.sampling import Sampler, Sampling
from crater_ray_supscene.training.similarity_buffer import SimilarityBuffer

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/store", rank=rank, world_size=2)
units = [np.arange(2 * unit, 2 * unit + 2) for unit in range(30)]
graph = overlap_graph(60, Edges(np.arange(0, 60, 2), np.arange(1, 60, 2), np.ones(30, np.float32)))
sampler = Sampler(graph, units, Sampling(nodes=2, subgraphs=8, hard_negatives=3), seed=1)
similarities = SimilarityBuffer(units, 4)
vectors = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
vectors += 0.3 * rank * torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
similarities.update(torch.arange(60), torch.ones(60, dtype=torch.bool), vectors)
weight = torch.nn.Parameter(torch.zeros(3))
weight.grad = torch.full((3,), 1.0 + rank)
averaged([weight])
own = [sampler.batch(step, similarities.nearest) for step in range(6)]
shared = [agreed(rows, torch.device("cpu")) for rows in own]
np.savez(f"{sys.argv[2]}/rank{rank}.npz", own=own, shared=shared, gradient=weight.grad.numpy())
dist.destroy_process_group()
"""


def test_ranks_whose_vectors_differ_draw_one_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANK]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=env) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    first, second = (np.load(tmp_path / f"rank{rank}.npz") for rank in range(2))
    assert (first["own"] != second["own"]).any()  # so they would have trained on one another's labels
    np.testing.assert_array_equal(first["shared"], first["own"])
    np.testing.assert_array_equal(second["shared"], first["own"])
    np.testing.assert_array_equal(first["gradient"], second["gradient"])
    assert first["gradient"].tolist() == [1.5] * 3


@pytest.mark.ray
def test_shards_are_filled_by_as_many_actors_as_workers(ray_address: str, tmp_path: Path) -> None:
    import ray

    class Filling:
        """Shard 3 takes its process with it once, shard 4's device fails once, shards from 90 always do."""

        def fill(self, number: int) -> int:
            with (tmp_path / "log").open("a") as log:
                log.write(f"{os.getpid()} {number}\n")
            tried = (tmp_path / "log").read_text().split().count(str(number))
            if number == 3 and tried == 1:
                os._exit(1)
            if number >= 90 or (number == 4 and tried == 1):
                raise DeviceError("cuda failed on purpose") if number != 99 else ReaderError("no such raster")
            return 10

    def start() -> Any:
        return ray.remote(Filling).options(num_cpus=0.1).remote()

    done: list[int] = []
    fill_all(start, list(range(12)), 2, done.append)
    assert done == [10] * 12
    processes = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert 2 <= len(processes) <= 4  # two, and one for each that was lost
    with pytest.raises(ClusterError, match=r"shard 90 of the frozen features lost 3 workers: cuda failed on"):
        fill_all(start, [90], 2, done.append)
    with pytest.raises(ReaderError, match=r"^no such raster$"):
        fill_all(start, [99], 1, done.append)


def test_a_device_that_fails_is_told_from_a_bad_image(
    write_train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*rest: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(frozen_features, "fill", broken)
    monkeypatch.setitem(encoding._ready, "key", '{"a": 1}')
    monkeypatch.setitem(encoding._ready, "every", [None])
    monkeypatch.setitem(encoding._ready, "rest", ("cpu",))
    with pytest.raises(DeviceError, match="CUDA error: an illegal memory access"):
        encoding.fill_one({"a": 1}, 0)


def test_a_batch_that_memory_does_not_hold_is_filled_by_halves(tmp_path: Path) -> None:
    images = torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))

    class Pictures:
        def load(self, rows: tuple[int, ...]) -> list[Any]:
            return ["bad" if row == 7 else images[row] for row in rows]

    sizes: list[int] = []

    def small(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch.flatten(1)[:, None]

    shard = frozen_features.Shard(tuple(range(50)), tmp_path / "shard.npy")
    frozen_features.fill(shard, Pictures(), small, (3, 2, 2), "fp32")  # type: ignore[arg-type]
    hidden, usable = frozen_features.CachedFeatures([shard]).inputs(range(50))
    expected = images.flatten(1)[:, None].clone()
    expected[7] = 0
    torch.testing.assert_close(hidden, expected.half().float())
    assert [row for row, good in enumerate(usable) if not good] == [7]
    assert max(sizes) == 32
    assert sum(size for size in sizes if size <= 10) == 50


def test_late_interaction_is_computed_where_it_is_told_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTensorMode():
        queries, gallery = (torch.empty(n, 4, 8, device="cuda", dtype=torch.bfloat16) for n in (3, 7))
        found = best_cosines(queries, gallery)
    assert (found.device.type, tuple(found.shape), found.dtype) == ("cuda", (3, 7), torch.float32)
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(n, 4, 8, generator=generator).half() for n in (19, 23))
    whole = late_scores(queries, gallery)
    monkeypatch.setattr("crater_ray_supscene.training.held_out.PRODUCTS", 8 * 4 * 4 * 5)
    np.testing.assert_allclose(late_scores(queries, gallery, torch.device("cpu")), whole, atol=1e-6)
    asked: list[torch.device] = []
    to = torch.Tensor.to

    def recorded(self: torch.Tensor, device: Any, *rest: Any) -> torch.Tensor:
        asked.append(device)
        return to(self, torch.device("cpu"), *rest)

    monkeypatch.setattr(torch.Tensor, "to", recorded)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    late_scores(queries, gallery, torch.device("cuda"))
    assert asked
    assert {device.type for device in asked} == {"cuda"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_input_is_loaded_ahead_and_pinned_for_a_gpu(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []

    def pin(self: torch.Tensor) -> torch.Tensor:
        pinned.append(len(self))
        return self

    class Waiting(Batch):
        def __init__(self) -> None:
            pass

        def inputs(self, store: Any) -> Inputs:
            assert torch.get_num_threads() == 1
            store.result(60)  # what the step does meanwhile
            return Inputs(torch.ones(3, 2), torch.tensor([True, True, False]))

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    step: Future[None] = Future()
    threads = torch.get_num_threads()
    with Prefetcher(step, torch.device(device)) as load:
        loading = load(Waiting())
        assert not loading.coming.done()
        step.set_result(None)
        assert loading.coming.result().present.tolist() == [True, True, False]
    assert pinned == ([3] if device == "cuda" else [])
    assert torch.get_num_threads() == threads


def test_gpus_are_those_that_ray_has() -> None:
    auto = ClusterTable(workers=2, gpus_per_worker="auto")
    assert auto.gpus == 0
    assert [auto.settled(have).gpus for have in (0.0, 1.0, 2.0, 8.0)] == [0, 0, 1, 1]
    assert ClusterTable(gpus_per_worker=0.5).settled(0.0).gpus == 0.5  # refused by `enough`, not lowered
    for recipe in (Path(__file__).parents[1] / "recipes").glob("*.toml"):
        assert load_train(recipe).cluster.gpus_per_worker == "auto"


def test_a_run_says_what_it_computes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert computed_on(torch.device("cpu"), "fp32").endswith("threads, fp32")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    monkeypatch.setattr("crater_ray_supscene.training.device.in_bfloat16", lambda *asked: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    said = computed_on(torch.device("cuda", 1), "bf16")
    assert said == "cuda:1 (NVIDIA A100), bf16; TF32 off in products, off in convolutions"
    monkeypatch.setattr("crater_ray_supscene.training.device.in_bfloat16", lambda *asked: False)
    assert ", fp32; TF32" in computed_on(torch.device("cuda", 0), "bf16")


def test_heat_maps_are_not_drawn_on_a_device_that_is_not_here(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    arguments = [str(image), "--device", "cuda:7", "--out", str(tmp_path / "sheet.png")]
    with pytest.raises(ConfigError, match=r"device 'cuda:7' is not here"):
        CliRunner().invoke(heatmaps, arguments, catch_exceptions=False)

"""A device that fails on purpose: which errors are its own, halves of a batch, one thread behind another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from crater_ray.builtin.poolings import Cls, Mean
from crater_ray.builtin.selections import All, InstanceTokens
from crater_ray.encode import device as devices
from crater_ray.encode.device import Aside, check, guarded, named
from crater_ray.encode.encoder import Encoder
from crater_ray.errors import BadImage, ConfigError, DeviceError
from crater_ray.plugins import Aggregator
from crater_ray.testing import FakeBackbone
from crater_ray.testing.fakes import FAULTS, FailingBackbone
from crater_ray.types import Side, Tokens, TokenShape

torch.set_num_threads(1)
CPU = torch.device("cpu")
DEVICE_FAULTS = [name for name in FAULTS if name != "bug"]


def encoder(backbone: FakeBackbone, batch: int = 8, rerank: Aggregator | None = None) -> Encoder:
    shape = backbone.shape
    return Encoder(backbone, Mean(shape), rerank or InstanceTokens(shape, 6), batch=batch, precision="fp32")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fault", DEVICE_FAULTS)
def test_an_error_of_the_device_is_named_as_one(fault: str, images: torch.Tensor) -> None:
    failing = encoder(FailingBackbone(fault, after=1))
    failing.tokens(images)
    with pytest.raises(DeviceError, match=r"^cpu failed: \w+: "):
        failing.tokens(images)


def test_other_errors_pass(images: torch.Tensor) -> None:
    with pytest.raises(RuntimeError, match="size of tensor a"):
        encoder(FailingBackbone("bug", after=0)).tokens(images)
    with pytest.raises(BadImage), guarded(CPU):
        raise BadImage("it is no image")
    with pytest.raises(NotImplementedError), guarded(CPU):
        raise NotImplementedError("no kernel for CUDA half")


def test_an_unknown_error_is_the_devices_where_nothing_computes_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(device: torch.device) -> None:
        raise DeviceError("cuda does not compute")

    with pytest.raises(RuntimeError, match="who knows"), guarded(CPU):
        raise RuntimeError("who knows")
    monkeypatch.setattr(devices, "check", broken)
    with (
        pytest.raises(DeviceError, match="cuda failed: RuntimeError: who knows"),
        guarded(torch.device("cuda")),
    ):
        raise RuntimeError("who knows\nand advice")
    with pytest.raises(RuntimeError, match="who knows"), guarded(CPU):  # a CPU has no context to break
        raise RuntimeError("who knows")


@pytest.mark.parametrize("fault", ["memory", "host memory"])
@pytest.mark.parametrize("above", [4, 3, 1])
def test_what_memory_does_not_hold_is_computed_in_halves(
    fault: str, above: int, images: torch.Tensor
) -> None:
    whole, halved = encoder(FakeBackbone()), encoder(backbone := FailingBackbone(fault, above=above))
    expected, found = whole.tokens(images), halved.tokens(images)
    for name in ("patches", "cls", "attention"):  # another shape may sum in another order
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-6)
    assert backbone.sizes[:2] == [8, 8]  # once more whole, with what nobody uses given back
    assert max(size for size in backbone.sizes[2:] if size <= above) <= above
    assert (whole.halved, halved.halved) == (0, {4: 1, 3: 3, 1: 7}[above])
    a, b = whole.rows(expected, "gallery", 7), halved.rows(found, "gallery", 7)
    np.testing.assert_allclose(a.vectors, b.vectors, atol=1e-3)
    np.testing.assert_allclose(a.tokens, b.tokens, atol=1e-6)


def test_memory_that_does_not_hold_one_image_is_the_devices_failure(images: torch.Tensor) -> None:
    with pytest.raises(DeviceError, match="out of memory"):
        encoder(FailingBackbone("memory", above=0)).tokens(images)


def test_an_error_that_is_not_memory_halves_nothing(images: torch.Tensor) -> None:
    backbone = FailingBackbone("cuda", above=4)
    with pytest.raises(DeviceError):
        encoder(backbone).tokens(images)
    assert backbone.sizes == [8]


class Greedy:
    """An aggregator that needs memory for each image."""

    def __init__(self, shape: TokenShape) -> None:
        self.k, self.dim = 2, shape.dim

    def __call__(self, tokens: Tokens, side: Side) -> torch.Tensor:
        if len(tokens.patches) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.nn.functional.normalize(tokens.patches[:, :2], dim=-1)


def test_an_aggregator_gets_halves_too(images: torch.Tensor) -> None:
    greedy = encoder(FakeBackbone(), rerank=Greedy(FakeBackbone().shape))
    rows = greedy.rows(greedy.tokens(images), "gallery", 7)
    assert greedy.halved == 3
    assert rows.tokens.shape == (7, 2, 16)


def test_a_device_is_checked_by_computing_on_it() -> None:
    check(CPU)
    with pytest.raises(DeviceError, match="meta does not compute: "):
        check(torch.device("meta"))


def test_a_device_that_computes_wrongly_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "arange", lambda *size, device: torch.zeros(64))
    with pytest.raises(DeviceError, match=r"529,536 came out as 0"):
        check(CPU)


@pytest.mark.parametrize(
    ("name", "said"),
    [("cudda", "no device of torch's"), ("meta", "cannot be used here"), ("", "no device of torch's")],
)
def test_a_wrong_name_is_told(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        named(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:9"])
def test_a_gpu_that_is_not_here_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"'{name}' is not here: torch sees 0 CUDA devices; use cpu"):
        named(name)
    assert named("cpu") == CPU


def test_a_gpu_computes_float32_in_float32() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    try:
        devices.exact()
        assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (False, True, False)
        assert not matmul.allow_tf32
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32 = before


def test_a_cpu_needs_no_stream_of_its_own() -> None:
    aside = Aside(CPU)
    with aside.after(aside.mark(), [torch.zeros(2)]):
        pass


@pytest.mark.parametrize("aggregator", [Cls, Mean, All])
def test_nothing_leaves_the_device_before_aggregation_ends(
    aggregator: Callable[[TokenShape], Aggregator],
) -> None:
    """Fake tensors on a GPU: a hidden .cpu() or .numpy(), or a mix of devices, raises."""
    backbone = FakeBackbone()
    with FakeTensorMode(allow_non_fake_inputs=True):
        tokens = backbone(torch.empty(4, 3, 32, 32, device="cuda"))
        assert tokens.patches.device.type == "cuda"
        assert aggregator(backbone.shape)(tokens, "gallery").device.type == "cuda"

"""Which products a job's precision comes to."""

from __future__ import annotations

import pytest
import torch

from crater_ray import precision


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_bfloat16_on_a_gpu_or_cpu_that_has_it(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_multiplies_bfloat16", lambda: has)
    monkeypatch.setattr(precision, "_gpu_multiplies_bfloat16", lambda: has)
    assert precision.in_bfloat16("bf16", "cuda") is has
    assert precision.in_bfloat16("bf16", "cpu") is has
    assert not precision.in_bfloat16("fp32", "cuda")
    assert not precision.in_bfloat16("fp32", "cpu")


def test_a_gpu_that_emulates_bfloat16_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation  # as a V100 answers

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision._gpu_multiplies_bfloat16.__wrapped__() is False
    assert asked == [False]


def test_what_onednn_tells_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = precision._cpu_multiplies_bfloat16.__wrapped__
    assert told() is torch.ops.mkldnn._is_mkldnn_bf16_supported()
    monkeypatch.setattr(torch.ops, "mkldnn", object())  # a torch without oneDNN
    assert told() is False

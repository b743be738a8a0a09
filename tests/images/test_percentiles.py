"""Percentiles of strips are numpy's of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from crater_ray.images.percentiles import percentiles

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    "samples",
    [
        RNG.integers(0, 65536, 9973).astype(np.uint16),
        RNG.integers(1000, 1003, 501).astype(np.uint16),
        RNG.integers(-(1 << 31), (1 << 31) - 1, 9973).astype(np.int32),
        RNG.normal(0, 1e-3, 9973).astype(np.float32),
        (RNG.normal(0, 1, 9973) * 10.0 ** RNG.integers(-20, 20, 9973)).astype(np.float32),
        np.array([-0.0, 0.0, 0.0, -1.0, 1.0], np.float32),
        np.array([7], np.uint16),
        np.full(300, -5, np.int32),
    ],
    ids=["16 bits", "few values", "32 bits", "float", "40 decades", "zeros", "one", "flat"],
)
def test_they_are_those_of_numpy(samples: np.ndarray) -> None:
    shares = (0.0, 1.0, 37.5, 50.0, 99.0, 100.0)
    found = percentiles(lambda: np.array_split(samples, 7), shares)
    np.testing.assert_allclose(
        found, np.percentile(samples.astype(np.float64), shares), rtol=1e-12, atol=1e-30
    )


def test_no_samples_have_none() -> None:
    assert percentiles(lambda: [np.empty(0, np.uint16)], (1.0, 99.0)) == []

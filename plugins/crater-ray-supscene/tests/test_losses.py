"""Each loss against a slow twin in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crater_ray_supscene.losses.arcface import ArcFace
from crater_ray_supscene.losses.contrastive import contrastive, maxsim
from crater_ray_supscene.losses.objective import Objective, Terms
from crater_ray_supscene.losses.triplet import triplet
from crater_ray_supscene.losses.weights import hard_weights, soft_weights

torch.set_num_threads(1)


def batch(count: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vectors, symmetric overlaps with many zeros; masked: the diagonal, an unknown pair, a pad."""
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((count, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    overlap = generator.random((count, count)) * (generator.random((count, count)) < 0.5)
    overlap = np.triu(overlap, 1) + np.triu(overlap, 1).T
    ignored = np.eye(count, dtype=bool)
    ignored[0, 3] = ignored[3, 0] = True
    ignored[-1] = ignored[:, -1] = True
    return torch.from_numpy(vectors), torch.from_numpy(overlap), torch.from_numpy(ignored)


def slow_contrastive(s: np.ndarray, w: np.ndarray, ignored: np.ndarray, temperature: float) -> float:
    losses = []
    for i in range(len(s)):
        others = [j for j in range(s.shape[1]) if not ignored[i, j]]
        z = sum(w[i, j] for j in others)
        if z == 0:
            continue
        below = sum(math.exp(s[i, k] / temperature) for k in others)
        losses.append(-sum(w[i, j] * math.log(math.exp(s[i, j] / temperature) / below) for j in others) / z)
    return float(np.mean(losses))


def test_the_weights_are_equation_7() -> None:
    overlap = torch.tensor([[0.0, 0.1, 0.25, 0.2500001, 0.5, 1.0]], dtype=torch.float64)
    expected = [0.0, 0.1 ** (1 / 0.7), 0.25 ** (1 / 0.7), 0.2500001**0.7, 0.5**0.7, 1.0]
    np.testing.assert_allclose(soft_weights(overlap)[0].numpy(), expected, atol=1e-12)
    assert soft_weights(overlap)[0, 1] == pytest.approx(0.037, abs=5e-4)  # the paper's own examples
    assert soft_weights(overlap)[0, 4] == pytest.approx(0.616, abs=5e-4)
    assert hard_weights(overlap).tolist() == [[0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("weigh", [soft_weights, hard_weights])
def test_the_contrastive_loss_is_equation_8(weigh) -> None:  # type: ignore[no-untyped-def]
    vectors, overlap, ignored = batch()
    s, w = vectors @ vectors.t(), weigh(overlap)
    expected = slow_contrastive(s.numpy(), w.numpy(), ignored.numpy(), 0.1)
    assert float(contrastive(s, w, ignored, 0.1)) == pytest.approx(expected, abs=1e-10)


def test_padding_and_a_row_without_positives_change_nothing() -> None:
    vectors, overlap, ignored = batch()
    s, w = vectors @ vectors.t(), soft_weights(overlap)
    whole = contrastive(s, w, ignored, 0.1)
    without = contrastive(s[:-1, :-1], w[:-1, :-1], ignored[:-1, :-1], 0.1)
    assert float(whole) == pytest.approx(float(without), abs=1e-12)
    nothing = torch.zeros_like(w)
    similarity = s.clone().requires_grad_()
    loss = contrastive(similarity, nothing, ignored, 0.1)
    loss.backward()
    assert loss.item() == 0
    assert not similarity.grad.any()


def test_gradients_are_finite_where_pairs_are_masked() -> None:
    vectors, overlap, ignored = batch()
    vectors = vectors.float().requires_grad_()
    contrastive(vectors @ vectors.t(), soft_weights(overlap.float()), ignored, 0.05).backward()
    assert vectors.grad.isfinite().all()


def test_maxsim_is_the_mean_of_the_best_cosines() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.standard_normal((4, 3, 5))
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    expected = [[np.mean([max(q @ g for g in there) for q in here]) for there in tokens] for here in tokens]
    np.testing.assert_allclose(maxsim(torch.from_numpy(tokens)).numpy(), expected, atol=1e-12)


def test_the_triplet_takes_the_hardest_negative() -> None:
    vectors, overlap, ignored = batch()
    s, positive, skip = (vectors @ vectors.t()).numpy(), (overlap >= 0.25).numpy(), ignored.numpy()
    losses = []
    for i in range(len(s)):
        negatives = [s[i, k] for k in range(len(s)) if not positive[i, k] and not skip[i, k]]
        for j in range(len(s)):
            if positive[i, j] and not skip[i, j] and negatives:
                losses.append(max(0.0, 0.2 + max(negatives) - s[i, j]))
    found = triplet(torch.from_numpy(s), torch.from_numpy(positive), ignored, 0.2)
    assert float(found) == pytest.approx(np.mean(losses), abs=1e-12)
    assert float(triplet(torch.from_numpy(s), torch.zeros_like(ignored), ignored, 0.2)) == 0


def test_arcface_adds_its_margin_to_the_own_angle() -> None:
    vectors, _, _ = batch()
    loss = ArcFace(3, 5, scale=8.0, margin=0.4).double()
    labels = [0, 1, 2, 0, 1, 2, -1, 0, 1]
    centres = loss.centres.detach().numpy()
    centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    expected = []
    for vector, label in zip(vectors.numpy(), labels, strict=True):
        if label < 0:
            continue
        logits = [
            8 * math.cos(math.acos(vector @ centre) + 0.4 * (own == label))
            for own, centre in enumerate(centres)
        ]
        expected.append(-logits[label] + math.log(sum(map(math.exp, logits))))
    assert loss(vectors, torch.tensor(labels)).item() == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("name", ["soft_supcon", "supcon", "triplet", "arcface"])
def test_an_objective_is_the_sum_of_its_terms(name) -> None:  # type: ignore[no-untyped-def]
    vectors, overlap, ignored = batch()
    tokens = torch.nn.functional.normalize(torch.rand(9, 4, 5, dtype=torch.float64), dim=2)
    labels = torch.arange(9) % 3
    objective = Objective(Terms(name, vector=2.0, late=0.5, late_temperature=0.03), 3, 5).double()
    alone = Objective(Terms(name), 3, 5).double()
    weights = soft_weights(overlap) if name == "soft_supcon" else hard_weights(overlap)
    expected = 2 * alone(vectors, None, overlap, ignored, labels)
    expected += 0.5 * contrastive(maxsim(tokens), weights, ignored, 0.03)
    found = objective(vectors, tokens, overlap, ignored, labels)
    torch.testing.assert_close(found, expected)

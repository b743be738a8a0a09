"""Each aggregator against slow, obvious NumPy, and its promises to the seam."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crater_ray.config import load_job
from crater_ray.errors import ConfigError, PluginError
from crater_ray.plugins import registry
from crater_ray.testing import check_aggregator, fake_tokens
from crater_ray.types import Tokens, TokenShape
from crater_ray_supscene import AGGREGATORS
from crater_ray_supscene.aggregators import saved
from crater_ray_supscene.aggregators.divlad import Divlad
from crater_ray_supscene.aggregators.learnt import to_be_trained
from crater_ray_supscene.aggregators.netvlad import Netvlad
from crater_ray_supscene.aggregators.poolings import ClsMean, TrainedAvg, TrainedCls, TrainedGem
from crater_ray_supscene.aggregators.projection import Projection
from crater_ray_supscene.aggregators.salad import Salad

torch.set_num_threads(1)
SHAPE = TokenShape(6, (3, 4), heads=3, cls=True)
EVERY: list[tuple[Any, dict[str, Any]]] = [
    (Divlad, {"clusters": 4}),
    (Divlad, {"clusters": 4, "gate": False, "norm": "none"}),
    (Netvlad, {"clusters": 4}),
    (Salad, {"clusters": 4, "local_dim": 5, "global_dim": 7, "hidden": 8}),
    (TrainedGem, {}),
    (TrainedAvg, {}),
    (TrainedCls, {}),
    (ClsMean, {}),
]


def unit(rows: np.ndarray, axis: int = -1) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=axis, keepdims=True), 1e-12)


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max())
    return powers / powers.sum()


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """Every weight and running statistic away from where it starts, so that none goes untested."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}


def batch_norm(vector: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    shifted = (vector - state["norm.running_mean"]) / np.sqrt(state["norm.running_var"] + 1e-5)
    return shifted * state["norm.weight"] + state["norm.bias"]


@pytest.mark.parametrize(("factory", "options"), EVERY)
def test_the_seam_s_promises_hold(factory: Any, options: dict[str, Any]) -> None:
    check_aggregator(factory, **options)


@pytest.mark.parametrize("attention", ["row", "column"])
@pytest.mark.parametrize("gate", [True, False])
def test_divlad_is_equations_2_to_6(attention: str, gate: bool) -> None:
    module = stirred(Divlad(SHAPE, clusters=4, attention=attention, gate=gate))
    state = arrays(module)
    given = fake_tokens(SHAPE)
    column = torch.rand(given.attention.shape, generator=torch.Generator().manual_seed(1)) / 12
    tokens = Tokens(given.patches, given.grid, given.cls, given.attention, column)
    with torch.inference_mode():
        found = module(tokens, "gallery")[:, 0].numpy()
    chosen = tokens.attention if attention == "row" else column
    for n in range(len(found)):
        x, a = tokens.patches[n].double().numpy(), chosen[n].double().numpy()
        heads, count = a.shape
        w, s = np.zeros((heads, count)), np.zeros(heads)
        for h in range(heads):
            z = (a[h] - a[h].mean()) / max(a[h].std(ddof=1), 1e-6)
            w[h] = (1 / (1 + np.exp(-z))) ** 0.5  # Eq. 3
            share = a[h] / (a[h].sum() + 1e-6)
            entropy = -sum(p * math.log(max(p, 1e-8)) for p in share) / math.log(count)
            s[h] = max(np.mean(w[h]) * (1 - entropy), 1e-6)
        parts = []
        for k in range(4):
            if gate:
                logs = np.log(np.log1p(np.exp(state["gate"][k])) * s + 1e-6)
                g = softmax(logs)  # Eq. 4, as the paper writes it
            else:
                g = np.full(heads, 1 / heads)
            v = np.zeros(6)
            for t in range(count):
                to = softmax(state["assign.weight"] @ x[t])
                v += to[k] * (g @ w[:, t]) * (x[t] - state["centres"][k])  # Eqs. 5 and 6
            parts.append(unit(v))
        expected = unit(batch_norm(unit(np.concatenate(parts)), state))
        np.testing.assert_allclose(found[n], expected, atol=2e-5)


def test_divlad_s_gate_starts_at_each_head_s_share_of_confidence() -> None:
    from crater_ray_supscene.aggregators.divlad import head_confidence, token_quality

    module, tokens = Divlad(SHAPE, clusters=4), fake_tokens(SHAPE)
    assert not module.gate.any()
    assert module.gate.numel() == 4 * 3  # the only parameters over NetVLAD's
    quality = token_quality(tokens.attention)
    confidence = head_confidence(tokens.attention, quality)
    expected = torch.einsum("nh,nht->nt", confidence / confidence.sum(1, keepdim=True), quality)
    weights = module.token_weights(tokens)
    for cluster in range(4):
        torch.testing.assert_close(weights[:, cluster], expected, atol=1e-4, rtol=1e-3)


def test_netvlad_is_its_formula() -> None:
    module = stirred(Netvlad(SHAPE, clusters=4))
    state, tokens = arrays(module), fake_tokens(SHAPE)
    with torch.inference_mode():
        found = module(tokens, "query")[:, 0].numpy()
    for n in range(len(found)):
        x = unit(tokens.patches[n].double().numpy())
        v = np.zeros((4, 6))
        for token in x:
            share = softmax(state["assign.weight"] @ token + state["assign.bias"])
            v += share[:, None] * (token - state["centres"])
        expected = unit(batch_norm(unit(unit(v).reshape(-1)), state))
        np.testing.assert_allclose(found[n], expected, atol=2e-5)


def test_netvlad_starts_where_the_second_word_gets_a_hundredth() -> None:
    points = np.random.default_rng(0).standard_normal((400, 6)).astype(np.float32)
    module = Netvlad(SHAPE, clusters=4)
    module.initialise(points, seed=0)
    words = module.centres.detach().numpy()
    cosines = np.sort(unit(points) @ words.T, axis=1)
    gap = (cosines[:, -1] - cosines[:, -2]).mean()
    alpha = np.linalg.norm(module.assign.weight.detach().numpy(), axis=1)
    np.testing.assert_allclose(np.exp(-alpha * gap), 0.01, rtol=1e-3)
    with pytest.raises(ValueError, match="cannot start"):
        module.initialise(points[:3], seed=0)


@pytest.mark.parametrize("images", [1, 3])
def test_salad_is_its_formula_for_one_image_too(images: int) -> None:
    module = stirred(Salad(SHAPE, clusters=4, local_dim=5, global_dim=7, hidden=8))
    state, tokens = arrays(module), fake_tokens(SHAPE, images)
    with torch.inference_mode():
        found = module(tokens, "gallery")
    assert found.shape == (images, 1, 4 * 5 + 7)

    def layers(name: str, x: np.ndarray) -> np.ndarray:
        inner = np.maximum(state[f"{name}.0.weight"] @ x + state[f"{name}.0.bias"], 0)
        return state[f"{name}.3.weight"] @ inner + state[f"{name}.3.bias"]

    for image in range(images):
        x = tokens.patches[image].double().numpy()
        n, m = len(x), 4
        kernel = np.exp(np.stack([[*layers("score", t), float(state["dustbin"])] for t in x], axis=1))
        a = np.array([1 / (n + m)] * m + [(n - m) / (n + m)])
        b = np.full(n, 1 / (n + m))
        u, v = np.ones(m + 1), np.ones(n)
        for _ in range(3):  # Sinkhorn and Knopp's own scaling, without logarithms
            u = a / (kernel @ v)
            v = b / (kernel.T @ u)
        plan = u[:, None] * kernel * v * (n + m)
        np.testing.assert_allclose(plan.sum(0), 1, atol=1e-9)
        clusters = unit(plan[:-1] @ np.stack([layers("local", t) for t in x]))
        scene = unit(layers("whole", tokens.cls[image].double().numpy()))
        expected = unit(np.concatenate([clusters.reshape(-1), scene]))
        np.testing.assert_allclose(found[image, 0].numpy(), expected, atol=2e-5)


def test_the_poolings_are_their_formulas() -> None:
    tokens = fake_tokens(SHAPE)
    x, cls = tokens.patches.double().numpy(), tokens.cls.double().numpy()
    gem = TrainedGem(SHAPE, p=2.5)
    expected = unit((np.maximum(x, 1e-6) ** 2.5).mean(1) ** (1 / 2.5))
    with torch.no_grad():
        np.testing.assert_allclose(gem(tokens)[:, 0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(TrainedAvg(SHAPE)(tokens)[:, 0].numpy(), unit(x.mean(1)), atol=1e-5)
    np.testing.assert_allclose(TrainedCls(SHAPE)(tokens)[:, 0].numpy(), unit(cls), atol=1e-5)
    both = unit(np.concatenate([cls, x.mean(1)], axis=1))
    np.testing.assert_allclose(ClsMean(SHAPE)(tokens)[:, 0].numpy(), both, atol=1e-5)


@pytest.mark.parametrize(("factory", "options"), EVERY)
def test_weights_and_config_come_back_from_a_folder(
    factory: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    module = stirred(factory(SHAPE, **options))
    saved.save(module, tmp_path)
    name = module.name
    ref = registry().ref("aggregator", name, {"path": "."}, base=tmp_path)
    again = registry().build(ref, SHAPE)
    assert not again.training
    tokens = fake_tokens(SHAPE)
    with torch.inference_mode():
        assert torch.equal(module(tokens, "gallery"), again(tokens, "gallery"))
    assert "pickle" not in " ".join(path.suffix for path in tmp_path.iterdir())


def test_a_folder_that_does_not_fit_says_so(tmp_path: Path) -> None:
    saved.save(Divlad(SHAPE, clusters=4), tmp_path)
    with pytest.raises(ConfigError, match="holds the aggregator 'divlad'"):
        Netvlad(SHAPE, path=tmp_path)
    with pytest.raises(ConfigError, match="clusters of 'divlad' is 8, but"):
        Divlad(SHAPE, path=tmp_path, clusters=8)
    with pytest.raises(ConfigError, match="tokens of 6 numbers and 3 heads"):
        Divlad(TokenShape(5, (3, 4), 3, True), path=tmp_path)
    with pytest.raises(PluginError, match="name the model folder"):
        Divlad(SHAPE, path=tmp_path / "none")
    (tmp_path / saved.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(PluginError, match="cannot be used"):
        Divlad(SHAPE, path=tmp_path)


def test_a_backbone_that_does_not_suit_says_so() -> None:
    with pytest.raises(ConfigError, match="class attention"):
        registry().build(registry().ref("aggregator", "divlad"), TokenShape(6, (3, 4), 0, True))
    with pytest.raises(ConfigError, match="use fewer clusters"):
        Salad(SHAPE, clusters=12)
    with pytest.raises(ConfigError, match="class token"):
        Salad(TokenShape(6, (3, 4), 3, False), clusters=4)
    with pytest.raises(ConfigError, match="class token"):
        ClsMean(TokenShape(6, (3, 4), 3, False))
    tokens, divlad = fake_tokens(SHAPE), Divlad(SHAPE, attention="column")
    with pytest.raises(ConfigError, match="attention_column = true"):
        divlad(Tokens(tokens.patches, tokens.grid, tokens.cls, tokens.attention))


@pytest.mark.parametrize(("factory", "options"), EVERY)
def test_every_weight_is_learnt(factory: Any, options: dict[str, Any]) -> None:
    module = factory(SHAPE, **options).train()
    head = Projection(module.dim, out=4, hidden=8)
    projected = head(module(fake_tokens(SHAPE))[:, 0])
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(len(projected)))
    (projected * torch.rand(projected.shape)).sum().backward()
    missing = [name for name, weight in module.named_parameters() if weight.grad is None]
    assert not missing


JOB = """
out = "index"
[reader]
name = "folder"
root = "."
[backbone]
name = "timm"
model = "vit_tiny_patch16_224"
[shortlist]
name = "{name}"
{more}
"""


@pytest.mark.parametrize(
    ("name", "more", "whitened"),
    [
        *((name, "", False) for name in AGGREGATORS),
        *((name, "", True) for name in ("rmac", "spoc", "crow", "cls")),
        ("divlad", "whiten = true", True),
        ("cls", "whiten = false", False),
    ],
)
def test_what_was_trained_is_compared_as_trained_unless_the_job_says_otherwise(
    name: str, more: str, whitened: bool, tmp_path: Path
) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(name=name, more=more))
    assert load_job(path).whiten() is whitened


@pytest.mark.parametrize("name", ["divlad", "netvlad", "salad"])
def test_an_index_job_cannot_use_what_nobody_trained(name: str) -> None:
    here = registry()
    ref = here.ref("aggregator", name, {"clusters": 4})
    with pytest.raises(ConfigError, match="random weights; train one"):
        here.build(ref, SHAPE)
    with to_be_trained():
        assert here.build(ref, SHAPE).options["clusters"] == 4


@pytest.mark.parametrize("spoil", [0.0, 7.0, torch.nan])
@pytest.mark.parametrize(("factory", "options"), EVERY)
def test_tokens_that_are_not_valid_have_no_part(factory: Any, options: dict[str, Any], spoil: float) -> None:
    """A vector is that of an image which has just the valid tokens."""
    module = stirred(factory(SHAPE, **options))
    given = fake_tokens(SHAPE)
    valid = torch.zeros(3, SHAPE.tokens, dtype=torch.bool)
    valid[0, [0, 2, 3, 5, 7, 8, 11]] = valid[1, :6] = True
    patches = given.patches.masked_fill(~valid[:, :, None], spoil)
    attention = given.attention.masked_fill(~valid[:, None], spoil)
    tokens = Tokens(patches, given.grid, given.cls, attention, attention, valid)
    with torch.inference_mode():
        vectors = module(tokens)
        assert vectors.isfinite().all()
        for image in range(2):
            keep = valid[image]
            rows = given.attention[image, :, keep][None]
            alone = Tokens(
                given.patches[image, keep][None], (1, int(keep.sum())), given.cls[image][None], rows, rows
            )
            torch.testing.assert_close(vectors[image], module(alone)[0], atol=2e-5, rtol=0)
        every = Tokens(given.patches, given.grid, given.cls, given.attention, valid=torch.ones_like(valid))
        whole = Tokens(given.patches, given.grid, given.cls, given.attention)
        torch.testing.assert_close(module(every), module(whole), atol=2e-5, rtol=0)


def test_salad_of_fewer_tokens_than_clusters_is_finite_and_takes_each_token_once() -> None:
    module = stirred(Salad(SHAPE, clusters=4, local_dim=5, global_dim=7, hidden=8))
    given = fake_tokens(SHAPE)
    valid = torch.zeros(3, SHAPE.tokens, dtype=torch.bool)
    valid[0, 3] = valid[1, :3] = True
    tokens = Tokens(given.patches, given.grid, given.cls, valid=valid)
    share = module.assignment(tokens)
    assert (share.sum(1) <= 1 + 1e-5).all()
    assert not share.transpose(1, 2)[~valid].any()
    vector = module(tokens)
    vector.square().sum().backward()
    assert vector.isfinite().all()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in module.parameters())

"""Ways to choose the images that are scored with their tokens: ours, and those it was compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import faiss
import numpy as np
import torch

from crater_ray.index.opened import Snapshot
from crater_ray.search.codecs import codec
from crater_ray.search.kernel import score
from crater_ray.search.whitening import learn, whiten

SAMPLE = 500  # gallery images whose tokens are learnt from
DEEPEST = 100  # the most images chosen
LARGEST = 3.0  # of a unit token's random projections, kept in one byte
Ask = Callable[[np.ndarray, np.ndarray], np.ndarray]  # a query's vector (G,) and tokens (Q, D) -> scores (N,)


@dataclass(frozen=True)
class Method:
    """A stage one over the whole gallery."""

    name: str
    bytes: float  # an image
    ask: Ask
    fused: float = 0.0  # share of its own score that is added to the tokens'


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def blocks(gallery: Snapshot, rows: int = 512) -> Iterator[tuple[slice, np.ndarray]]:
    """Decoded tokens (n, K, D), a few images at a time."""
    recipe = gallery.recipe
    for first, codes, scales in gallery.blocks(rows):
        yield (
            slice(first, first + len(codes)),
            codec(recipe.codec).decode(codes, scales, recipe.k, recipe.dim),
        )


def single(name: str, vectors: np.ndarray, asked: Ask, bytes: float | None = None) -> Method:
    """One vector an image, in FAISS."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    count = len(vectors)

    def ask(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        values, rows = index.search(np.ascontiguousarray(asked(vector, tokens), np.float32)[None], DEEPEST)
        scores = np.full(count, -np.inf, np.float32)
        scores[rows[0]] = values[0]
        return scores

    return Method(name, bytes or 2.0 * vectors.shape[1], ask)


def vectors_of(gallery: Snapshot, outside: np.ndarray, seed: int) -> list[Method]:
    """The stored vector as it is, and whitened as the index does it."""
    vectors = np.asarray(gallery.vectors())
    learnt = learn(vectors[outside], seed)
    learnt_bytes = sum(array.nbytes for array in learnt.values()) / len(vectors)

    def asked(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return whiten(vector[None, None], learnt)[0, 0]

    whitened = single(
        "one vector, whitened",
        whiten(vectors, learnt)[:, 0],
        asked,
        2 * vectors.shape[2] + learnt_bytes,
    )
    return [
        single("one vector (cls)", vectors[:, 0], lambda vector, tokens: vector),
        whitened,
        replace(whitened, name="one vector, whitened; half its score added", fused=0.5),
    ]


def tokens_of(gallery: Snapshot, outside: np.ndarray, seed: int) -> list[Method]:
    """What is made of the instance tokens: means, groups, low dimensions, signs, centroids, encodings."""
    count, k, dim = len(gallery), gallery.recipe.k, gallery.recipe.dim
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(outside)[:SAMPLE])
    codes, scales = gallery.gather(rows)
    sample = codec(gallery.recipe.codec).decode(codes, scales, k, dim).reshape(-1, dim)
    centre = sample.mean(0)
    variances, axes = np.linalg.eigh(np.cov(sample.T))
    white = (axes[:, ::-1] / np.sqrt(np.maximum(variances[::-1], 1e-6 * variances[-1]))).astype(np.float32)
    means, quarters = np.empty((count, dim), np.float32), np.empty((count, 4, 128), np.float16)
    low, signs = np.empty((count, k * 16), np.int8), np.empty((count, k * 16), np.uint8)
    words = centroids(sample, seed)
    spoken = np.empty((count, k), np.int16)
    encode = Encoding(centre, seed)
    encodings = np.empty((count, encode.width), np.int8)
    for at, tokens in blocks(gallery):
        means[at] = unit(tokens.mean(1))
        turned = (tokens - centre) @ white[:, :128]
        quarters[at] = unit(unit(turned).reshape(len(tokens), 4, k // 4, 128).mean(2))
        low[at] = small(unit(turned[:, :, :16])).reshape(len(tokens), -1)
        signs[at] = np.packbits(turned > 0, axis=-1).reshape(len(tokens), -1)
        spoken[at] = nearest(words, tokens)
        encodings[at] = encode(tokens, "gallery")
    whole = np.ones((count, 1), np.float32)
    quarter_rows = faiss.IndexFlatIP(128)
    quarter_rows.add(quarters.reshape(-1, 128).astype(np.float32))

    def ask_quarters(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        asked = unit(unit((tokens - centre) @ white[:, :128]).reshape(4, -1, 128).mean(1))
        values, places = quarter_rows.search(asked.astype(np.float32), 4 * DEEPEST)
        scores = np.full(count, -np.inf, np.float32)
        np.maximum.at(scores, places.ravel() // 4, values.ravel())
        return scores

    def ask_low(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        asked = unit((tokens - centre) @ white[:, :16])
        return score(asked[None], low.view(np.uint8), whole, codec="int8", k=k, dim=16)[0]

    def ask_signs(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        asked = unit((tokens[:16] - centre) @ white[:, :128])[None]
        scores = np.empty(count, np.float32)
        for start in range(0, count, 256):
            bits = np.unpackbits(
                signs[start : start + 256], axis=1
            )  # 0 and 1: 2 b - 1 adds a constant a token
            scores[start : start + 256] = score(
                asked, bits, whole[start : start + 256], codec="int8", k=k, dim=128
            )[0]
        return scores

    def ask_words(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        table = torch.from_numpy(small(words @ tokens.T))  # (4096, Q)
        scores = np.empty(count, np.float32)
        for start in range(0, count, 256):
            some = torch.from_numpy(spoken[start : start + 256].reshape(-1).astype(np.int64))
            best = table[some].view(-1, k, len(tokens)).amax(1)
            scores[start : start + 256] = best.sum(1, dtype=torch.int32).numpy()
        return scores

    encoded = torch.from_numpy(encodings)

    def ask_encoding(vector: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        asked = torch.from_numpy(np.ascontiguousarray(encode(tokens[None], "query").repeat(16, 0).T))
        return torch._int_mm(encoded, asked)[:, 0].numpy().astype(np.float32)

    return [
        single("mean of tokens", means, lambda vector, tokens: unit(tokens.mean(0))),
        Method("four vectors, whitened", 4 * 128 * 2, ask_quarters),
        Method("tokens of 16 whitened dimensions", 16 * k, ask_low),
        Method("signs of 128 whitened dimensions", 16 * k, ask_signs),
        Method("4096 centroids (PLAID)", 2 * k, ask_words),
        Method("fixed dimensions (MUVERA)", encode.width, ask_encoding),
    ]


def small(values: np.ndarray) -> np.ndarray:
    """-127..127 of the largest absolute value."""
    return np.rint(values * (127 / max(float(np.abs(values).max()), 1e-12))).astype(np.int8)


def centroids(sample: np.ndarray, seed: int) -> np.ndarray:
    trained = faiss.Kmeans(
        sample.shape[1], 4096, niter=4, seed=seed, spherical=True, min_points_per_centroid=1
    )
    trained.train(sample)
    return np.asarray(trained.centroids)


def nearest(words: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    flat = torch.from_numpy(tokens.reshape(-1, tokens.shape[2])).bfloat16()
    return (flat @ torch.from_numpy(words).bfloat16().T).argmax(1).view(tokens.shape[:2]).numpy()


class Encoding:
    """MUVERA's: tokens fall into 2^4 cells by random planes, 8 times; a cell keeps 8 random projections.

    A query's cell sums its tokens, a gallery image's averages them (an empty one takes the token nearest by
    Hamming distance); tokens are centred, without which all fall into one cell. 1,024 numbers of one byte.
    """

    def __init__(self, centre: np.ndarray, seed: int, times: int = 8, planes: int = 4, kept: int = 8) -> None:
        random, dim = np.random.default_rng(seed), len(centre)
        self.centre = centre
        self.planes = random.standard_normal((times, dim, planes)).astype(np.float32)
        self.projections = random.choice([-1.0, 1.0], (times, dim, kept)).astype(np.float32)
        self.width = times * (1 << planes) * kept

    def __call__(self, tokens: np.ndarray, side: str) -> np.ndarray:
        """(n, 1024) int8; a query's own scale, as it changes no order, and the gallery's the same for all."""
        out = []
        cells = np.arange(1 << self.planes.shape[2])
        centred = tokens - self.centre
        for planes, projection in zip(self.planes, self.projections, strict=True):
            bits = centred @ planes > 0
            cell = bits @ (1 << np.arange(bits.shape[2]))
            member = (cell[:, :, None] == cells).astype(np.float32)  # (n, K, cells)
            if side == "gallery":
                apart = np.bitwise_count(cell[:, :, None] ^ cells)
                empty = member.sum(1) == 0  # (n, cells)
                image, which = np.nonzero(empty)
                member[image, apart.argmin(1)[image, which], which] = 1
                member /= member.sum(1, keepdims=True)
            out.append((member.transpose(0, 2, 1) @ (tokens @ projection)).reshape(len(tokens), -1))
        encoded = np.concatenate(out, 1)
        largest = LARGEST if side == "gallery" else np.abs(encoded).max(1, keepdims=True)
        return np.clip(np.rint(encoded * (127 / largest)), -127, 127).astype(np.int8)

"""Other ways to keep tokens, for token_bytes.py: learnt codebooks, decoded before they are compared.

What they decode to is kept as int8 to be scored, which adds no error that could be seen beside their own.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import torch

from crater_ray.search.codecs import codec

Array = np.ndarray[Any, Any]
WORDS = 4096


class Centroids:
    """The nearest of 4,096 centroids, `bits` a dimension of what is left, by quantiles (ColBERTv2, PLAID)."""

    def __init__(self, tokens: Array, bits: int, seed: int) -> None:
        flat = tokens.reshape(-1, tokens.shape[2])
        trained = faiss.Kmeans(flat.shape[1], WORDS, niter=4, seed=seed, min_points_per_centroid=1)
        trained.train(flat)
        self.words = np.asarray(trained.centroids)
        rest = (flat - self.words[self.nearest(flat)]).ravel()
        rest = np.random.default_rng(seed).choice(rest, 1_000_000)
        self.edges = np.quantile(rest, np.arange(1, 1 << bits) / (1 << bits)).astype(np.float32)
        self.values = np.quantile(rest, (np.arange(1 << bits) + 0.5) / (1 << bits)).astype(np.float32)
        self.bits = bits

    def nearest(self, flat: Array) -> Array:
        right = torch.from_numpy(self.words)
        products = torch.from_numpy(flat).bfloat16() @ right.bfloat16().T
        return (products.float() - (right * right).sum(1) / 2).argmax(1).numpy()

    def bytes(self, k: int, dim: int, images: int) -> float:
        return 2 * k + k * dim * self.bits / 8 + self.words.nbytes / images

    def encode(self, tokens: Array) -> tuple[Array, Array]:
        flat = tokens.reshape(-1, tokens.shape[2])
        base = self.words[self.nearest(flat)]
        decoded = base + self.values[np.searchsorted(self.edges, flat - base)]
        return codec("int8").encode(decoded.reshape(tokens.shape))


class ProductQuantizer:
    """FAISS's product quantizer of whole tokens, `bytes_each` a token."""

    def __init__(self, tokens: Array, bytes_each: int, seed: int) -> None:
        flat = np.ascontiguousarray(tokens.reshape(-1, tokens.shape[2]))
        self.trained = faiss.ProductQuantizer(flat.shape[1], bytes_each, 8)
        self.trained.cp.seed = seed
        self.trained.cp.niter = 10
        self.trained.train(flat[np.random.default_rng(seed).permutation(len(flat))[:20_000]])
        self.bytes_each = bytes_each

    def bytes(self, k: int, dim: int, images: int) -> float:
        return k * self.bytes_each + 4 * 256 * dim / images

    def encode(self, tokens: Array) -> tuple[Array, Array]:
        flat = np.ascontiguousarray(tokens.reshape(-1, tokens.shape[2]))
        decoded = self.trained.decode(self.trained.compute_codes(flat))
        return codec("int8").encode(decoded.reshape(tokens.shape))

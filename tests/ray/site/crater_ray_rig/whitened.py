"""A Fitted aggregator: what it learns must travel through the index."""

import numpy as np
import torch


class WhitenedMean:
    k = 1

    def __init__(self, shape, dim):
        if dim > shape.dim:
            raise ValueError(f"dim is {dim}, but the backbone gives {shape.dim} numbers a token")
        self.dim = dim
        self.state = None

    def fit(self, sample, seed):
        means = np.concatenate([tokens.patches.mean(1).cpu().numpy() for tokens in sample])
        centre = means.mean(0)
        _, scales, axes = np.linalg.svd(means - centre, full_matrices=False)
        return {
            "centre": centre,
            "axes": (axes[: self.dim] / np.maximum(scales[: self.dim, None], 1e-6)).astype(np.float32),
        }

    def load(self, state):
        self.state = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in state.items()}

    def __call__(self, tokens, side):
        whitened = (tokens.patches.mean(1).cpu() - self.state["centre"]) @ self.state["axes"].T
        return torch.nn.functional.normalize(whitened, dim=-1)[:, None]

"""Cross-batch memory (Wang et al. 2020): what the last steps saw, as more images to tell a batch from."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """Vectors of the last `images` images, and tokens of the last `late` of them; newest first, no gradient.

    They are buffers, so that a checkpoint holds them and a resumed run goes on with what it had.
    """

    rows: Tensor
    vectors: Tensor
    tokens: Tensor

    def __init__(self, images: int, dim: int, late: int, late_tokens: int, token_dim: int) -> None:
        """Raises ValueError for more images with tokens than images."""
        super().__init__()
        if not 0 <= late <= images:
            raise ValueError(f"tokens of {late} images cannot be kept of {images}")
        self.register_buffer("rows", torch.full((images,), -1))  # of the plan; -1 is none
        self.register_buffer("vectors", torch.zeros(images, dim))
        self.register_buffer("tokens", torch.zeros(late, late_tokens, token_dim))

    def push(self, rows: Tensor, vectors: Tensor, tokens: Tensor | None) -> None:
        """Takes in a batch: rows (B,), -1 for none, vectors (B, d), tokens (B, t, D) or None."""
        self.rows = torch.cat([rows, self.rows])[: len(self.rows)]
        self.vectors = torch.cat([vectors.detach(), self.vectors])[: len(self.vectors)]
        if tokens is not None:
            self.tokens = torch.cat([tokens.detach(), self.tokens])[: len(self.tokens)]

"""Tokens in a twentieth of their bytes: the image's mean, and what each token adds to it, along learnt axes.

A token is decoded as base + v @ back: v are odd integers of 7, 4, 2 or 1 bits, so that a query token turned
once by `back` is compared with the integers themselves. Three things make few bits enough:

- The axes and their bits are those of least noise in the score, not of least error: energy along an axis
  times what queries have along it; what is left below 1 bit an axis is seen through random mixtures.
- `back` is unbiased, E[x . decoded] = E[x . x]. The nearest decoded token would be shorter, along the weak
  axes most of all, and those tell one crater from the next.
- Codes are turned until each token's product with itself is kept: many query tokens share that direction's
  error, all others average out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crater_ray.search.records import Bytes, Floats, checked, finite

if TYPE_CHECKING:
    from torch import Tensor

Learnt = Mapping[str, NDArray[Any]]

IMAGE_BYTES: Final = 128  # of an image's mean
BITS: Final = (8, 4, 2, 1)  # kept an axis; of 8, 7 are used, so that a value fits int8
NOISE: Final = {8: 5e-4, 4: 0.0115, 2: 0.119, 1: 0.363}  # error of a uniform quantiser, of a unit normal
STEPS: Final = {8: 0.033, 4: 0.168, 2: 0.498, 1: 0.798}  # half its best step
SEEN: Final = 1 - NOISE[1]  # of the energy of an axis kept in one bit
FLOOR: Final = 1e-2  # of the mean energy of queries, added to each axis
SAMPLE: Final = 40_000  # tokens learnt from at most
TURNS: Final = 6  # codes a token that may be turned away from the nearest
NEAR: Final = np.float32(0.1)  # weight of staying near beside the token's product with itself
CHUNK: Final = 32  # images encoded at a time


class Residual:
    """`token_bytes` a token and IMAGE_BYTES an image; made of what `fit` learnt to be used."""

    scales = 0
    integers = True

    def __init__(self, token_bytes: int, learnt: Learnt | None = None) -> None:
        self.name = f"residual{token_bytes}"
        self.token_bytes = token_bytes
        self.learnt = learnt
        if learnt is not None:
            self._mean = np.asarray(learnt["mean"], np.float32)
            self._image = _Axes("image", IMAGE_BYTES, learnt)
            self._token = _Axes("token", token_bytes, learnt)

    def fit(self, tokens: Floats, seed: int) -> dict[str, NDArray[Any]]:
        """What to make the codec of: float32 arrays, and bits uint8, of a sample of tokens (n, K, D).

        Raises ValueError for fewer than two images.
        """
        if len(tokens) < 2:
            raise ValueError(f"{self.name} learns from two images or more, not {len(tokens)}")
        random = np.random.default_rng(seed)
        means = tokens.mean(1)
        mean = means.mean(0).astype(np.float32)
        flat = tokens.reshape(-1, tokens.shape[2])
        asked = (flat.T @ flat / len(flat)).astype(np.float64)  # queries look like what they look for
        learnt: dict[str, NDArray[Any]] = {
            "mean": mean,
            **_learn("image", means - mean, asked, IMAGE_BYTES, random),
        }
        image = _Axes("image", IMAGE_BYTES, learnt)
        base = mean + image.decode(image.nearest(means - mean))
        drawn = np.sort(random.permutation(len(flat))[:SAMPLE])
        rest = flat[drawn] - base[drawn // tokens.shape[1]]
        return {**learnt, **_learn("token", rest, asked, self.token_bytes, random)}

    def record_bytes(self, k: int, dim: int) -> int:
        return IMAGE_BYTES + k * self.token_bytes

    def encode(self, tokens: ArrayLike) -> tuple[Bytes, Floats]:
        values = finite(tokens)
        n, k, dim = values.shape
        self._check(dim)
        codes = np.empty((n, self.record_bytes(k, dim)), np.uint8)
        for start in range(0, n, CHUNK):
            some = values[start : start + CHUNK]
            spread = some.mean(1) - self._mean
            integers = self._image.nearest(spread)
            bases = self._mean + self._image.decode(integers)
            kept = self._token.turned(some.reshape(-1, dim), np.repeat(bases, k, axis=0))
            rows = slice(start, start + CHUNK)
            codes[rows, :IMAGE_BYTES] = self._image.pack(integers)
            codes[rows, IMAGE_BYTES:] = self._token.pack(kept).reshape(len(some), -1)
        return codes, np.empty((n, 0), np.float32)

    def decode(self, codes: Bytes, scales: Floats, k: int, dim: int) -> Floats:
        rest = self.operand(codes, k, dim).astype(np.float32) @ self._token.wide
        decoded: Floats = self.base(codes, k, dim)[:, None] + rest.reshape(len(codes), k, dim)
        return decoded

    def operand(self, codes: Bytes, k: int, dim: int) -> NDArray[Any]:
        """(N * K, 8 * token_bytes) int8, to be multiplied with `asked` queries; `base` is left to add."""
        return self._token.unpack(self._checked(codes, k, dim)[:, IMAGE_BYTES:])

    def base(self, codes: Bytes, k: int, dim: int) -> Floats:
        """(N, D) float32, what all tokens of an image share."""
        some = self._image.unpack(self._checked(codes, k, dim)[:, :IMAGE_BYTES])
        base: Floats = self._mean + some.astype(np.float32) @ self._image.wide
        return base

    def asked(self, queries: Tensor) -> Tensor:
        """Query tokens (n, D) as the operand takes them, (n, 8 * token_bytes)."""
        import torch

        return queries @ torch.from_numpy(self._token.wide).t()

    def _check(self, dim: int) -> None:
        if self.learnt is None:
            raise ValueError(f"{self.name} learns from a sample: make it of what its fit gives")
        if dim != len(self._mean):
            raise ValueError(f"{self.name} has learnt {len(self._mean)} dimensions, not {dim}")

    def _checked(self, codes: Bytes, k: int, dim: int) -> Bytes:
        self._check(dim)
        checked(self, codes, k, dim)
        return codes


class _Axes:
    """Integers along A axes, in `width` bytes: v = odd integers of y = x @ forward, x ~ v @ back."""

    def __init__(self, role: str, width: int, learnt: Learnt) -> None:
        self.width = width
        self.forward, self.back = learnt[f"{role}.forward"], learnt[f"{role}.back"]
        self.weights = learnt[f"{role}.weights"]
        bits = learnt[f"{role}.bits"].astype(np.int64)
        self.largest = np.minimum(2**bits - 1, 127).astype(np.float32)
        places = np.cumsum(bits) - bits
        self._byte, self._shift = places // 8, places % 8
        # a byte's integers stand in 8 columns of the operand, as large as int8 takes them; unused ones are 0
        columns = 8 * self._byte + self._shift // bits
        units = 127 // self.largest.astype(np.int64)
        self.wide = np.zeros((8 * width, self.back.shape[1]), np.float32)
        self.wide[columns] = self.back / units[:, None].astype(np.float32)
        every = np.arange(256)
        table = np.zeros((width, 256, 8), np.int8)
        for axis in range(len(bits)):
            level = (every >> self._shift[axis]) & (2 ** bits[axis] - 1)
            value = 2 * np.minimum(level, (self.largest[axis].astype(np.int64))) - self.largest[axis].astype(
                np.int64
            )
            table[self._byte[axis], :, columns[axis] % 8] = value * units[axis]
        self._table = table.view(np.int64).reshape(-1)
        self._starts = np.arange(width, dtype=np.int32) * 256

    def nearest(self, rest: Floats) -> Floats:
        """Odd integers (n, A), as floats."""
        return _odd(rest @ self.forward, self.largest)

    def decode(self, integers: Floats) -> Floats:
        decoded: Floats = integers @ self.back
        return decoded

    def turned(self, tokens: Floats, bases: Floats) -> Floats:
        """Odd integers (n, A), decoded to what has with tokens (n, D) the product these have themselves."""
        wanted = (tokens - bases) @ self.forward
        integers = _odd(wanted, self.largest)
        products = tokens @ self.back.T
        errors = ((bases - tokens) * tokens).sum(1) + (products * integers).sum(1)
        rows = np.arange(len(tokens))
        for _ in range(TURNS if tokens.size else 0):
            moves = np.where(errors[:, None] * products > 0, np.float32(-2), np.float32(2))
            # change of the squared error of the product, and of the weighted distance to what is wanted
            change = moves * products * (2 * errors[:, None] + moves * products)
            change += NEAR * self.weights * moves * (2 * (integers - wanted) + moves)
            change[np.abs(integers + moves) > self.largest] = 0
            best = change.argmin(1)
            turn = np.where(change[rows, best] < 0, moves[rows, best], np.float32(0))
            integers[rows, best] += turn
            errors += turn * products[rows, best]
        return integers

    def pack(self, integers: Floats) -> Bytes:
        """(n, width) uint8."""
        levels = ((integers + self.largest) / 2).astype(np.uint8)
        codes = np.zeros((len(levels), self.width), np.uint8)
        for shift in range(8):  # at most one axis of each byte begins at a bit
            here = self._shift == shift
            codes[:, self._byte[here]] |= levels[:, here] << np.uint8(shift)
        return codes

    def unpack(self, codes: Bytes) -> NDArray[np.int8]:
        """(rows, 8 * width) int8 of codes (n, some rows * width)."""
        import torch

        index = codes.reshape(-1, self.width).astype(np.int32)
        index += self._starts
        # eight columns at a time; numpy's take is slower
        found = torch.index_select(torch.from_numpy(self._table), 0, torch.from_numpy(index).view(-1))
        return found.numpy().view(np.int8).reshape(-1, 8 * self.width)


def _odd(values: Floats, largest: Floats) -> Floats:
    odd: Floats = np.clip(2 * np.floor(values / 2) + 1, -largest, largest).astype(np.float32)
    return odd


def _learn(
    role: str, rest: Floats, asked: NDArray[np.float64], width: int, random: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """forward (D, A), back (A, D), weights (A,), bits (A,) of vectors (n, D) and queries' second moment."""
    dim = rest.shape[1]
    spread = (rest.T @ rest / len(rest)).astype(np.float64)
    energy, axes = np.linalg.eigh(asked)
    energy = np.maximum(energy, 0) + FLOOR * max(float(energy.mean()), 1e-12)
    root = (axes * energy**0.25) @ axes.T
    values, columns = np.linalg.eigh(root @ spread @ root)
    values, columns = np.maximum(values[::-1], 0), columns[:, ::-1]
    counts = shares(values, width)
    whole, mixed = sum(counts[:3]), counts[3]
    if mixed:
        mixture = np.linalg.qr(random.standard_normal((dim - whole, dim - whole)))[0][:, :mixed]
        columns = np.concatenate([columns[:, :whole], columns[:, whole:] @ mixture], 1)
    else:
        columns = columns[:, :whole]
    bits = np.repeat(BITS, counts).astype(np.uint8)
    forward = root @ columns
    steps = np.repeat([STEPS[bit] for bit in BITS], counts) * np.sqrt(
        np.maximum((columns.T @ root @ spread @ root * columns.T).sum(1), 1e-12)
    )
    wanted = rest @ forward
    integers = _odd(wanted / steps, np.minimum(2.0**bits - 1, 127).astype(np.float32))
    seen = (wanted * integers).sum(0)
    gains = np.divide((wanted**2).sum(0), seen, out=np.zeros(len(bits)), where=seen > 0)
    if mixed:
        gains[whole:] *= (dim - whole) / mixed  # the rest of the mixtures is not seen
    back = gains[:, None] * (columns.T @ ((axes * energy**-0.25) @ axes.T))
    return {
        f"{role}.forward": np.ascontiguousarray(forward / steps, np.float32),
        f"{role}.back": np.ascontiguousarray(back, np.float32),
        f"{role}.weights": np.einsum("ad,de,ae->a", back, asked, back).astype(np.float32),
        f"{role}.bits": bits,
    }


def shares(energies: NDArray[np.floating[Any]], width: int) -> tuple[int, int, int, int]:
    """How many axes get 8, 4, 2 and 1 bits of `width` bytes, the strongest first, so that the noise is least.

    Noise of an unbiased axis is its energy * D / (1 - D), D the quantiser's error. One-bit axes are mixtures
    of all that is left, of whose energy they see SEEN * their share.
    """
    total = np.concatenate([[0.0], np.cumsum(energies)])
    dim, room = len(energies), 8 * width
    noise = {bit: error / (1 - error) for bit, error in NOISE.items()}
    least, best = np.inf, (0, 0, 0, 0)
    for eight in range(min(width, dim) + 1):
        four = np.arange(0, min(dim - eight, (room - 8 * eight) // 4) + 1, 2)[:, None]
        two = np.arange(0, min(dim, room // 2) + 1, 4)[None, :]
        whole = eight + four + two
        left = room - 8 * eight - 4 * four - 2 * two
        fits = (left >= 0) & (whole <= dim)
        whole = np.minimum(whole, dim)
        one = np.maximum(np.minimum(left, dim - whole), 0) // 8 * 8
        seen = np.maximum(SEEN * one / np.maximum(dim - whole, 1), 1e-9)
        cost = noise[8] * total[eight] + noise[4] * (total[np.minimum(eight + four, dim)] - total[eight])
        cost = cost + noise[2] * (total[whole] - total[np.minimum(eight + four, dim)])
        cost = np.where(fits, cost + (total[dim] - total[whole]) * (1 - seen) / seen, np.inf)
        place = np.unravel_index(int(cost.argmin()), cost.shape)
        if cost[place] < least:
            least = float(cost[place])
            best = (eight, int(four[place[0], 0]), int(two[0, place[1]]), int(one[place]))
    return best

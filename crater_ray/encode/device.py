"""The device that computes: by its name, whether it computes at all, and which errors are its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from crater_ray.errors import ConfigError, DeviceError

Part = TypeVar("Part")

_DEVICE_TYPES: tuple[type[BaseException], ...] = (
    torch.OutOfMemoryError,
    *filter(None, [getattr(torch, "AcceleratorError", None)]),  # from torch 2.8 on
)
_DEVICE_WORDS = re.compile(
    r"\b(CUDA|CUBLAS|CUDNN|CUSOLVER|CUFFT|CUSPARSE|NVRTC|NVML|NVIDIA|HIP|MIOPEN|device-side assert)", re.I
)
_MEMORY_WORDS = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED", re.I)


def named(name: str) -> torch.device:
    """The device a user asks for. Raises ConfigError for no device of torch's, or one that is not here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{name!r} is no device of torch's; use cpu, cuda or cuda:1") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(f"device {name!r} is not here: torch sees {count} CUDA devices; use cpu")
        return device
    try:
        check(device)
    except DeviceError as error:
        raise ConfigError(f"device {name!r} cannot be used here: {error.message}") from None
    return device


def check(device: torch.device) -> None:
    """Computes something small on the device. Raises DeviceError when that fails or comes out wrong."""
    try:
        numbers = torch.arange(64.0, device=device).reshape(8, 8)
        found = float((numbers @ numbers).sum())
    except Exception as error:  # drivers fail in many ways
        raise DeviceError(f"{device} does not compute: {_line(error)}") from error
    if found != 529_536.0:
        raise DeviceError(f"{device} computes wrongly: a sum that is 529,536 came out as {found:,.0f}")


def exact() -> None:
    """Float32 products on a GPU are float32's (no TF32), and convolutions choose one algorithm.

    Set and not left to torch's defaults, which allow TF32 in convolutions: it is part of what determines
    bytes.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def guarded(device: torch.device) -> Iterator[None]:
    """Turns the device's own errors, and memory that ran out, into DeviceError; every other one passes.

    An unknown RuntimeError is the device's where the device no longer computes afterwards: a broken CUDA
    context fails whatever is asked of it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _of_device(error, device):
            raise
        raise DeviceError(f"{device} failed: {_line(error)}") from error


def whole_or_halves(
    compute: Callable[[int, int], Part],
    join: Callable[[Sequence[Part]], Part],
    count: int,
    device: torch.device,
    halved: Callable[[], None],
) -> Part:
    """`compute(0, count)`; where memory does not hold that, the same of its halves, and of theirs, joined.

    Before it is halved it is tried once more, with all memory given back that nobody uses. `halved` is
    called for each time it is. Raises what `compute` raised for one image alone, or for another reason.
    """

    def span(first: int, stop: int) -> Part:
        for _ in range(2):
            try:
                return compute(first, stop)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                last = error.with_traceback(None)  # which holds on to what was computed
            _give_back(device)
        if stop - first < 2:
            raise last
        halved()
        middle = (first + stop + 1) // 2
        return join([span(first, middle), span(middle, stop)])

    return span(0, count)


class Aside:
    """What a second thread needs to take over from the one that computes: on a GPU, a stream of its own.

    On a CPU nothing: one thread's arrays are another's.
    """

    def __init__(self, device: torch.device) -> None:
        stream: Any = torch.cuda.Stream
        self._stream = stream(device) if device.type == "cuda" else None

    def mark(self) -> Any:
        """Where the computing thread is now."""
        return None if self._stream is None else torch.cuda.current_stream(self._stream.device).record_event()

    @contextmanager
    def after(self, mark: Any, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Inside, what is done to `tensors` waits for `mark`, and for nothing that was asked for later."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(mark)
            for tensor in tensors:
                tensor.record_stream(self._stream)
            yield


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors on the CPU; from a GPU through page-locked memory, all waited for at once."""
    if not any(tensor.is_cuda for tensor in tensors):
        return [tensor.cpu() for tensor in tensors]
    copies = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).record_event().synchronize()
    return copies


def _of_device(error: BaseException, device: torch.device) -> bool:
    if isinstance(error, _DEVICE_TYPES) or _out_of_memory(error):
        return True
    if isinstance(error, NotImplementedError):  # an operator that is not there: the caller's fault
        return False
    if _DEVICE_WORDS.search(str(error)):
        return True
    if device.type == "cpu":
        return False
    try:
        check(device)
    except DeviceError:
        return True
    return False


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(_MEMORY_WORDS.search(str(error)))


def _give_back(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _line(error: BaseException) -> str:
    """Its type and first line: torch adds advice to the others."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

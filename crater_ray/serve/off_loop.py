"""Files and object storage from an event loop: in threads of their own, of which there are few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Value = TypeVar("Value")
THREADS = 4  # a storage that hangs holds up so many requests, and no other
_THREADS = ThreadPoolExecutor(THREADS, thread_name_prefix="crater-ray-files")


async def off_loop(work: Callable[Given, Value], *arguments: Given.args, **more: Given.kwargs) -> Value:
    """What `work` gives; the loop answers other requests meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *arguments, **more))

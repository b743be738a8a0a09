"""Disks, and what may go wrong with them: a reader, a backbone and an aggregator that fail on demand."""

import ctypes
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch

from crater_ray.testing import FakeBackbone
from crater_ray.testing.fakes import FailingBackbone
from crater_ray.types import Tokens
from crater_ray_rig.disks import Disks


class Faulty(Disks):
    """`fault` at the items named by `at`; every load writes "node pid id" into the FIFO `events`."""

    def __init__(self, items, per_part, fault, at, events, pause):
        super().__init__(items, per_part, 0, None, "", (), (), (), False, "")
        self.fault, self.at, self.events, self.pause = fault, at, events, pause

    def read(self, part):
        for item in super().read(part):
            if item.id in self.at and self.fault == "unlisted":
                raise RuntimeError("the catalogue ends in the middle of a line")
            if item.id in self.at and self.fault == "again":
                item = replace(item, id="i00000")  # of the first part
            yield item

    def load(self, uri):
        if self.events is not None:
            with open(self.events, "w") as fifo:
                fifo.write(f"{os.environ.get('RIG_NODE', '-')} {os.getpid()} {uri}\n")
        time.sleep(self.pause)  # a slow disk
        if uri in self.at:
            if self.fault == "segfault":
                ctypes.string_at(0)
            elif self.fault == "hang":
                threading.Event().wait()
            elif self.fault == "error":
                raise RuntimeError("the reader's own fault")
        return super().load(uri)


class FaultyBackbone(FakeBackbone):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def __call__(self, images):
        tokens = super().__call__(images)
        patches, cls = tokens.patches, tokens.cls
        if self.fault == "nan":
            patches = torch.full_like(patches, torch.nan)
        elif self.fault == "nan of the first":
            patches[0] = torch.nan
        elif self.fault == "fewer tokens":
            patches = patches[:, :-1]
        elif self.fault == "fewer images":
            patches = patches[:-1]
        elif self.fault == "no class token":
            cls = None
        return Tokens(patches, tokens.grid, cls, tokens.attention)


def failing_backbone(fault, after, above, once):
    return FailingBackbone(fault, after, above, None if once is None else Path(once))


class WrongK:
    """Promises two rows, gives three."""

    k = 2

    def __init__(self, shape):
        self.dim = shape.dim

    def __call__(self, tokens, side):
        return torch.nn.functional.normalize(tokens.patches[:, :3], dim=-1)

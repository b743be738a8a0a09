"""check_plugin tries a whole plugin as a job would; each fault is named by spec, file and line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crater_ray.testing import ConformanceError, check_plugin

TEMPLATE = Path(__file__).parents[2] / "plugins" / "template"
HEAD = """
import pyarrow as pa
import torch
from torch.nn.functional import normalize
from crater_ray.plugins import Options, PluginSpec, hookimpl
from crater_ray.testing import FakeBackbone, FakeReader
from crater_ray.types import Tokens, TokenShape

crater_ray_seam = 1
"""
AGGREGATOR = """
class Own(Options):
    k: int = 2

@hookimpl
def register_aggregators():
    yield PluginSpec("strange", "made for a test", "stranger:Strange", Own)

class Strange:
    def __init__(self, shape{more}):
        self.k, self.dim = 2, shape.dim

    def __call__(self, tokens, side):
        {rows}
"""
READER = """
@hookimpl
def register_readers():
    yield PluginSpec("strange", "made for a test", "stranger:Strange")

class Strange(FakeReader):
"""
BACKBONE = """
@hookimpl
def register_backbones():
    yield PluginSpec("strange", "made for a test", "stranger:Strange")

class Strange(torch.nn.Module):
    shape = TokenShape(3, (2, 2), 0, False)

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    @property
    def digest(self):
        return {digest}

    def preprocess(self, image):
        return torch.from_numpy(image.copy()).permute(2, 0, 1).float()[:, :1, :1].repeat(1, 2, 2) + 1

    def forward(self, images):
        return Tokens(images.flatten(2).transpose(1, 2) * self.scale, (2, 2))
"""
SQUARE = "side = int(tokens.patches.shape[1] ** 0.5); tokens.patches.reshape(-1, side, side, 32); "
COLUMNS = "    columns = pa.schema([('uri', pa.string()), ('lat', pa.float64()), ('body', pa.string())])"
ROWS = "return normalize(tokens.patches[:, :2].float(), dim=-1)"


def aggregator(rows: str, more: str = ", k") -> str:
    return AGGREGATOR.format(rows=rows, more=more)


Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of hooks and factories; its name."""

    def made(text: str) -> str:
        (tmp_path / "stranger.py").write_text(HEAD + text)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        return "stranger"

    yield made
    sys.modules.pop("stranger", None)


def test_the_template_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TEMPLATE))
    check_plugin("crater_ray_template")
    check_plugin("crater_ray_template", {"template_blocks": {"side": 3}, "template_disks": {"disks": 2}})
    with pytest.raises(ConformanceError, match=r"registers no 'nobody'; it has template_disks, "):
        check_plugin("crater_ray_template", {"nobody": {}})


@pytest.mark.parametrize(
    "text",
    [
        aggregator(ROWS),
        READER + "    pass",
        BACKBONE.format(digest="f'scale {float(self.scale.detach())}'"),
    ],
)
def test_an_honest_plugin_passes(write: Write, text: str) -> None:
    check_plugin(write(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (aggregator(ROWS, more=""), r"stranger:Strange does not take its options: got an unexpected .* 'k'"),
        (aggregator(ROWS).replace("class Strange", "class Other"), "cannot be imported: AttributeError"),
        (
            aggregator(SQUARE + ROWS),
            r"with a grid of 9 × 15: RuntimeError: .* \(.*/stranger.py, line \d+\)",
        ),
        (aggregator(ROWS.replace(".float()", "")), "of bf16 tokens its rows are torch.bfloat16, not float32"),
        (aggregator("tokens.attention.sum(); " + ROWS), "with no attention: AttributeError: 'NoneType'"),
        (aggregator("tokens.cls.sum(); " + ROWS), "with no class token: AttributeError: 'NoneType'"),
        (READER + "    def parts(self):\n        return []", "it lists no item with these options"),
        (READER + "    def load(self, uri):\n        return b'nothing'",
         "the image of 'item-0000' cannot be used"),
        (READER + "    def cut(self, lat, lon, diameter_km, body):\n        return self.load('0')",
         "reader 'strange' of .* has cut, but its PluginSpec says cuts=False; write cuts=True there"),
        (READER.replace('"stranger:Strange"', '"stranger:Strange", cuts=True') + "    pass",
         "lacks cut, but its PluginSpec says cuts=True"),
        (READER + COLUMNS, r"columns has \['uri'\], words of the index itself"),
        (READER + "    def read(self, part):\n        return {}['gone']",
         r"reader 'strange' of stranger: KeyError: 'gone' \(.*/stranger.py, line \d+\)"),
        (BACKBONE.format(digest="'always the same'"), "digest stays as it is when the weights change"),
        (READER.replace('"stranger:Strange"', '"stranger:Strange", Needs')
         .replace("@hookimpl", "class Needs(Options):\n    root: str\n\n@hookimpl") + "    pass",
         "its options do not hold: root is required; give check_plugin those of a job"),
        ("@hookimpl\ndef register_nothing():\n    yield", "unknown hook 'register_nothing'"),
    ],
)  # fmt: skip
def test_each_fault_is_caught(write: Write, text: str, said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        check_plugin(write(text))


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ConformanceError, match="is no installed distribution, and no module"):
        check_plugin("crater_ray_nobody")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import a_module_that_nobody_has", "cannot be loaded: ModuleNotFoundError: .*stranger.py, line"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError: .*stranger.py, line"),
        ("import sys; sys.exit(3)", "cannot be loaded: SystemExit: 3"),
        ("crater_ray_seam = 99", "crater_ray_seam = 1.*declares 99"),
    ],
)
def test_a_plugin_that_does_not_load_is_named(write: Write, line: str, said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        check_plugin(write(line))


@pytest.mark.parametrize("name", ["crater-ray-mosaic", "Crater_Ray_Mosaic", "crater.ray.mosaic"])
def test_every_spelling_of_a_distribution_is_found(name: str) -> None:
    with pytest.raises(ConformanceError, match=r"reader 'mosaic' of crater-ray-mosaic: .*raster is required"):
        check_plugin(name)

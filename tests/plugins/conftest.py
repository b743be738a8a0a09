"""Fake installations: folders that the registry takes for site-packages, and nothing else."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crater_ray.plugins import Registry, registry

HEAD = "from crater_ray.plugins import File, PluginSpec, Options, hookimpl\n"
SEAM = "crater_ray_seam = 1\n"
SITES = Path(__file__).parents[1] / "plugins_site"


@pytest.fixture
def sites() -> Path:
    """The folder with healthy/ and broken/."""
    return SITES


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Call with folders: the registry of a machine where exactly these are installed beside crater-ray."""
    before = set(sys.modules)
    found = importlib.metadata.distributions
    monkeypatch.delenv("CRATER_RAY_PLUGINS", raising=False)

    def install(*folders: Path) -> Registry:
        paths = [str(folder) for folder in folders]
        for path in reversed(paths):
            monkeypatch.syspath_prepend(path)
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: found(path=paths))
        importlib.invalidate_caches()
        registry.cache_clear()
        return registry()

    yield install
    registry.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith(("crater_ray_fake", "broken_", "made_")):
            del sys.modules[name]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Call with a distribution, its version and its source: a folder where it is installed."""

    def write(
        distribution: str,
        version: str,
        source: str,
        folder: str | None = None,
        points: str | None = None,
        seam: str = SEAM,
    ) -> Path:
        site = tmp_path / (folder or f"{distribution}-{version}")
        module = distribution.replace("-", "_")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points or f"[crater_ray]\n{module} = {module}\n")
        (site / f"{module}.py").write_text(HEAD + seam + source)
        return site

    return write

"""Which way the arrows point (docs/architecture.md): a forbidden import is named by file and line."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from crater_ray.plugins.public import PUBLIC

ROOT = Path(__file__).parents[1]
CORE = ROOT / "crater_ray"
WORDS = {
    "bodies",
    "errors",
    "types",
    "config",
    "files",
    "image_files",
    "images",
    "jobfile",
    "pairs",
    "plugins",
    "precision",
    "ray_log",
    "request",
    "text",
    "used",
}  # what every room may import
TORCH_AT_TOP = {"encode", "builtin", "search", "testing"}
WITH_RAY = {"jobs", "serve", "start"}

# what a room may import beside the words and itself; a room that is not named: anything but builtin
NOTHING: set[str] = set()
MAY: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, NOTHING),
    **dict.fromkeys(("encode", "index", "search", "sheet"), NOTHING),
    "encoders": {"encode", "index"},
    "filters": NOTHING,
    "hits": {"retrieve", "sheet", "tables"},
    "pipeline": NOTHING,
    "retrieve": {"encode", "encoders", "filters", "hits", "index", "pipeline", "search", "shard"},
    "shard": {"index", "retrieve", "search"},
    "tables": NOTHING,
    "testing": {"encode"},
}
NEVER: dict[str, set[str]] = {
    "evaluation": {"serve"},
    "serve": {"evaluation"},
    "jobs": {"evaluation", "serve", "cli"},
}


def room(path: Path) -> str:
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, text: str | None = None) -> Iterator[tuple[str, int, bool]]:
    """Every module a file imports, with its line, and whether at module level outside TYPE_CHECKING."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package.split(".")
                above = above[: len(above) - child.level + 1] if child.level else []
                base = [*above, *([child.module] if child.module else [])]
                yield from ((".".join([*base, alias.name]), child.lineno, top) for alias in child.names)
            elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                for statement in child.body:
                    yield from walk(ast.Module([statement], []), False)
                for statement in child.orelse:
                    yield from walk(ast.Module([statement], []), top)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, top and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8") if text is None else text), True)


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not {"build", ".venv"} & set(path.parts))


def is_room(name: str) -> bool:
    """False for a public name of the package itself, such as load_job."""
    return (CORE / name).is_dir() or (CORE / f"{name}.py").is_file()


def of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


CORE_FILES = sources(CORE)
ALL_FILES = CORE_FILES + sources(ROOT / "plugins") + sources(ROOT / "tests") + sources(ROOT / "benchmarks")
PLUGIN_FILES = [path for path in sources(ROOT / "plugins") if "tests" not in path.relative_to(ROOT).parts]


def breaches(paths: Iterable[Path], allowed: Callable[[Path, str, bool], bool]) -> list[str]:
    """A line for every import that `allowed(path, module, at module level)` refuses."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in paths
        for module, line, top in imports(path)
        if not allowed(path, module, top)
    ]


def test_a_room_imports_only_what_it_may() -> None:
    def allowed(path: Path, module: str, top: bool) -> bool:
        here, there = room(path), (*module.split("."), "")[1]
        if not of(module, "crater_ray") or there in {here, ""} or not is_room(there):
            return True
        if here == "builtin":
            return any(of(module, public) for public in PUBLIC)
        return there in WORDS or (
            there != "builtin" and there in MAY.get(here, {there}) and there not in NEVER.get(here, NOTHING)
        )

    assert not breaches(CORE_FILES, allowed)


def test_only_jobs_serve_and_start_import_ray() -> None:
    assert not breaches(CORE_FILES, lambda path, module, top: room(path) in WITH_RAY or not of(module, "ray"))


def test_only_the_rooms_of_arrays_import_torch_at_module_level() -> None:
    heavy = ("torch", "torchvision", "timm")
    assert not breaches(
        CORE_FILES,
        lambda path, module, top: (
            room(path) in TORCH_AT_TOP or not top or not any(of(module, name) for name in heavy)
        ),
    )


def test_a_plugin_imports_only_what_is_public() -> None:
    def allowed(path: Path, module: str, top: bool) -> bool:
        if not of(module, "crater_ray") or any(of(module, public) for public in PUBLIC):
            return True
        return not is_room((*module.split("."), "")[1])

    assert not breaches(PLUGIN_FILES, allowed)


def test_the_public_modules_are_there_and_explained_in_the_docs() -> None:
    told = (ROOT / "docs" / "reference" / "plugins.md").read_text(encoding="utf-8")
    for module, what in PUBLIC.items():
        assert find_spec(module) is not None
        assert f"| `{module}` | {what} |" in told


def test_a_file_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ALL_FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_the_scan_sees_relative_nested_conditional_and_typing_imports() -> None:
    text = """
import os, ray.data
from typing import TYPE_CHECKING
from . import kernel
from ..index import parts
if TYPE_CHECKING:
    import torch
try:
    import faiss
except ImportError:
    pass
def later():
    from crater_ray.index import versions
"""
    found = {(module, top) for module, _, top in imports(CORE / "search" / "imagined.py", text)}
    assert found == {
        ("os", True),
        ("ray.data", True),
        ("typing.TYPE_CHECKING", True),
        ("faiss", True),
        ("crater_ray.search.kernel", True),
        ("crater_ray.index.parts", True),
        ("torch", False),
        ("crater_ray.index.versions", False),
    }


def test_ci_runs_the_checks_and_the_readme_s_test_command() -> None:
    """An empty script would pass as well."""
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-2:] == ["make check", "make test"]
    assert "set -euo pipefail" in lines
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")

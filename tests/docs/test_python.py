"""Every Python block of a page compiles, and the names it imports are there."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "docs"))

from blocks import Block, blocks

PYTHON = [block for block in blocks("python") if block.page.name != "architecture.md"]  # signatures in short


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_block_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("my_"):
            module = importlib.import_module(node.module or "")
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")

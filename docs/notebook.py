"""Notebooks of the tutorials: run, and as a page of the site.

python docs/notebook.py     # runs each again, with its outputs, in a folder of its own; two minutes
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOKS = sorted((Path(__file__).parent / "tutorial").glob("*.ipynb"))


def executed(path: Path, folder: Path) -> dict[str, Any]:
    """The notebook, run in `folder` from its first cell to its last. Raises CellExecutionError."""
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=800, kernel_name="python3", resources=resources).execute()
    found: dict[str, Any] = json.loads(nbformat.writes(book))
    for cell in found["cells"]:
        cell["metadata"] = {}  # times of the run
        if cell["cell_type"] == "code":
            cell["outputs"] = [one for one in cell["outputs"] if one.get("name") != "stderr"]  # progress
    found["metadata"] = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return found


def markdown(path: Path) -> str:
    """The notebook as a page: code and what it printed."""
    return "\n\n".join(_parts(path, json.loads(path.read_text(encoding="utf-8")))) + "\n"


def _parts(path: Path, book: dict[str, Any]) -> Iterator[str]:
    for number, cell in enumerate(book["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield text
            if not number:
                yield f"<!-- Written by `make fix` out of {path.name}. -->"
            continue
        yield f"```python\n{text}\n```"
        for shown in map(printed, cell["outputs"]):
            if shown:
                yield f"```text\n{shown}\n```"


def printed(output: dict[str, Any]) -> str:
    """What a cell's output says as text."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "")).rstrip()


def main() -> None:
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            book = executed(path, Path(folder))
        path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What every form of input comes to: the rows of docs/inputs.md, each of them tried by tests/test_inputs.py.

To add rows: a module of this folder with ROWS, and its line in TABLES.
"""

from __future__ import annotations

from inputs import images, rasters
from inputs.row import Row

TABLES: dict[str, tuple[Row, ...]] = {
    "Images (`folder`, `manifest`, queries, training)": images.ROWS,
    "Rasters (`mosaic`, `mosaic-bench`)": rasters.ROWS,
}


def markdown() -> str:
    """The tables, without a heading of their own."""
    parts = []
    for title, rows in TABLES.items():
        parts.append(f"\n## {title}\n\n| input | read, or refused with |\n|---|---|\n")
        parts += [f"| {row.form} | {row.answer if row.is_read else f'“{row.answer}”'} |\n" for row in rows]
    return "".join(parts)

"""What every form of input comes to: the rows of docs/reference/inputs.md, tried by tests/test_inputs.py.

To add rows: a module of this folder with ROWS, and its line in TABLES.
"""

from __future__ import annotations

from inputs import (
    catalogue_files,
    catalogue_numbers,
    catalogue_text,
    images,
    overlaps,
    photographs,
    places,
    rasters,
    scenes,
    tables,
)
from inputs.row import Row

TABLES: dict[str, tuple[Row, ...]] = {
    "Images (`folder`, `manifest`, `query`, HTTP, training)": images.ROWS,
    "Folders and manifests (`folder`, `manifest`)": tables.ROWS,
    "Rasters (`mosaic`, `catalogues`, `mosaic-bench`)": rasters.ROWS,
    "Places of rasters: projection, extent, body": places.ROWS,
    "Catalogues: text tables (`mosaic`, `catalogues`, `second_drop`)": catalogue_text.ROWS,
    "Catalogues: vector layers, workbooks, other files": catalogue_files.ROWS,
    "Catalogues: rows and conventions": catalogue_numbers.ROWS,
    "Images of unknown place (`match`)": scenes.ROWS,
    "Photographs and pair lists (`colmap`, `pairs`)": photographs.ROWS,
    "Overlap files (`train`)": overlaps.ROWS,
}


def markdown() -> str:
    """The tables, without a heading of their own."""
    parts = []
    for title, rows in TABLES.items():
        parts.append(f"\n## {title}\n\n| input | read, or refused with |\n|---|---|\n")
        parts += [f"| {row.form.replace('|', chr(92) + '|')} | {row.outcome} |\n" for row in rows]
    return "".join(parts)

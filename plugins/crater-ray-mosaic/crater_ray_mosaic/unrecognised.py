"""What to give in place of a file that no driver of GDAL recognises."""

from __future__ import annotations

from pathlib import Path

_LABELS = (".lbl", ".lblx", ".xml", ".hdr")  # PDS3, PDS4, ENVI: they say what lies in a file beside them
_ARCHIVES = {".zip": "vsizip", ".tar": "vsitar", ".tgz": "vsitar", ".gz": "vsigzip"}


def advice(path: Path, reason: str) -> str:
    """What to do, beginning with "; "; empty where nothing is known or GDAL did recognise the file."""
    if "not recognized as being in a supported file format" not in reason:
        return ""
    way = "vsitar" if path.name.lower().endswith(".tar.gz") else _ARCHIVES.get(path.suffix.lower())
    if way:
        return f"; unpack it, or give /{way}/{path}{'' if way == 'vsigzip' else '/NAME.tif'}"
    if not path.is_file():
        return "; give a file" if path.is_dir() else ""
    beside = (
        other
        for other in sorted(path.parent.iterdir())
        if other.suffix.lower() in _LABELS and other.stem.lower() in (path.stem.lower(), path.name.lower())
    )
    label = next(beside, None)
    return f"; give its label as the raster: {label.name}" if label else ""

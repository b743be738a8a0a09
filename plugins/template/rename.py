"""Turns this copy of the template into your own plugin: python rename.py my-name

Every name in it derives from the one word, so this is a text substitution: the distribution and the command
get hyphens, all else underscores. The script removes itself and its part of the README when it is done.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

OLD = "template"


def rename(folder: Path, name: str) -> None:
    """Renames in place. Raises ValueError for a name that no package can have."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"{name!r}: use lower-case letters, digits and single hyphens, as in my-name")
    module = name.replace("-", "_")
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = re.sub(r"<!-- copy -->.*?<!-- /copy -->\n+", "", text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside before its folder
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # .git, .venv
        if path.suffix in {".py", ".toml", ".md"} and path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8")
            text = re.sub(rf"(crater-ray-){OLD}|\b{OLD}(?=-)", lambda found: f"{found[1] or ''}{name}", text)
            path.write_text(text.replace(OLD, module), encoding="utf-8")
        if OLD in path.name:
            path.rename(path.with_name(path.name.replace(OLD, module)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python rename.py my-name")
    here = Path(__file__).resolve()
    try:
        rename(here.parent, sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
    here.unlink()

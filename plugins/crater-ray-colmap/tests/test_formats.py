"""Photographs in the forms that people have them: COLMAP gets the images and pairs that the index had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crater_ray.plugins import registry
from crater_ray.testing import FakeIndex
from crater_ray_colmap.consumer import Colmap

FORMS = ["IMG 0.webp", "#1.png", "sub dir/2.tif", "3.gif", "4\u202f.jpg"]


@pytest.mark.real
def test_every_form_is_matched_as_its_png_is(copr: Path, tmp_path: Path) -> None:
    told = {}
    for kind, names in (("png", [f"{number}.png" for number in range(5)]), ("forms", FORMS)):
        folder, out = tmp_path / kind, tmp_path / f"out {kind}"
        for source, name in zip(sorted(copr.glob("*.jpg")), names, strict=False):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with Image.open(source) as image:
                grey = image.convert("L").resize((450, 300))
            if name.endswith(".tif"):  # of a 12-bit camera
                grey = Image.fromarray(np.asarray(grey).astype(np.uint16) * 16)
            grey.save(folder / name, **({"lossless": True} if name.endswith(".webp") else {}))
        index = FakeIndex(registry().build(registry().ref("reader", "folder", {"root": folder})))
        consumer = Colmap(images=folder, top=4, mapping=False, threads=2, features=1024, cameras="image")
        consumer(index, index.neighbours(4), out)
        told[kind] = json.loads((out / "report.json").read_text())
        assert told[kind]["methods"][0]["pairs"] == 10
        assert told[kind]["features"]["without"] == []
    png, forms = (told[kind]["methods"][0]["verified_pairs"] for kind in ("png", "forms"))
    assert forms == png >= 3
    assert told["png"]["converted"] == []
    converted = ["3.gif.png", "IMG%200.webp.png", "sub%20dir/2.tif.png"]
    assert told["forms"]["converted"] == converted
    assert (out / "pairs.txt").read_text().splitlines()[0] == "%231.png 3.gif.png"

"""What came out, for people (Markdown, a figure) and for programs (JSON)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crater_ray.files import write_whole
from crater_ray_colmap import ColmapOptions
from crater_ray_colmap.figure import draw
from crater_ray_colmap.names import colmap_name
from crater_ray_colmap.pictures import Gallery, Picture
from crater_ray_colmap.stage import write_json

SHAPES = "shapes.npz"  # where a method's cameras and points lie
COLUMNS = (
    "pairs from",
    "pairs",
    "verified",
    "registered",
    "models",
    "points",
    "track length",
    "reprojection error, px",
    "seconds: choosing",
    "matching",
    "mapping",
)


@dataclass(frozen=True)
class Method:
    """One way of choosing pairs and the answers of its stages."""

    name: str
    pairs: int
    matched: Mapping[str, Any]
    mapped: Mapping[str, Any] | None  # None: mapping was not asked for
    told: Mapping[str, Any]  # of choosing, where that took a stage

    @property
    def models(self) -> list[dict[str, Any]]:
        """The largest first."""
        return list(self.mapped["models"]) if self.mapped else []

    def as_dict(self) -> dict[str, Any]:
        """Numbers of all models together: points add up, track length and error are means over all points."""
        models = self.models
        points = sum(model["points"] for model in models)
        observations = sum(model["observations"] for model in models)
        error = sum(model["mean_reprojection_error"] * model["points"] for model in models)
        stages = {"choosing": self.told, "matching": self.matched, "mapping": self.mapped or {}}
        return {
            "method": self.name,
            "pairs": self.pairs,
            "verified_pairs": len(self.matched["inliers"]),
            "registered": len({name for model in models for name in model["images"]}),
            "points": points,
            "mean_track_length": observations / points if points else None,
            "mean_reprojection_error": error / points if points else None,
            "seconds": {stage: told.get("seconds") for stage, told in stages.items()},
            "resumed": [stage for stage, told in stages.items() if told.get("resumed")],
            "models": [{**model, "folders": folders(model["images"])} for model in models],
        }


def renamed(picture: Picture) -> bool:
    """Beside the .png of what was converted."""
    return bool(picture.source) and colmap_name(picture.source) != picture.source


def folders(names: Sequence[str]) -> dict[str, int]:
    """How many images of each first folder; "" for names without one."""
    return dict(sorted(Counter(name.rpartition("/")[0].split("/")[0] for name in names).items()))


def write(
    out: Path,
    methods: Sequence[Method],
    features: Mapping[str, Any],
    options: ColmapOptions,
    gallery: Gallery,
) -> Path:
    """out/report.md, beside report.json and report.png."""
    pictures = gallery.pictures
    told = {
        "images": len(pictures),
        "folder": str(gallery.folder),
        "converted": [picture.name for picture in pictures if picture.converted],
        "renamed": {picture.source: picture.name for picture in pictures if renamed(picture)},
        "features": dict(features),
        "methods": [method.as_dict() for method in methods],
        "options": options.model_dump(mode="json", exclude={"images"}),
    }
    write_json(out / "report.json", told)
    draw(
        out / "report.png",
        {
            method.name: (method.matched["inliers"], out / method.name / "model" / SHAPES)
            for method in methods
        },
        {method.name: method.models for method in methods},
    )
    write_whole(out / "report.md", as_markdown(told).encode())
    return out / "report.md"


def as_markdown(told: Mapping[str, Any]) -> str:
    features, top = told["features"], told["options"]["top"]
    lines = [
        "# COLMAP over retrieved pairs",
        "",
        f"{told['images']} images, {features['cameras']} cameras, {features['keypoints']:,} keypoints "
        f"in {features['seconds']:.1f} s (pycolmap {features['pycolmap']}). "
        f"Retrieved: each image with {top} neighbours.",
        "",
        _row(COLUMNS),
        _row(["---", *["---:"] * (len(COLUMNS) - 1)]),
        *(_row(_cells(method, told["images"])) for method in told["methods"]),
        "",
        "![Verified pairs, and cameras and points of the models](report.png)",
    ]
    several = [method for method in told["methods"] if len(method["models"]) > 1]
    for method in several:
        lines += ["", f"Models from {method['method']} pairs:", ""]
        for model in method["models"]:
            where = ", ".join(f"{name or 'images'} {count}" for name, count in model["folders"].items())
            lines.append(
                f"- model/sparse/{model['folder']}: {len(model['images'])} images ({where}), "
                f"{model['points']:,} points, track length {model['mean_track_length']:.2f}, error "
                f"{model['mean_reprojection_error']:.3f} px"
            )
    converted, names = told["converted"], told["renamed"]
    notes = [
        f"COLMAP cannot read {len(converted)} of the files: they were converted to PNG in {told['folder']}"
        if converted
        else "",
        f"{len(names)} names cannot stand in a list of pairs; here {next(iter(names))!r} is "
        f"{next(iter(names.values()))!r}, and all images lie under such names in {told['folder']}"
        if names
        else "",
        f"Without a single keypoint, so in no model: {', '.join(features['without'])}"
        if features["without"]
        else "",
        *(
            f"{method['method']}: {', '.join(method['resumed'])} was cut; its seconds are of the last run"
            for method in told["methods"]
            if method["resumed"]
        ),
    ]
    lines += ["", *(f"- {note}." for note in notes if note)]
    return "\n".join(lines).rstrip() + "\n"


def _cells(method: Mapping[str, Any], images: int) -> list[str]:
    seconds = method["seconds"]
    mapped = seconds["mapping"] is not None

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        method["method"],
        f"{method['pairs']:,}",
        f"{method['verified_pairs']:,}",
        f"{method['registered']} of {images}" if mapped else "",
        str(len(method["models"])) if mapped else "",
        f"{method['points']:,}" if mapped else "",
        number(method["mean_track_length"], ".2f"),
        number(method["mean_reprojection_error"], ".3f"),
        *(number(seconds[stage], ".1f") for stage in ("choosing", "matching", "mapping")),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

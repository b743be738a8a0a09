"""The CraterBench-R layout, read, written and validated: the sole owner of its keys.

    images/gallery/ images/query/ images/train/     written by the caller
    splits/test.json                                {split_name, version, gallery_images, query_images}
    splits/train.json                               {split_name, version, gallery_images}
    metadata/query_relevance.json                   crater -> {raw_relevant_ids, relevant_ids: in the gallery}
    metadata/stats.json                             {release_version, official: counts}
    metadata/source/retrieval_ground_truth_raw.csv  query_crater_id, relevant_crater_ids joined by ";"

An image is {image_id, path, crater_id, view_type}; a query may add relevant_ids of its own. The published
release uses these names for train.json and stats.json; its other names are not known, so reading is tolerant.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from crater_ray.errors import ReaderError
from crater_ray.files import write_whole

Split = Literal["gallery", "query", "train"]

TEST = "splits/test.json"
TRAIN = "splits/train.json"
RELEVANCE = "metadata/query_relevance.json"
STATS = "metadata/stats.json"
RAW = "metadata/source/retrieval_ground_truth_raw.csv"

_PATHS = ("path", "image_path", "file_path", "file_name", "filename", "image")
_IDS = ("crater_id", "query_crater_id", "query_id", "crater", "id", "label", "group")
_VIEWS = ("view_type", "view_id", "view")
_RELEVANT = (
    "relevant_ids",
    "gallery_relevant_ids",
    "filtered_relevant_ids",
    "relevant_crater_ids",
    "relevant",
    "filtered",
    "gt_ids",
    "gt",
    "ground_truth",
    "positives",
    "labels",
)
_RAW = (
    "raw_relevant_ids",
    "raw_co_visible_ids",
    "co_visible_crater_ids",
    "co_visible_ids",
    "co_visible",
    "covisible_ids",
    "covisible",
    "raw",
)
_COUNTS = (
    "gallery_images",
    "gallery_crater_ids",
    "query_images",
    "query_crater_ids",
    "train_images",
    "train_crater_ids",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a split."""

    path: str  # below the root, forward slashes: images/gallery/x.jpg
    crater_id: str
    view: str = ""  # "2x", "3x"; free text
    relevant: tuple[str, ...] = ()  # of a query: crater ids in the gallery, its own first


# reading


def read_layout(root: Path | str, split: Split) -> list[Entry]:
    """The entries of one split in file order; queries come with the gallery's relevant crater ids.

    A query's own crater counts as relevant wherever the gallery has it.
    Raises ReaderError naming file, key and remedy.
    """
    root = Path(root)
    if split == "train":
        return [_entry(record, TRAIN, number) for number, record in enumerate(_images(root, TRAIN, "train"))]
    gallery = [_entry(record, TEST, number) for number, record in enumerate(_images(root, TEST, "gallery"))]
    if split == "gallery":
        return gallery
    if split != "query":
        raise ReaderError(f"{split!r} is not a split of {root}; use gallery, query or train")
    return _queries(root, {entry.crater_id for entry in gallery})


def _queries(root: Path, gallery: set[str]) -> list[Entry]:
    records = _images(root, TEST, "query")
    shared: dict[str, tuple[str, ...]] | None = None
    entries = []
    for number, record in enumerate(records):
        entry = _entry(record, TEST, number)
        relevant = _relevant(record, gallery, f"{TEST}, query {number}")
        if relevant is None:
            if shared is None:  # read only when some query does not carry its own
                shared = _shared_relevance(root, gallery)
            names = (entry.crater_id, entry.path, PurePosixPath(entry.path).stem)
            relevant = next((shared[one] for one in names if one in shared), None)
        if relevant is None:
            raise ReaderError(
                f"{root / RELEVANCE} says nothing of crater {entry.crater_id!r}, which {TEST} "
                f"queries; add it there, or relevant_ids to the query's entry"
            )
        own = (entry.crater_id,) if entry.crater_id in gallery else ()
        unique = tuple(dict.fromkeys((*own, *relevant)))
        entries.append(Entry(entry.path, entry.crater_id, entry.view, unique))
    return entries


def read_json(root: Path, name: str) -> Any:
    path = root / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ReaderError(
            f"{path} does not exist; {root} is not in the CraterBench-R layout, or was not unpacked whole"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ReaderError(f"{path} cannot be read: {error}; fetch or write it again") from None


def _images(root: Path, name: str, word: str) -> list[Mapping[str, Any]]:
    """The list of images that `word` names: a list-valued key ("gallery", "gallery_images" …)."""
    content = read_json(root, name)
    lists = {"": content} if isinstance(content, list) else _lists(content)
    wanted = [key for key in lists if word in key.lower()]
    if word == "train" and not wanted:  # the published train.json has one list, called gallery_images
        wanted = [key for key in lists if not any(other in key.lower() for other in ("query", "queries"))]
    if word == "query" and not wanted:
        wanted = [key for key in lists if "queries" in key.lower()]
    if len(wanted) != 1:
        found = ", ".join(repr(key) for key in lists) or "no list of images at all"
        raise ReaderError(f"{root / name} needs one list of images called {word}_images; it has {found}")
    images = lists[wanted[0]]
    for number, record in enumerate(images):
        if not isinstance(record, dict):
            raise ReaderError(
                f"{root / name}, {wanted[0]}[{number}] is {type(record).__name__}; "
                f"an object with path and crater_id is needed"
            )
    return images


def _lists(content: Any) -> dict[str, list[Any]]:
    """List-valued keys, looking one object deeper ({"splits": {"gallery": [...]}})."""
    if not isinstance(content, dict):
        return {}
    found = {str(key): value for key, value in content.items() if isinstance(value, list)}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": listed for inner, listed in value.items() if isinstance(listed, list)}
    return found


def _entry(record: Mapping[str, Any], name: str, number: int) -> Entry:
    path = _first(record, _PATHS)
    crater = _first(record, _IDS)
    for value, keys in ((path, _PATHS), (crater, _IDS)):
        if value is None or isinstance(value, dict | list) or value == "":
            raise ReaderError(
                f"{name}: image {number} has no {keys[0]} (looked for {', '.join(keys)}); "
                f"it has {', '.join(map(repr, record)) or 'no keys'}"
            )
    view = _first(record, _VIEWS)
    return Entry(str(path).replace("\\", "/"), str(crater), "" if view is None else str(view))


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if record.get(key) is not None), None)


def _relevant(record: Mapping[str, Any], gallery: set[str], where: str) -> tuple[str, ...] | None:
    """Gallery-filtered ids; raw ones are filtered here; None when the record has neither."""
    listed = _first(record, _RELEVANT)
    raw = listed is None
    listed = _first(record, _RAW) if raw else listed
    if listed is None:
        return None
    ids = _ids(listed, where)
    return tuple(one for one in ids if one in gallery) if raw else ids


def _ids(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, dict):  # crater id -> gain
        value = list(value)
    if not isinstance(value, list) or any(isinstance(one, dict | list) or one is None for one in value):
        raise ReaderError(f"{where}: relevant ids must be a list of crater ids, not {value!r:.80}")
    return tuple(str(one) for one in value)


def _shared_relevance(root: Path, gallery: set[str]) -> dict[str, tuple[str, ...]]:
    """query_relevance.json as crater id -> ids in the gallery, whatever its form."""
    content = read_json(root, RELEVANCE)
    where = str(root / RELEVANCE)
    if isinstance(content, dict):
        # {"version": …, "queries": {…}} wraps the real thing, {"03-1-000001": […]} is it
        inner = [
            value
            for key, value in content.items()
            if _nested(value) and any(word in key.lower() for word in ("quer", "relevance"))
        ]
        content = inner[0] if len(inner) == 1 else content
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(content, list):
        pairs = [(_first(record, _IDS) if isinstance(record, dict) else None, record) for record in content]
    elif isinstance(content, dict):
        pairs = [(key, value) for key, value in content.items() if isinstance(value, dict | list)]
    else:
        raise ReaderError(f"{where} must hold an object or a list of objects")
    relevance = {}
    for key, value in pairs:
        if key is None:
            raise ReaderError(f"{where}: an entry has no crater_id (looked for {', '.join(_IDS)})")
        ids = (
            _relevant(value, gallery, f"{where}, {key}")
            if isinstance(value, dict)
            else tuple(one for one in _ids(value, f"{where}, {key}") if one in gallery)
        )
        if ids is None:
            looked = ", ".join((*_RELEVANT, *_RAW))
            raise ReaderError(
                f"{where}, {key}: no relevant ids (looked for {looked}); "
                f"it has {', '.join(map(repr, value)) or 'no keys'}"
            )
        relevance[str(key)] = ids
    return relevance


def _nested(value: Any) -> bool:
    """Whether every value inside is a list or an object: a collection of records, not one of ids."""
    inside = list(value.values()) if isinstance(value, dict) else value
    return isinstance(inside, list) and bool(inside) and all(isinstance(one, dict | list) for one in inside)


# writing


def write_layout(
    root: Path | str,
    *,
    gallery: Sequence[Entry],
    query: Sequence[Entry],
    train: Sequence[Entry] = (),
    relevance: Mapping[str, Sequence[str]] | None = None,
    stats: Mapping[str, object] | None = None,
) -> None:
    """Splits and metadata below `root`; the caller writes the images. splits/test.json comes last.

    A query entry without `relevant` takes what `relevance` says of its crater.
    relevance: query crater id -> co-visible crater ids, not yet filtered to the gallery, own id optional;
    stats: what stands in stats.json beside the counts, which are taken here.
    Raises StorageFull when there is no room, ValueError for a path outside root.
    """
    root = Path(root)
    for entry in (*gallery, *query, *train):
        if outside(entry.path):
            raise ValueError(f"entry path {entry.path!r} is not below the root; use images/gallery/x.jpg")
    craters = {entry.crater_id for entry in gallery}
    known = relevance or {}
    queried = dict.fromkeys(entry.crater_id for entry in query)
    raw = {crater: tuple(dict.fromkeys((crater, *known.get(crater, ())))) for crater in queried}
    filtered = {crater: [one for one in ids if one in craters] for crater, ids in raw.items()}
    version = str((stats or {}).get("release_version", "crater_ray_v1"))
    _write(
        root / RELEVANCE,
        _json(
            {
                crater: {"raw_relevant_ids": list(ids), "relevant_ids": filtered[crater]}
                for crater, ids in raw.items()
            }
        ),
    )
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("query_crater_id", "relevant_crater_ids"))
    rows.writerows((crater, ";".join(ids)) for crater, ids in raw.items())
    _write(root / RAW, table.getvalue())
    tally = counts(gallery, query, train) | {
        "raw_multilabel_query_ids": sum(len(ids) > 1 for ids in raw.values()),
        "filtered_multilabel_query_ids": sum(len(ids) > 1 for ids in filtered.values()),
        "max_filtered_relevant_ids": max(map(len, filtered.values()), default=0),
    }
    _write(root / STATS, _json({**(stats or {}), "release_version": version, "official": tally}))
    head = {"version": version}
    records = [[_record(entry) for entry in split] for split in (gallery, query, train)]
    _write(root / TRAIN, _json({"split_name": "train", **head, "gallery_images": records[2]}))
    _write(
        root / TEST,
        _json({"split_name": "test", **head, "gallery_images": records[0], "query_images": records[1]}),
    )


def _record(entry: Entry) -> dict[str, object]:
    record: dict[str, object] = {
        "image_id": PurePosixPath(entry.path).stem,
        "path": entry.path,
        "crater_id": entry.crater_id,
        "view_type": entry.view,
    }
    if entry.relevant:
        record["relevant_ids"] = list(entry.relevant)
    return record


def counts(gallery: Sequence[Entry], query: Sequence[Entry], train: Sequence[Entry]) -> dict[str, int]:
    values = [
        count
        for split in (gallery, query, train)
        for count in (len(split), len({entry.crater_id for entry in split}))
    ]
    return dict(zip(_COUNTS, values, strict=True))


def _json(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    write_whole(path, text.encode())


def outside(path: str) -> bool:
    """Lexically: a symlink inside the root is the owner's own choice."""
    steps = PurePosixPath(path.replace("\\", "/"))
    return steps.is_absolute() or ".." in steps.parts or not steps.parts or ":" in steps.parts[0]


# validating


def validate_layout(root: Path | str) -> list[str]:
    """Every problem of a folder in this layout, one line each; empty when there is none."""
    from crater_ray_craterbench.layout_check import problems  # Pillow is needed only here

    return problems(Path(root))

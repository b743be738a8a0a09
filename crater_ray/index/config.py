"""What shapes the bytes of an index: the same index config and items give the same parts anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import xxhash

from crater_ray.errors import DamagedIndex, IndexMismatch
from crater_ray.files import sum_of
from crater_ray.index.checksummed_json import FORMAT, canonical, checksummed, read_checksummed
from crater_ray.index.store import CONFIG, Store, check_place
from crater_ray.plugins.registry import registry
from crater_ray.plugins.specs import PluginRef
from crater_ray.types import Side

Role = Literal["backbone", "shortlist", "rerank"]
ROLES: tuple[Role, ...] = ("backbone", "shortlist", "rerank")
_WHAT = "the index config of the index"
_MARK = "crater-ray index config"


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """Everything part bytes depend on, and nothing of where or when they are made."""

    side: Side
    backbone: PluginRef
    backbone_digest: str  # of the current weights
    grid: tuple[int, int]  # rows, columns of patch tokens
    shortlist: PluginRef
    shortlist_m: int  # vectors an image
    shortlist_dim: int  # G
    rerank: PluginRef
    k: int  # tokens an image
    dim: int  # D of a stored token
    codec: str
    record_bytes: int  # R, of one image in codes.bin
    scales: int  # s, float32 numbers of one image in scales.npy
    scoring: str
    batch: int
    precision: str
    max_pixels: int
    seed: int
    fits: Mapping[str, str] = field(default_factory=dict)  # "shortlist" | "rerank" -> sha of the fitted file
    files: Mapping[str, str] = field(default_factory=dict)  # of file_digests()
    codec_version: int = 1  # the codec's algorithm_version
    format: int = FORMAT

    def digest(self) -> str:
        """xxh3_128 hex; where a file option lies does not enter, what it holds does."""
        return str(xxhash.xxh3_128_hexdigest(canonical(self._identity())))

    def ref(self, role: Role) -> PluginRef:
        return {"backbone": self.backbone, "shortlist": self.shortlist, "rerank": self.rerank}[role]

    def _identity(self) -> dict[str, Any]:
        """Plain data that is equal for two index configs that give the same bytes."""
        plain = asdict(self)
        del plain["files"]
        plain["grid"] = list(self.grid)
        for role in ROLES:
            del plain[role]["module"], plain[role]["version"]  # the algorithm's version says what it computes
            options = plain[role]["options"]
            for key, digest in self.files.items():
                owner, _, option = key.partition(".")
                if owner == role:
                    options.pop(option, None)
                    if digest:
                        options[option] = f"file {digest}"
        return plain


def file_digests(**refs: PluginRef) -> dict[str, str]:
    """What the file options of the named roles hold: "rerank.weights" -> xxh3_128 hex.

    A backbone's are "": its own digest covers its weights. Raises IndexMismatch for a file it cannot read.
    """
    found: dict[str, str] = {}
    for role, ref in sorted(refs.items()):
        spec = registry().specs(ref.kind).get(ref.name)
        for option in sorted(spec.options.files() if spec else ()):
            path = ref.options.get(option)
            if role == "backbone":
                found[f"{role}.{option}"] = ""
            elif path is not None:
                found[f"{role}.{option}"] = _content(Path(path), f"{ref.name}.{option}")
    return found


def _content(path: Path, option: str) -> str:
    try:
        if not path.is_dir():
            return sum_of(path).xxh3_128
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return str(
            xxhash.xxh3_128_hexdigest(
                canonical([[file.relative_to(path).as_posix(), sum_of(file).xxh3_128] for file in inside])
            )
        )
    except OSError as error:
        raise IndexMismatch(f"{option} names {path}, which cannot be read: {error.strerror}") from None


def create_or_check(store: Store, config: IndexConfig) -> IndexConfig:
    """The index config now current at `root`, written when `root` is new or empty.

    File options follow the latest caller, since where a file lies is not in the digest. Raises IndexMismatch
    when `root` holds something else, a newer format, or another index config (saying how); StorageFull.
    """
    store.begin()
    if not store.fetch(CONFIG, fresh=True) and store.create(CONFIG, _checksummed(config)):
        return config
    there = read_config(store)
    if there.digest() != config.digest():
        raise IndexMismatch(
            f"{store.url} was made by another index config: {_differences(there, config)}; "
            "name another `out`, or set the job back to what the index has"
        )
    if there != config:
        store.put(CONFIG, _checksummed(config))
    return config


def read_config(store: Store) -> IndexConfig:
    """The index config at `root`. Raises IndexMismatch when it is no index or a newer one, DamagedIndex."""
    config = find_config(store)
    if config is None:
        reason = "it has no index.json" if store.names() else "nothing is there"
        raise IndexMismatch(
            f"{store.url} is not an index: {reason}; make one with `crater-ray index JOB.toml`"
        )
    return config


def find_config(store: Store) -> IndexConfig | None:
    """The index config at `root`, None where an index may be begun. Raises IndexMismatch, DamagedIndex."""
    check_place(store)
    if not store.fetch(CONFIG, fresh=True):  # where files lie may change
        return None
    path = store.local / CONFIG
    data = path.read_bytes()
    if _MARK.encode() not in data and b'"checksum"' not in data:  # two marks: one may be damaged
        raise IndexMismatch(f"{store.url} is not an index: its index.json is not one of crater-ray's")
    payload = read_checksummed(path, _WHAT)
    payload.pop("what", None)
    try:
        for role in ROLES:
            payload[role] = PluginRef(**payload[role])
        payload["grid"] = tuple(payload["grid"])
        return IndexConfig(**payload)
    except (TypeError, KeyError) as error:
        raise DamagedIndex(f"{path} lacks or has too many fields ({error}); restore it from a copy") from None


def without_paths(ref: PluginRef) -> PluginRef:
    """The ref with its file options left out."""
    spec = registry().specs(ref.kind).get(ref.name)
    names = spec.options.files() if spec else frozenset()
    return replace(ref, options={key: value for key, value in ref.options.items() if key not in names})


def _checksummed(config: IndexConfig) -> bytes:
    plain = {item.name: getattr(config, item.name) for item in fields(config)}
    for role in ROLES:
        plain[role] = asdict(plain[role])
    return checksummed({**plain, "fits": dict(config.fits), "files": dict(config.files), "what": _MARK})


def _differences(there: IndexConfig, here: IndexConfig) -> str:
    """The first keys that differ, with both values."""
    old, new = _flat(there._identity()), _flat(here._identity())
    keys = [key for key in sorted({*old, *new}) if old.get(key, "nothing") != new.get(key, "nothing")]
    shown = [
        f"{key} is {old.get(key, 'nothing')} there and {new.get(key, 'nothing')} in this job"
        for key in keys[:4]
    ]
    return ", ".join(shown) + (f", and {len(keys) - 4} more" if len(keys) > 4 else "")


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {
            name: text
            for key, inner in value.items()
            for name, text in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: repr(value)}

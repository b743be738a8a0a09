"""A job: TOML in, checked pydantic models out. An unknown key names the closest known one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator

from crater_ray.errors import ConfigError
from crater_ray.jobfile import PluginTable, Table, read, told, url_of
from crater_ray.plugins.paths import absolute
from crater_ray.plugins.registry import explain, registry
from crater_ray.plugins.specs import Kind, PluginRef
from crater_ray.precision import Precision
from crater_ray.request import Box, Filter, Near, SearchRequest
from crater_ray.types import MAX_PIXELS, Mode, candidates_in
from crater_ray.used import Used

Codec = Literal["int8", "int4", "int2", "int1", "fp16"]
Scoring = Literal["maxsim", "chamfer", "mutual", "consistent", "mean_token"]
WHITENED = "whitened_tokens"
PLUGIN_TABLES: Mapping[str, Kind] = {
    "reader": "reader",
    "queries": "reader",
    "backbone": "backbone",
    "shortlist": "aggregator",
    "rerank": "aggregator",
}
UNNAMED = "the job"  # of a dict: what messages call it
GPU_BATCH, GPU_DECODERS = 64, 8  # where a job does not say: a GPU takes what eight threads decode


class ReaderTable(PluginTable):
    """[reader] and [queries]"""


class QueriesTable(ReaderTable):
    """[queries]: a table without a `name` says what [reader] does, but for the keys given here."""


class BackboneTable(PluginTable):
    """[backbone]"""

    # padded to this size always, and part of the index config; left out: 64 on GPUs; an index keeps its own
    batch: int = Field(default=8, ge=1)
    precision: Precision = "bf16"
    cache: Path | None = None  # keep Tokens here, per part


class ShortlistTable(PluginTable):
    """[shortlist]"""

    name: str = "cls"
    index: str = "auto"  # a FAISS factory string; auto: Flat, then IVF…,SQ8 where vectors are many
    # compare vectors centred and evened out, learnt from the first ones indexed; left out: as the
    # aggregator's plugin says, which is false for a trained descriptor
    whiten: bool | None = None


class RerankTable(PluginTable):
    """[rerank]"""

    name: str = WHITENED
    codec: Codec = "int8"  # int4 for whitened tokens, to which 4 bits do nothing that could be measured
    scoring: Scoring = "maxsim"

    @model_validator(mode="before")
    @classmethod
    def _fewest_bits(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name", WHITENED) == WHITENED:
            return {"codec": "int4", **given}
        return given


class IndexTable(Table):
    """[index]"""

    fit_sample: int = Field(default=500, ge=1)  # items that fits learn from
    seed: int = 0
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)  # an image with more is refused before it is decoded


class ClusterTable(Table):
    """[cluster]: where the work runs. Nothing of it enters the index config."""

    address: str | None = None  # None: a cluster of this machine alone
    encoders: int = Field(default=1, ge=1)
    cpus_per_encoder: float = Field(default=1.0, ge=0)
    gpus_per_encoder: float = Field(default=0.0, ge=0)
    threads: int | None = Field(default=None, ge=1)  # of torch, an encoder; None: cores / encoders
    decoders: int = Field(default=2, ge=1)  # decode threads an encoder; left out: 8 on GPUs
    stall_seconds: float = Field(default=600.0, gt=0)  # without one more image: a worker that hangs is ended
    runtime_env: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _feeds_gpus(cls, given: Any) -> Any:
        gpus = given.get("gpus_per_encoder", 0) if isinstance(given, dict) else 0
        if isinstance(gpus, int | float) and gpus > 0:
            return {"decoders": GPU_DECODERS, **given}
        return given


class NeighboursTable(Table):
    """[neighbours]: the table that consumers read."""

    top: int = Field(default=10, ge=1)
    mode: Mode = "shortlist"
    candidates: int | None = Field(default=None, ge=1)  # that mode shortlist reranks; None: 200
    expand: int = Field(default=0, ge=0)  # first hits that join an item, which is then asked again
    filters: tuple[Filter, ...] = ()  # only items that pass, as {column = "diameter_km", min = 20}
    box: Box | None = None  # only items inside, as {west = 0, south = 20, east = 50, north = 40}, in degrees
    near: Near | None = None  # only items near a place, as {lat = -43.3, lon = -11.4, km = 200}

    def request(self, version: int | None = None) -> SearchRequest:
        """How the neighbours of every item of a version are searched."""
        return SearchRequest(**dict(self), version=version)

    @model_validator(mode="after")
    def _used(self) -> Self:
        candidates_in(self.mode, self.candidates)
        return self


class ServeTable(Table):
    """[serve]: how an index is answered over HTTP. Nothing of it enters the index config."""

    basemap: Path | dict[str, Path] | None = None  # simple-cylindrical JPEG, PNG or WebP; or one a body
    basemap_box: tuple[float, float, float, float] = (-180.0, -90.0, 180.0, 90.0)  # west, south, east, north
    basemap_body: str | None = None  # of one image; None: of an index of one body
    shards: int = Field(default=1, ge=1)  # searcher deployments that the segments are spread over
    replicas: int = Field(default=2, ge=1)  # of each of them
    encoders: int = Field(default=2, ge=1)
    ingresses: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)  # of torch, a replica; None: the cores there are
    cpus_per_replica: float = Field(default=0.1, ge=0)
    gpus_per_encoder: float = Field(default=0.0, ge=0)
    batch: int = Field(default=8, ge=1)  # query images encoded at once at most
    max_bytes: int = Field(default=16 << 20, ge=1)  # of a request's body
    max_pixels: int = Field(default=1 << 22, ge=1)  # of a query image; at most the index's own
    max_concurrency: int = Field(default=32, ge=1)  # requests an ingress works on; beyond that 429
    timeout_s: float = Field(default=30.0, gt=0)  # for a request, then 504
    body_timeout_s: float = Field(default=10.0, gt=0)  # for its body to arrive, then 408
    retries: int = Field(default=2, ge=0)  # of a call whose replica died, or lacks the version
    ready_timeout_s: float = Field(default=2.0, gt=0)  # that a searcher may take to say what it holds

    def unused(self) -> Iterator[tuple[str, str]]:
        if self.basemap is None:
            yield "basemap_box", "no basemap is given"
            yield "basemap_body", "no basemap is given"
        elif isinstance(self.basemap, dict):
            yield "basemap_body", "basemap names a body for each image"


class Job(Table):
    """One job file, checked. Paths are absolute; plugins are PluginRefs with validated options."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    out: Path  # a folder, or s3://bucket/folder
    reader: ReaderTable
    queries: QueriesTable | None = None
    backbone: BackboneTable
    shortlist: ShortlistTable = ShortlistTable()
    rerank: RerankTable = RerankTable()
    index: IndexTable = IndexTable()
    cluster: ClusterTable = ClusterTable()
    neighbours: NeighboursTable = NeighboursTable()
    consume: dict[str, dict[str, Any]] = Field(default_factory=dict)
    serve: ServeTable = ServeTable()
    path: Path = Field(exclude=True)  # of the job file, for messages and relative paths

    def _ref(self, kind: Kind, table: str, part: PluginTable) -> PluginRef:
        return registry().ref(
            kind,
            part.name,
            part.options,
            base=self.path.parent,
            where=f"[{table}] in {self.path.name}",
            words=type(part).model_fields,
            elsewhere=partial(_places, self._plugins()),
        )

    def _plugins(self) -> dict[str, str]:
        """The plugins that its tables name."""
        tables = {table: getattr(self, table) for table in PLUGIN_TABLES}
        return {table: part.name for table, part in tables.items() if part is not None}

    def reader_ref(self) -> PluginRef:
        return self._ref("reader", "reader", self.reader)

    def queries_ref(self) -> PluginRef:
        """Raises ConfigError when the job has no [queries]."""
        if self.queries is None:
            raise ConfigError(f"{self.path.name} has no [queries] table; name a reader there, as in [reader]")
        return self._ref("reader", "queries", self.queries)

    def backbone_ref(self) -> PluginRef:
        return self._ref("backbone", "backbone", self.backbone)

    def shortlist_ref(self) -> PluginRef:
        return self._ref("aggregator", "shortlist", self.shortlist)

    def rerank_ref(self) -> PluginRef:
        return self._ref("aggregator", "rerank", self.rerank)

    def consumer_ref(self, name: str) -> PluginRef:
        return registry().ref(
            "consumer",
            name,
            self.consume.get(name),
            base=self.path.parent,
            where=f"[consume.{name}] in {self.path.name}",
        )

    def whiten(self) -> bool:
        """Whether shortlist vectors are whitened before they are compared."""
        told = self.shortlist.whiten
        return registry().find("aggregator", self.shortlist.name).spec.whiten if told is None else told

    def batch(self) -> int:
        """Images a pass of the backbone, for a new index."""
        told = "batch" in self.backbone.model_fields_set
        return self.backbone.batch if told or self.cluster.gpus_per_encoder <= 0 else GPU_BATCH

    def check(self) -> None:
        """Every name and option, before any work. Raises PluginError or ConfigError."""
        self.reader_ref(), self.backbone_ref(), self.shortlist_ref(), self.rerank_ref()
        if self.queries is not None:
            self.queries_ref()
        for name in self.consume:
            self.consumer_ref(name)


def _places(plugins: Mapping[str, object], option: str) -> list[str]:
    """Where in a job an option may stand, as table.option; `plugins` are those of the job, by table."""
    found = []
    for table, field in Job.model_fields.items():
        kinds = (*get_args(field.annotation), field.annotation)
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Used)), None)
        known = set() if model is None else set(model.model_fields) - {"name"}
        named = plugins.get(table) or (None if field.is_required() else getattr(field.default, "name", None))
        if table in PLUGIN_TABLES and (spec := registry().specs(PLUGIN_TABLES[table]).get(str(named))):
            known |= set(spec.options.model_fields)
        if option in known:
            found.append(f"{table}.{option}")
    return found


def load_job(job: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Job:
    """The job of a TOML file, or of its tables as a dict, with `a.b=value` overrides applied.

    Paths are relative to the file; in a dict to the current folder.
    Raises ConfigError for a missing or malformed file, an unknown key, or an override that does not parse.
    """
    path = Path.cwd() / UNNAMED if isinstance(job, Mapping) else Path(job)
    raw = read(job if isinstance(job, Mapping) else path, overrides)
    if "path" in raw:  # the model has a field of this name, and it is not the user's to set
        raise ConfigError(f"{path.name}: unknown option 'path'; paths stand in the tables of what reads them")
    reader, queries = raw.get("reader"), raw.get("queries")
    if isinstance(reader, dict) and isinstance(queries, dict) and "name" not in queries:
        if all(key in reader and reader[key] == value for key, value in queries.items()):
            raise ConfigError(
                f"{path.name}: [queries] changes nothing of [reader], so the queries are the gallery itself; "
                "give the keys that differ, or the name of the reader too where this is meant"
            )
        raw["queries"] = {**reader, **queries}
    try:
        found = Job(**raw, path=path.resolve())
    except ValidationError as error:
        named = {
            table: part["name"] for table, part in raw.items() if isinstance(part, dict) and "name" in part
        }
        raise ConfigError(f"{path.name}: {explain(error, Job, elsewhere=partial(_places, named))}") from None
    base = found.path.parent
    backbone, serve = found.backbone, found.serve
    if backbone.cache is not None:
        if url_of(backbone.cache) is not None:
            raise ConfigError(f"{path.name}: [backbone] cache must be a folder, not {told(backbone.cache)}")
        backbone = backbone.model_copy(update={"cache": absolute(backbone.cache, base)})
    if isinstance(serve.basemap, dict):
        images = {body: absolute(image, base) for body, image in serve.basemap.items()}
        serve = serve.model_copy(update={"basemap": images})
    elif serve.basemap is not None:
        serve = serve.model_copy(update={"basemap": absolute(serve.basemap, base)})
    out = absolute(found.out, base) if url_of(found.out) is None else found.out
    found = found.model_copy(update={"out": out, "backbone": backbone, "serve": serve})
    found.check()
    return found

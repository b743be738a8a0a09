"""One part, from its reader to its files: what an encoder actor does, free of Ray."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crater_ray.errors import ReaderError
from crater_ray.index.compacted import Key, Location, locations
from crater_ray.index.config import IndexConfig, without_paths
from crater_ray.index.parts import PartEntry, done, part_digest
from crater_ray.index.store import Store, store_at
from crater_ray.index.token_cache import TokenCache, TokenWriter, token_key
from crater_ray.index.writer import PartWriter
from crater_ray.jobs.behind import Behind
from crater_ray.jobs.journal import Careful, Journal
from crater_ray.plugins import LoadsMany, PluginRef, Reader, registry
from crater_ray.types import Item, Tokens

if TYPE_CHECKING:
    from crater_ray.encode.encoder import Encoder
    from crater_ray.search.codecs import Codec

KILLS = 2  # an image that takes its worker down this often is left out
BEHIND = 2  # batches that are aggregated and written while a GPU computes the next


@dataclass(frozen=True, slots=True)
class Work:
    """What an encoder needs to know: plain data."""

    root: str
    config: IndexConfig
    reader: PluginRef
    cache: str | None
    decoders: int
    threads: int
    device: str
    without: tuple[str, ...] = ()  # ids of nodes that take no part: their device does not compute


@dataclass(frozen=True, slots=True)
class Done:
    """A committed part, and what it took."""

    entry: PartEntry
    encoded: int  # images that went through the encoder just now; 0: the part was there
    peak_bytes: int  # the most memory its worker has held so far
    halved: int = 0  # times that memory did not hold a batch, so that it was computed in halves


@dataclass(frozen=True, slots=True)
class Encoded:
    """Up to `batch` items and their padded Tokens."""

    items: list[Item]
    tokens: Tokens
    bad: dict[int, str]  # slot -> why that image cannot be used
    mark: Any = None  # where on the device they were computed
    keep: TokenWriter | None = None  # the cache that they go to


class PartWorker:
    """Holds the reader, and the encoder once a part needs it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.store = store_at(work.root)
        self.reader: Reader = registry().build(work.reader)
        self.encoded = 0  # images so far, read by the actor's other thread
        self.behind = 0 if work.device == "cpu" else BEHIND
        self._encoder: Encoder | None = None
        self._locations: dict[Key, Location] | None = None

    @property
    def encoder(self) -> Encoder:
        if self._encoder is None:
            from crater_ray.encoders import build_encoder

            self._encoder = build_encoder(
                self.store, self.work.config, device=self.work.device, threads=self.work.threads
            )
        return self._encoder

    @cached_property
    def codec(self) -> Codec:
        from crater_ray.search.codecs import codec

        return codec(self.work.config.codec)

    def encode(self, part: str, careful: Careful | None = None) -> Done:
        """The part, committed. With `careful`, one journalled image at a time.

        Raises ReaderError for an id listed twice, OSError when reading or writing fails, StorageFull,
        DeviceError when the device or memory fails.
        """
        config = self.work.config
        items, digest = self._listed(part)
        there = self._find(part, digest)
        if there is not None:
            return there
        before, halved = self.encoded, self._halved
        with (
            _journal(self.store, f"{part}.{digest}", careful) as journal,
            self._guarded(),
            PartWriter(self.store, part, digest, config, self.reader.columns) as writer,
        ):
            with Behind(0 if journal else self.behind) as behind:
                for encoded in self._tokens(items, writer, journal, behind):
                    behind.put(partial(self._file, writer, journal, encoded))
            entry = writer.commit()
            if journal:
                journal.close()
        return Done(entry, self.encoded - before, _peak(), self._halved - halved)

    def find(self, part: str) -> Done | None:
        """The part where it is done already. Raises ReaderError for an id listed twice."""
        return self._find(part, self._listed(part)[1])

    def _find(self, part: str, digest: str) -> Done | None:
        there = done(self.store, part, digest) or self._compacted(part, digest)
        return None if there is None else Done(there, 0, _peak())

    def _listed(self, part: str) -> tuple[list[Item], str]:
        """What the reader lists of a part, and the digest that it has then."""
        items = list(self.reader.read(part))
        twice = [id for id, count in Counter(item.id for item in items).items() if count > 1]
        if twice:
            raise ReaderError(
                f"reader {self.work.reader.name!r} lists the id {twice[0]!r} twice in part {part!r}; "
                "ids must be unique: mend the catalogue, or give it an id column"
            )
        return items, part_digest(self.work.config.digest(), items)

    def _guarded(self) -> AbstractContextManager[None]:
        import torch

        from crater_ray.encode.device import guarded

        return guarded(torch.device(self.work.device))

    @property
    def _halved(self) -> int:
        return self._encoder.halved if self._encoder else 0

    def _compacted(self, part: str, digest: str) -> PartEntry | None:
        """The part as it stands in a compacted part: it is taken out when a version asks for it alone."""
        if self._locations is None:
            self._locations = locations(self.store)
        location = self._locations.get((part, digest))
        if location is None:
            return None
        return PartEntry(part, digest, location.member.rows, len(location.member.skipped))

    def _tokens(
        self, items: list[Item], writer: PartWriter, journal: Journal | None, behind: Behind
    ) -> Iterator[Encoded]:
        """Each padded batch and its Tokens, from the cache where it holds the part."""
        if journal is not None:
            for item in items:
                if journal.kills(item.id) >= KILLS:
                    writer.skip(item.id, f"its worker died or hung {KILLS} times on this image")
                    continue
                journal.begin(item.id)
                yield from self._fresh([item])
        elif self.work.cache is None:
            yield from self._fresh(items)
        else:
            yield from self._cached(items, TokenCache(Path(self.work.cache)), behind)

    def _fresh(self, items: list[Item]) -> Iterator[Encoded]:
        from crater_ray.encode.batches import batches

        config, encoder = self.work.config, self.encoder
        for batch in batches(
            items,
            self.reader.load,
            encoder.backbone.preprocess,
            batch=config.batch,
            decoders=self.work.decoders,
            max_pixels=config.max_pixels,
            pin=encoder.device.type == "cuda",
            load_many=self.reader.load_many if isinstance(self.reader, LoadsMany) else None,
        ):
            yield Encoded(batch.items, encoder.tokens(batch.images), batch.bad, encoder.mark())

    def _cached(self, items: list[Item], cache: TokenCache, behind: Behind) -> Iterator[Encoded]:
        """As `_fresh`, read from the cache where it holds the part; else to be kept in it."""
        config, encoder = self.work.config, self.encoder
        key = cache_key(config, self.work.reader, items)
        there = cache.find(key)
        if there is not None:
            for rows in there.batches(config.batch):
                batch = items[rows.first : rows.first + len(rows.ids)]
                tokens = encoder.from_cache(rows.arrays, there.shape.grid)
                yield Encoded(batch, tokens, dict(rows.bad), encoder.mark())
            return
        with ExitStack() as stack:
            writer: TokenWriter | None = None
            for encoded in self._fresh(items):
                if writer is None:
                    tokens = encoded.tokens
                    writer = stack.enter_context(
                        cache.writer(
                            key,
                            tokens.shape,
                            attention_column=tokens.attention_column is not None,
                            valid=tokens.valid is not None,
                        )
                    )
                yield replace(encoded, keep=writer)
            if writer is not None:
                behind.wait()
                writer.commit()

    def _file(self, writer: PartWriter, journal: Journal | None, encoded: Encoded) -> None:
        """What follows the backbone: the cache, the aggregators, the codec, the part's files."""
        items, encoder = encoded.items, self.encoder
        with encoder.aside(encoded.mark, encoded.tokens):
            if encoded.keep is not None:
                encoded.keep.append(
                    [item.id for item in items],
                    bad=encoded.bad,
                    **encoder.to_cache(encoded.tokens, len(items)),
                )
            rows = encoder.rows(encoded.tokens, self.work.config.side, len(items), encoded.bad)
        for slot, reason in sorted(rows.bad.items()):
            writer.skip(items[slot].id, reason)
        good = [slot for slot in range(len(items)) if slot not in rows.bad]
        if good:
            codes, scales = self.codec.encode(rows.tokens[good])
            writer.append([items[slot] for slot in good], rows.vectors[good], codes, scales)
        self.encoded += len(items)
        if journal:
            journal.survived(items[0].id)

    def fit(self, role: str, items: list[Item], seed: int, careful: Careful | None = None) -> str:
        """What the aggregator of `role` learns from `items`, stored; the sha of its file.

        With `careful`, one journalled image at a time, in the same batches for the aggregator. Raises
        DeviceError when the device or memory fails.
        """
        from crater_ray.encode.encoder import joined
        from crater_ray.encoders import fitted
        from crater_ray.index.fitted import write_fitted

        def sample(journal: Journal | None) -> Iterator[Tokens]:
            if journal is None:
                for encoded in self._fresh(items):
                    good = [slot for slot in range(len(encoded.items)) if slot not in encoded.bad]
                    if good:
                        yield encoded.tokens.map(itemgetter(good))
                    self.encoded += len(encoded.items)
                return
            for first in range(0, len(items), self.work.config.batch):
                batch = items[first : first + self.work.config.batch]
                if alone := [tokens for item in batch for tokens in self._alone(item, journal)]:
                    yield joined(alone)

        name = f"fit.{part_digest(role, items)}"
        with _journal(self.store, name, careful) as journal, self._guarded():
            sha = write_fitted(self.store, fitted(self.encoder, role).fit(sample(journal), seed))
            if journal:
                journal.close()
        return sha

    def _alone(self, item: Item, journal: Journal) -> Iterator[Tokens]:
        """The tokens of one good image that has not killed its workers."""
        if journal.kills(item.id) < KILLS:
            journal.begin(item.id)
            for encoded in self._fresh([item]):
                if not encoded.bad:
                    yield encoded.tokens.map(itemgetter([0]))
            journal.survived(item.id)
        self.encoded += 1


def cache_key(config: IndexConfig, reader: PluginRef, items: list[Item]) -> str:
    """Where the token cache keeps a part of these items."""
    return token_key(
        items,
        reader=registry().chosen(reader),
        backbone=without_paths(config.backbone),
        backbone_digest=config.backbone_digest,
        precision=config.precision,
        batch=config.batch,
        max_pixels=config.max_pixels,
    )


def _journal(
    store: Store, name: str, careful: Careful | None
) -> AbstractContextManager[Journal] | AbstractContextManager[None]:
    return Journal(store, name, careful.attempt, careful.died) if careful else nullcontext()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

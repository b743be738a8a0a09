"""Encoders as an index config or a job names them, and images embedded without an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crater_ray.errors import BadImage, ConfigError, PluginError
from crater_ray.index.config import IndexConfig
from crater_ray.index.store import Store
from crater_ray.plugins import Aggregator, Backbone, Fitted, PluginRef, registry
from crater_ray.types import Side

if TYPE_CHECKING:
    from crater_ray.config import Job
    from crater_ray.encode.encoder import Encoder
    from crater_ray.precision import Precision

Array = np.ndarray[Any, Any]


def build_encoder(
    store: Store,
    config: IndexConfig,
    *,
    device: str = "cpu",
    threads: int | None = None,
    batch: int | None = None,
) -> Encoder:
    """The encoder an index config names, its fits loaded. Raises PluginError for other weights."""
    from crater_ray.index.fitted import read_fitted

    here = registry()
    backbone: Backbone = here.build(here.current(config.backbone))
    if backbone.digest != config.backbone_digest:
        raise PluginError(
            f"backbone {config.backbone.name!r} has weights {backbone.digest} here, but the index was made "
            f"with {config.backbone_digest}; use the same weights, or index again into another `out`"
        )
    one, many = here.current(config.shortlist), here.current(config.rerank)
    encoder = _encoder(
        backbone, one, many, batch or config.batch, config.precision, device, config.max_pixels, threads
    )
    for role, sha in config.fits.items():
        fitted(encoder, role).load(read_fitted(store, sha))
    return encoder


def here(device: str) -> str:
    """The same name. Raises ConfigError for no device of torch's, or one that this machine lacks."""
    if device != "cpu":
        from crater_ray.encode.device import named

        named(device)
    return device


def fitting(shortlist: PluginRef, rerank: PluginRef) -> tuple[str, ...]:
    """The roles whose aggregators learn from a sample."""
    roles = {"shortlist": shortlist, "rerank": rerank}
    return tuple(role for role, ref in roles.items() if registry().spec(ref).fits)


def fitted(encoder: Encoder, role: str) -> Fitted:
    """The aggregator of a role that learns."""
    return cast("Fitted", encoder.shortlist if role == "shortlist" else encoder.rerank)


def embed(
    job: Job, images: Iterable[bytes | Array], *, side: Side = "gallery", device: str = "cpu"
) -> tuple[Array, Array]:
    """Shortlist vectors (N, m, G) float16 and tokens (N, k, D) float32 of images, without an index.

    Raises BadImage for an image that cannot be used, with its number from 0 on; ConfigError when an
    aggregator must be fitted first.
    """
    backbone: Backbone = registry().build(job.backbone_ref())
    refs = job.shortlist_ref(), job.rerank_ref()
    encoder = _encoder(backbone, *refs, 1, job.backbone.precision, here(device), job.index.max_pixels)
    if learning := fitting(*refs):
        raise ConfigError(f"{', '.join(learning)} learns from a sample: index the job, then use open_index")
    rows = []
    for number, image in enumerate(images):
        try:
            rows.append(encoder.encode_one(image, side))
        except BadImage as error:
            raise BadImage(f"images[{number}] cannot be used: {error.message}") from None
    if not rows:
        raise BadImage("there is no image to embed")
    return np.concatenate([row.vectors for row in rows]), np.concatenate([row.tokens for row in rows])


def _encoder(
    backbone: Backbone,
    shortlist: PluginRef,
    rerank: PluginRef,
    batch: int,
    precision: str,
    device: str,
    max_pixels: int,
    threads: int | None = None,
) -> Encoder:
    from crater_ray.encode.encoder import Encoder

    one: Aggregator = registry().build(shortlist, backbone.shape)
    many: Aggregator = registry().build(rerank, backbone.shape)
    known = cast("Precision", precision)  # checked by the encoder
    return Encoder(
        backbone,
        one,
        many,
        batch=batch,
        precision=known,
        device=device,
        threads=threads,
        max_pixels=max_pixels,
    )

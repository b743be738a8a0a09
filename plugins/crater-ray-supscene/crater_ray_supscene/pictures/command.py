"""`crater-ray heatmaps`: thin; what is heavy is imported when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crater_ray.options import device_option, unused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crater_ray_supscene.pictures.sheet import Row

_PATH = click.Path(path_type=Path)


@click.command("heatmaps")
@click.argument("images", nargs=-1, required=True, type=_PATH)
@click.option("--model", "models", multiple=True, type=_PATH, help="A model folder; may be given again.")
@click.option("--backbone", default="dinov2_offline", show_default=True, help="Where there is no --model.")
@click.option("--clusters", type=click.IntRange(1), default=6, show_default=True, help="Drawn of each image.")
@device_option
@click.option("--out", type=_PATH, required=True, help="A PNG to write.")
def heatmaps(
    images: Sequence[Path], models: Sequence[Path], backbone: str, clusters: int, device: str, out: Path
) -> None:
    """Draw what each head of IMAGES' class token attends to, and what trained aggregators assign."""
    from crater_ray_supscene.pictures.sheet import draw

    if models:
        unused("a --model brings its own", "backbone")
    else:
        unused("a backbone alone assigns nothing to clusters; name a --model", "clusters")
    rows: list[Row] = []
    for model in models or (None,):
        rows += _rows(images, model, backbone, clusters, device)
    click.echo(str(draw(rows, out, "attention by head, and the clusters that vary most")))


def _rows(images: Sequence[Path], model: Path | None, name: str, clusters: int, device: str) -> Iterator[Row]:
    """A row an image, of one model or of a backbone alone."""
    import numpy as np
    import torch

    from crater_ray.encode.device import named
    from crater_ray.plugins import registry
    from crater_ray_supscene.aggregators.saved import stored
    from crater_ray_supscene.pictures.sheet import Row, strongest

    here, on = registry(), named(device)
    backbone: Any = None
    aggregator: Any = None
    if model is None:
        backbone = here.build(here.ref("backbone", name))
    else:
        what = stored(model)
        column = what["options"].get("attention") == "column"
        given = {"path": str(model), "attention_column": column}
        backbone = here.build(here.ref("backbone", "trained", given, base=Path.cwd()))
        ref = here.ref("aggregator", what["aggregator"], {"path": str(model)}, base=Path.cwd())
        aggregator, name = here.build(ref, backbone.shape), what["aggregator"]
    for part in (backbone, aggregator):
        if hasattr(part, "to"):
            part.to(on)
    for path in images:
        image = _image(path)
        with torch.inference_mode():
            tokens = backbone(backbone.preprocess(image)[None].to(on))
            maps, names = [], []
            if tokens.attention is not None:
                maps += list(tokens.attention[0].float().cpu().numpy())
                names += [f"head {head + 1}" for head in range(len(maps))]
            if hasattr(aggregator, "assignment"):
                shares = aggregator.assignment(tokens)[0].float().cpu().numpy()
                chosen = strongest(shares, clusters)
                maps += list(shares[chosen])
                names += [f"cluster {cluster + 1}" for cluster in chosen.tolist()]
        yield Row(f"{path.name}\n{name}", image, np.reshape(maps, (-1, *tokens.grid)), names)


def _image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3). Raises QueryError for a file that is missing or no image."""
    from crater_ray.errors import BadImage, QueryError
    from crater_ray.images import pixels
    from crater_ray_supscene.training.pictures import MOST_PIXELS

    try:
        return pixels(path.read_bytes(), MOST_PIXELS)
    except OSError as error:
        raise QueryError(f"cannot read the image {path}: {error.strerror or error}") from None
    except BadImage as error:
        raise QueryError(f"the image {path} cannot be used: {error.message}") from None

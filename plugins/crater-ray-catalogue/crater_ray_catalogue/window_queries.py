"""What an index answers to windows of an image, kept as it comes: a run that was cut goes on."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from crater_ray.files import write_whole
from crater_ray.plugins import Index
from crater_ray_catalogue.scene import Scene
from crater_ray_catalogue.stage import key

SIZE = 224  # pixels a side of what is asked
VIEWS = 3  # answers asked for each entry that is wanted: an entry has several views
CANDIDATES = 100  # reranked
EVERY = 50  # windows between two writings


class WindowQueries:
    """Entries by window, the likest first: at most `count` of `groups`. len(): the windows that are known."""

    def __init__(self, index: Index, scene: Scene, folder: Path, groups: Collection[str], count: int) -> None:
        self.index, self.scene, self.groups, self.count = index, scene, frozenset(groups), count
        folder.mkdir(parents=True, exist_ok=True)
        made_of = key(
            list(index.ids), index.items(["stamp"])["stamp"].to_pylist(), scene.digest, sorted(groups), count
        )
        self._path = folder / f"windows-{made_of}.json"
        self._known: dict[str, list[str]] = {}
        if self._path.exists():
            self._known = json.loads(self._path.read_text(encoding="utf-8"))
        self._new = 0

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, x: float, y: float, width: float, angle: float) -> list[str]:
        """Groups of the index, at most `count`, for the square window about (x, y) turned by `angle`."""
        name = f"{x:.2f} {y:.2f} {width:.2f} {angle % 360:.2f}"
        if name not in self._known:
            window = self.scene.window(x, y, width, angle, SIZE)
            hits = self.index.search(window, top=VIEWS * self.count, candidates=CANDIDATES)
            known = dict.fromkeys(hit.group for hit in hits if hit.group in self.groups)
            self._known[name] = list(known)[: self.count]
            self._new += 1
            if self._new % EVERY == 0:
                self.save()
        return self._known[name]

    def save(self) -> None:
        write_whole(self._path, json.dumps(self._known).encode())

"""Images and their groups as a table lists them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from crater_ray import image_files
from crater_ray.builtin.readers.table import Table
from crater_ray.errors import ReaderError
from crater_ray.types import Item

_OWN = frozenset({"id", "group", "uri", "stamp"})  # the index's own columns
_OUTSIDE = r"^/|^~/|^[A-Za-z]:|^[A-Za-z0-9+]+://|(^|/)\.\.(/|$)"
_ID, _URI, _GROUP = "\0id", "\0uri", "\0group"  # no table can have a column of such a name


class Manifest:
    """Reader `manifest`: one row an image; what is not id, path or group becomes a typed column.

    path: the table, .csv, .tsv or .parquet. root: what its paths are relative to, else the table's folder.
    An empty group, or group_column = "", makes an image its own group; without a column "id" the path is it.
    """

    def __init__(
        self,
        path: Path,
        root: Path | None = None,
        id_column: str = "id",
        path_column: str = "path",
        group_column: str = "group",
    ) -> None:
        self.path = Path(path)
        self.root = self.path.parent if root is None else Path(root)
        self.id_column, self.path_column, self.group_column = id_column, path_column, group_column

    @property
    def columns(self) -> pa.Schema:
        """The other columns, typed. Raises ReaderError when the table does not hold."""
        return pa.schema([field for field in self._rows.schema if field.name not in (_ID, _URI, _GROUP)])

    def parts(self) -> list[str]:
        """Names by content. Raises ReaderError when the table does not hold."""
        return list(self._parts)

    def read(self, part: str) -> Iterator[Item]:
        """The items of one part, sorted by id. Raises ReaderError for an unknown part."""
        if part not in self._parts:
            raise ReaderError(f"{self.path} has no part {part!r}; it changed since it was listed, run again")
        where = self._parts[part]
        for row in self._rows.slice(where.start, where.stop - where.start).to_pylist():
            id, uri, group = row.pop(_ID), row.pop(_URI), row.pop(_GROUP)
            yield Item(id, group, uri, image_files.stamp(self.root, uri), columns=row)

    def load(self, uri: str) -> bytes:
        """The file's bytes. Raises BadImage when it is gone, ReaderError outside root, OSError."""
        return image_files.load(self.root, uri)

    @cached_property
    def _parts(self) -> dict[str, slice]:
        return image_files.cut(self._rows[_ID].to_pylist())

    @cached_property
    def _rows(self) -> pa.Table:
        """Sorted by id: id, uri and group as strings without nulls, and the other columns."""
        given = {self.id_column, self.path_column, self.group_column}
        table = Table(self.path, text=given)
        if self.group_column:
            table.require(self.group_column, 'group_column (if "", each image is its own group)')
        if self.id_column != "id":
            table.require(self.id_column, "id_column")
        uris = self._uris(table)
        ids = table.text(self.id_column) if self.id_column in table.names else uris
        table.refuse(pc.equal(ids, ""), f"{self.id_column} is empty; give every image an id")
        table.unique(ids)
        groups = ids
        if self.group_column:
            groups = table.text(self.group_column)
            groups = pc.if_else(pc.equal(groups, ""), ids, groups)
        others = table.arrow.select([name for name in table.names if name not in given])
        if clash := sorted(_OWN & set(others.column_names)):
            raise ReaderError(f"{self.path} has a column {clash[0]!r}, a word of the index itself; rename it")
        for name, values in ((_ID, ids), (_URI, uris), (_GROUP, groups)):
            others = others.append_column(name, values)
        return others.take(pc.sort_indices(ids)).combine_chunks()

    def _uris(self, table: Table) -> pa.ChunkedArray:
        table.require(self.path_column, "path_column")
        uris = pc.replace_substring(table.text(self.path_column), "\\", "/")
        table.refuse(pc.equal(uris, ""), f"{self.path_column} is empty; give every image a file")
        prefix = self.root.as_posix().rstrip("/") + "/"
        if prefix.startswith("/"):  # an absolute path below the root is as good as a relative one
            below = pc.utf8_slice_codeunits(uris, len(prefix))
            uris = pc.if_else(pc.starts_with(uris, prefix), below, uris)
        table.refuse(
            pc.match_substring_regex(uris, _OUTSIDE),
            f"{self.path_column} leads out of {self.root}; set root to a folder above all images",
        )
        return uris

"""Every error a user can meet.

    CraterRayError                 exit 1: the failure is ours, or the machine's
    ├── UserError                  exit 2: the caller can put it right
    │   ├── ConfigError            a job file or an option that does not hold
    │   ├── PluginError            a plugin that is unknown, broken, claimed twice, or differs between nodes
    │   ├── ReaderError            a catalogue, raster, folder or layout that cannot be read
    │   ├── IndexMismatch          not an index, another index config, a newer format, or a busy output
    │   └── QueryError             a query that cannot be answered: unknown id, bad image, bad filter
    ├── DamagedIndex               a file of an index that is missing or does not match its checksum
    ├── IncompleteJob              parts that failed; what is done is kept
    ├── StorageFull                no room left while writing; what is done is kept
    ├── StorageError               object storage that does not answer or refuses; what is done is kept
    ├── ClusterError               Ray cannot be reached, or its workers keep dying
    ├── DeviceError                a GPU, or memory, that failed under a computation: not the image's fault
    └── BadImage                   one image that cannot be used: the job skips it with this reason

Each takes one string, so that it survives the trip from a worker process.
"""

from __future__ import annotations


class CraterRayError(Exception):
    """What went wrong, where, and what to do about it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self.args[0])


class UserError(CraterRayError):
    """The caller can put it right."""

    exit_code = 2


class ConfigError(UserError):
    """A job file or an option that does not hold."""


class PluginError(UserError):
    """A plugin that is unknown, broken, claimed twice, or differs between nodes."""


class ReaderError(UserError):
    """A catalogue, raster, folder or layout that cannot be read."""


class IndexMismatch(UserError):
    """Not an index, another index config, a newer format, or a busy output."""


class QueryError(UserError):
    """A query that cannot be answered: unknown id, bad image, bad filter."""


class DamagedIndex(CraterRayError):
    """A file of an index that is missing or does not match its checksum."""


class IncompleteJob(CraterRayError):
    """Parts that failed; what is done is kept."""


class StorageFull(CraterRayError):
    """No room left while writing; what is done is kept."""


class StorageError(CraterRayError, OSError):
    """Object storage that does not answer or refuses; what is done is kept. Tried again like any OSError."""


class ClusterError(CraterRayError):
    """Ray cannot be reached, or its workers keep dying."""


class DeviceError(CraterRayError):
    """A GPU, or memory, that failed under a computation: not the image's fault."""


class BadImage(CraterRayError):
    """One image that cannot be used: the job skips it with this reason."""

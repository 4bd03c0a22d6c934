"""Records and where they are: the values that every layer hands on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

Headers: TypeAlias = list[tuple[str, bytes]]


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """A record to write. A value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int

    def size_bytes(self) -> int:
        """About how much of a batch it takes: key, value and headers, with room for their lengths."""
        size = len(self.key or b"") + len(self.value or b"") + 21
        for name, text in self.headers:
            size += len(name) + len(text) + 4
        return size


class StoredRecord(Protocol):
    """A record as it is read back."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...

"""What was read on its way into the database: one write at a time, and what is read meanwhile gathers for the next.

add ──▶ gathered ──▶ write in a thread ──▶ committed
            ▲             │
            └─ meanwhile ─┘          so a lone record waits for nothing, and a flood is written in thousands
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from playhead.history.projection import Rows, project
from playhead.history.store import HistoryStore, Span
from playhead.records import Partition, StoredRecord

MAX_BATCH_RECORDS = 20_000
MAX_BATCH_BYTES = 32 * 2**20
"""Of values. Who has gathered as much reads on only when it is being written."""


@dataclass(slots=True)
class Batch:
    """What was gathered for one write."""

    rows: Rows = field(default_factory=Rows)
    spans: dict[Partition, Span] = field(default_factory=dict)
    records: int = 0
    size_bytes: int = 0


class Scribe:
    """Projects and writes. After a failure nothing more is written, until `drop` has forgotten what had gathered.

    Args:
        prefix: of the topics; what follows it is the entity.
        failed: called, on the event loop, when a write has failed; `failure` says why.

    Attributes:
        written: how many records were.
    """

    def __init__(self, store: HistoryStore, prefix: str, failed: Callable[[], None] = lambda: None) -> None:
        self.written = 0
        self.failure: Exception | None = None
        self.pen = asyncio.Lock()
        """Held by a write. Whoever else changes much in the database takes it as well."""
        self._store = store
        self._prefix = prefix
        self._failed = failed
        self._gathered = Batch()
        self._writing: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    def add(self, partition: Partition, records: Sequence[StoredRecord], span: Span) -> None:
        """Take what was read of this span. It is written as soon as the last write has ended."""
        batch = self._gathered
        entity = partition.topic.removeprefix(self._prefix)
        project(records, entity, self._store.base(partition), batch.rows)
        before = batch.spans.get(partition)
        if before is not None and before.next != span.first:
            raise AssertionError(f"{partition}: {span} does not follow {before}")
        batch.spans[partition] = Span(span.first if before is None else before.first, span.next)
        batch.records += len(records)
        batch.size_bytes += sum(len(record.value or b"") for record in records)
        if batch.records >= MAX_BATCH_RECORDS or batch.size_bytes >= MAX_BATCH_BYTES:
            self._room.clear()
        if self._writing is None and self.failure is None:
            self._writing = asyncio.create_task(self._write_on(), name="write history")

    async def room(self) -> None:
        """Wait until more may be gathered.

        Raises:
            whatever the last write failed with.
        """
        await self._room.wait()
        if self.failure is not None:
            raise self.failure

    async def finish(self) -> None:
        """Wait until all of it is written.

        Raises:
            whatever a write failed with.
        """
        if self._writing is not None:
            await asyncio.shield(self._writing)
        if self.failure is not None:
            raise self.failure

    async def drop(self) -> None:
        """Let the write in flight end, and forget what has gathered, and the failure."""
        self._gathered = Batch()
        if self._writing is not None:
            await asyncio.shield(self._writing)
        self._gathered, self.failure = Batch(), None
        self._room.set()

    async def _write_on(self) -> None:
        try:
            while self._gathered.spans:
                async with self.pen:
                    batch, self._gathered = self._gathered, Batch()
                    self._room.set()
                    await asyncio.to_thread(self._store.write, batch.rows, batch.spans)
                self.written += batch.records
        except Exception as error:  # noqa: BLE001 -- nobody awaits this task: whoever adds is told
            self.failure = error
            self._room.set()
            self._failed()
        finally:
            self._writing = None

"""The log in memory against a model that recomputes everything from a flat list, one cell an offset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from playhead.broker.contract import Record
from playhead.broker.memory.log import MemoryRecord, PartitionLog
from playhead.errors import CheckpointLost

Content: TypeAlias = tuple[bytes | None, bytes | None, int]
"""Key, value and time of a record."""

CONTENTS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c", None]), st.one_of(st.none(), st.binary(max_size=2)), st.integers(0, 50)
    ),
    min_size=1,
    max_size=4,
)


@dataclass
class Cell:
    """What is at one offset. `state`: committed, open or aborted record; marker; gone (compacted away)."""

    state: str
    content: Content = (None, None, 0)
    transaction: int | None = None

    @property
    def is_record(self) -> bool:
        return self.state in {"committed", "open", "aborted"}


class LogAgainstModel(RuleBasedStateMachine):
    """Appends, transactions, retention and compaction, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.log = PartitionLog("topic", 0)
        self.cells: list[Cell] = []
        self.start = 0
        self.began: dict[int, int] = {}  # open transaction -> its first offset
        self.changes_told = 0
        self.log.listeners.add(self.tell)

    def tell(self) -> None:
        self.changes_told += 1

    # The model

    @property
    def stable(self) -> int:
        return max(self.start, min(self.began.values(), default=len(self.cells)))

    def visible(self, *, committed: bool) -> list[tuple[int, Content]]:
        end = self.stable if committed else len(self.cells)
        return [
            (offset, cell.content)
            for offset, cell in enumerate(self.cells[:end])
            if offset >= self.start and (cell.state == "committed" if committed else cell.is_record)
        ]

    def write(self, contents: list[Content], state: str, transaction: int | None) -> None:
        told = self.changes_told
        records = [Record("topic", 0, key, value, [("n", b"1")], time) for key, value, time in contents]
        assert self.log.append(records, transaction) == len(self.cells)
        assert self.changes_told > told
        self.cells += [Cell(state, content, transaction) for content in contents]

    # What happens to the log

    @rule(contents=CONTENTS)
    def append(self, contents: list[Content]) -> None:
        self.write(contents, "committed", None)

    @rule(contents=CONTENTS, transaction=st.integers(1, 3))
    def write_in_a_transaction(self, contents: list[Content], transaction: int) -> None:
        self.began.setdefault(transaction, len(self.cells))
        self.write(contents, "open", transaction)

    @precondition(lambda self: self.began)
    @rule(data=st.data(), commit=st.booleans())
    def end_a_transaction(self, data: st.DataObject, commit: bool) -> None:
        transaction = data.draw(st.sampled_from(sorted(self.began)))
        del self.began[transaction]
        for cell in self.cells:
            if cell.state == "open" and cell.transaction == transaction:
                cell.state = "committed" if commit else "aborted"
        self.cells.append(Cell("marker"))
        told = self.changes_told
        self.log.end_transaction(transaction, commit=commit)
        assert self.changes_told > told

    @rule(commit=st.booleans())
    def end_a_transaction_that_wrote_nothing_here(self, commit: bool) -> None:
        self.log.end_transaction(99, commit=commit)

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        self.start = data.draw(st.integers(self.start, len(self.cells)))
        self.log.trim(self.start)

    @rule(drop_tombstones=st.booleans())
    def compact(self, drop_tombstones: bool) -> None:
        kept_before = self.visible(committed=True)
        for offset, cell in enumerate(self.cells[: self.stable]):
            key, value, _ = cell.content
            superseded = any(later > offset and key == content[0] for later, content in kept_before)
            if cell.state == "aborted" or (
                cell.state == "committed" and key is not None and (superseded or (drop_tombstones and value is None))
            ):
                cell.state = "gone"
        self.log.compact(drop_tombstones=drop_tombstones)

    # What readers see

    @rule(data=st.data(), limit=st.integers(1, 5), committed=st.booleans())
    def read_page_after_page(self, data: st.DataObject, limit: int, committed: bool) -> None:
        position = data.draw(st.integers(self.start, len(self.cells)))
        expected = [(offset, content) for offset, content in self.visible(committed=committed) if offset >= position]
        found: list[tuple[int, Content]] = []
        while True:
            records, after = self.log.read(position, limit, committed=committed)
            assert len(records) <= limit
            assert after >= position
            found += as_contents(list(records))
            if after == position:
                break
            position = after
        assert found == expected
        assert position >= (self.stable if committed else len(self.cells))

    @rule(time=st.integers(0, 51))
    def find_by_time(self, time: int) -> None:
        expected = [offset for offset, content in self.visible(committed=False) if content[2] >= time]
        assert self.log.offset_at(time) == (expected[0] if expected else len(self.cells))

    @rule(beyond=st.integers(1, 3))
    def read_outside_the_log(self, beyond: int) -> None:
        for position in (self.start - beyond, len(self.cells) + beyond):
            with pytest.raises(CheckpointLost):
                self.log.read(position, 1)
        with pytest.raises(ValueError, match="outside"):
            self.log.trim(len(self.cells) + beyond)

    @invariant()
    def bounds_and_content_are_the_models(self) -> None:
        assert (self.log.start, self.log.last_stable_offset, self.log.end) == (
            self.start,
            self.stable,
            len(self.cells),
        )
        for committed in (True, False):
            records, _ = self.log.read(self.log.start, 1_000_000, committed=committed)
            assert as_contents(list(records)) == self.visible(committed=committed)


def as_contents(records: list[MemoryRecord]) -> list[tuple[int, Content]]:
    """Offset, key, value and time of each."""
    return [(r.offset, (r.key, r.value, r.timestamp)) for r in records]


TestLogAgainstModel = LogAgainstModel.TestCase
TestLogAgainstModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

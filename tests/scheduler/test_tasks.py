"""A partition of topic `delay` in one scheduler's hands, record by record."""

from __future__ import annotations

from typing import Any

from playhead.events import outgoing
from playhead.group.checkpoint import Owner
from playhead.records import Partition, Record, StoredRecord
from playhead.scheduler.task import TimerTask
from playhead.timer import timer_record, tombstone
from playhead.timers.store import TimerStore
from playhead.topics import DELAY

HERE = Partition(DELAY, 0)


class Stored:
    """A record at an offset."""

    def __init__(self, record: Record, offset: int) -> None:
        self.topic, self.partition, self.key, self.value, self.headers, self.timestamp = record
        self.offset = offset


def stored(*records: Record, since: int = 0) -> list[StoredRecord]:
    made: list[Any] = [Stored(record, since + number) for number, record in enumerate(records)]
    return made


def timer(n: int, id: str, seconds: float) -> Record:
    return timer_record(
        outgoing("thing.made", {"n": n}, id=id, delay={"seconds": seconds}).sent_at(0), DELAY, 1, "/x", 0
    )


def test_end_of_a_second_timer_of_the_same_id_does_not_bring_back_the_first() -> None:
    """The first has fired, and its own end is still to be read: canceling it now must be too late."""
    task = TimerTask(0, Owner(), HERE, TimerStore(None), lambda: 0)
    first, second = timer(1, "chosen", 1), timer(2, "chosen", 2)
    task.take(HERE, stored(first, second))
    ((_, fired),) = task.due(5_000, 10)
    assert fired.key == first.key
    task.gone.add(fired.key)
    assert second.key is not None
    task.take(HERE, stored(tombstone(second.key, DELAY, 0, 0), since=2))
    assert task.pending("chosen") is None
    assert task.due(5_000, 10) == []


def test_second_timer_of_a_pending_id_is_to_be_ended_and_the_first_stays() -> None:
    task = TimerTask(0, Owner(), HERE, TimerStore(None), lambda: 0)
    first, second = timer(1, "chosen", 1), timer(2, "chosen", 2)
    task.take(HERE, stored(first, second))
    assert [unwanted.key for unwanted in task.asked()] == [second.key]
    pending = task.pending("chosen")
    assert pending is not None
    assert pending.key == first.key


def test_timer_that_comes_after_its_time_was_passed_is_looked_at_all_the_same() -> None:
    task = TimerTask(0, Owner(), HERE, TimerStore(None), lambda: 0)
    task.take(HERE, stored(timer(1, "a", 10)))
    ((_, first),) = task.due(60_000, 10)
    task.gone.add(first.key)
    task.take(HERE, stored(timer(2, "b", 5), since=1))
    assert task.next_due_ms() == 5_000
    assert [due.id for _, due in task.due(60_000, 10)] == ["b"]


def test_timers_that_could_not_be_taken_up_are_given_out_once_more() -> None:
    task = TimerTask(0, Owner(), HERE, TimerStore(None), lambda: 0)
    task.take(HERE, stored(*(timer(n, f"id-{n}", n) for n in range(5))))
    first = task.due(60_000, 3)
    task.put_back(first)
    assert task.due(60_000, 3) == first
    assert [due.id for _, due in task.due(60_000, 3)] == ["id-3", "id-4"]
    assert task.due(60_000, 3) == []

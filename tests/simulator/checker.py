"""What must hold of the committed log when everything has been worked on, whatever went wrong before."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from playhead.broker.memory import MemoryBroker
from playhead.job import Job
from playhead.records import Partition, StoredRecord
from playhead.serde import CAUSATION, CE_ID, CE_TYPE

FINAL = ("run.succeeded", "run.failed")


def header(record: StoredRecord, name: str) -> str:
    return dict(record.headers).get(name, b"").decode()


class Checker:
    """Reads the committed topics of a broker, once."""

    def __init__(self, broker: MemoryBroker, jobs: Sequence[Job]) -> None:
        self._broker = broker
        self._jobs = jobs
        self._finals: dict[str, list[StoredRecord]] = defaultdict(list)
        self._told: dict[int, dict[str, object]] = {}
        for record in broker.stored("run"):
            if header(record, CE_TYPE) in FINAL:
                told = json.loads(record.value or b"")
                self._told[id(record)] = told
                self._finals[told["jobId"]].append(record)
        self._buried = Counter(
            (told["jobId"], told["topic"], told["partition"], told["offset"])
            for told in (json.loads(record.value or b"") for record in broker.stored("dead-letter"))
        )

    def problems(self) -> Iterator[str]:
        """Each claim that does not hold, in words."""
        for job in self._jobs:
            yield from self._once_each(job)
            yield from self._in_order(job)
            yield from self._at_the_end(job)
        yield from self._chains()

    def _events_of(self, job: Job) -> list[StoredRecord]:
        """The first record of each id."""
        first: dict[str, StoredRecord] = {}
        for record in self._broker.stored(job.trigger.entity):
            if header(record, CE_TYPE) == job.trigger.name:
                first.setdefault(header(record, CE_ID), record)
        return list(first.values())

    def _once_each(self, job: Job) -> Iterator[str]:
        ended: Counter[object] = Counter(self._told[id(r)]["eventId"] for r in self._finals[job.id])
        failed = {self._told[id(r)]["eventId"] for r in self._finals[job.id] if header(r, CE_TYPE) == "run.failed"}
        for record in self._events_of(job):
            event, buried = header(record, CE_ID), self._buried[job.id, *record[:2], record.offset]
            where = f"{job.id}: {event} at {record.topic}/{record.partition}@{record.offset}"
            if record.value == b"not json":
                if ended[event] or buried != 1:
                    yield f"{where}: poison is buried {buried} times, and has {ended[event]} runs"
            elif ended[event] != 1:
                yield f"{where} is {'lost' if not ended[event] else 'doubled'}: {ended[event]} ends"
            elif buried != (event in failed):
                yield f"{where} has {buried} dead letters, and failed: {event in failed}"
        known = {header(record, CE_ID) for record in self._events_of(job)}
        for event in ended.keys() - known:
            yield f"{job.id}: {event} has a run but is no event"

    def _in_order(self, job: Job) -> Iterator[str]:
        if job.order != "key":
            return
        events = {header(record, CE_ID): record for record in self._events_of(job)}
        last: dict[bytes | None, int] = {}
        for end in self._finals[job.id]:
            event = events.get(str(self._told[id(end)]["eventId"]))
            if event is None:
                continue
            if event.offset < last.get(event.key, -1):
                yield f"{job.id}: key {event.key!r}: {event.offset} ended after {last[event.key]}"
            last[event.key] = event.offset

    def _at_the_end(self, job: Job) -> Iterator[str]:
        marks = self._broker.group(job.id).describe().checkpoints
        for record in self._broker.stored(job.trigger.entity):
            mark = marks.get(Partition(record.topic, record.partition))
            if mark is None or record.offset >= mark.offset:
                yield f"{job.id}: {record.topic}/{record.partition} stands at {mark}, before {record.offset}"

    def _chains(self) -> Iterator[str]:
        """A run of `chain` that succeeded has sent its step once; one that failed has sent none."""
        steps = Counter(header(record, CAUSATION) for record in self._broker.stored("step"))
        for end in self._finals["chain"]:
            event, wanted = str(self._told[id(end)]["eventId"]), int(header(end, CE_TYPE) == "run.succeeded")
            if steps[event] != wanted:
                yield f"chain: {event} ({header(end, CE_TYPE)}) has {steps[event]} steps, not {wanted}"

"""What must hold of the committed log when everything has been worked on, whatever went wrong before."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from playhead.broker.memory import MemoryBroker
from playhead.engine.dedupe import RecentIds
from playhead.job import Job
from playhead.records import Partition, StoredRecord
from playhead.run import RunFailed, RunRetrying, RunSucceeded, RunView
from playhead.serde import CAUSATION, CE_ID, CE_TYPE, MINTED

POISON = b"not json"
EXPECTED_ERRORS = {
    "ValueError",
    "playhead.retry.NonRetriableError",
    "playhead.errors.Refused",
    "playhead.errors.KilledItsWorker",
}
"""Of the simulation's own making. Any other means that its functions, or the engine, are broken."""
MODELS = {"run.succeeded": RunSucceeded, "run.retrying": RunRetrying, "run.failed": RunFailed}


def header(record: StoredRecord, name: str) -> str:
    return dict(record.headers).get(name, b"").decode()


class Told:
    """A `run.*` record, decoded."""

    def __init__(self, record: StoredRecord) -> None:
        self.name = header(record, CE_TYPE)
        self.event: Any = MODELS[self.name].model_validate_json(record.value or b"")
        self.final = self.name != "run.retrying"
        self.failed = self.name == "run.failed"


class Checker:
    """Reads the committed topics of a broker, once."""

    def __init__(self, broker: MemoryBroker, jobs: Sequence[Job]) -> None:
        self._broker = broker
        self._jobs = jobs
        self._told: dict[str, list[Told]] = defaultdict(list)
        for record in broker.stored("run"):
            told = Told(record)
            self._told[told.event.job_id].append(told)
        self._buried = Counter(
            (told["jobId"], told["topic"], told["partition"], told["offset"])
            for told in (json.loads(record.value or b"") for record in broker.stored("dead-letter"))
        )

    def problems(self) -> Iterator[str]:
        """Each claim that does not hold, in words."""
        for job in self._jobs:
            expected = self._expected(job)
            yield from self._once_each(job, expected)
            yield from self._in_order(job, expected)
            yield from self._fenced(job)
            yield from self._foldable(job, expected)
            yield from self._at_the_end(job)
            yield from self._as_meant(job)
        yield from self._chains()

    def _expected(self, job: Job) -> dict[tuple[str, int], list[StoredRecord]]:
        """The records that start a run, by id and task: all but the repetitions within the window."""
        recent: dict[int, RecentIds] = {}
        starts: dict[tuple[str, int], list[StoredRecord]] = defaultdict(list)
        for record in self._broker.stored(job.trigger.entity):
            if header(record, CE_TYPE) != job.trigger.name:
                continue
            known = recent.setdefault(record.partition, RecentIds(job.dedupe_window_seconds))
            minted = MINTED in dict(record.headers)
            if minted or known.add(header(record, CE_ID), record.timestamp):
                starts[header(record, CE_ID), record.partition].append(record)
        return starts

    def _ends(self, job: Job) -> dict[tuple[str, int], list[Told]]:
        ends: dict[tuple[str, int], list[Told]] = defaultdict(list)
        for told in self._told[job.id]:
            if told.final:
                ends[told.event.event_id, told.event.task].append(told)
        return ends

    def _once_each(self, job: Job, expected: dict[tuple[str, int], list[StoredRecord]]) -> Iterator[str]:
        ends = self._ends(job)
        for which, records in expected.items():
            told = ends.pop(which, [])
            readable = [record for record in records if record.value != POISON]
            where = f"{job.id}: event {which[0]} at {[record[:3] for record in records]}"
            if len(told) != len(readable):
                yield f"{where} is {'lost' if len(told) < len(readable) else 'doubled'}: {len(told)} ends"
            buried = sum(self._buried[job.id, *record[:3]] for record in records)
            dead = sum(end.failed for end in told) + len(records) - len(readable)
            if buried != dead:
                yield f"{where} has {buried} dead letters, not {dead}"
        for which in ends:
            yield f"{job.id}: event {which[0]} has a run in task {which[1]}, and should have none"

    def _as_meant(self, job: Job) -> Iterator[str]:
        """An attempt fails for the reasons that the simulation gives it, and for no other."""
        for told in self._told[job.id]:
            if told.name != "run.succeeded" and told.event.error.type not in EXPECTED_ERRORS:
                yield f"{job.id}: an attempt failed by {told.event.error.type}: {told.event.error.message}"

    def _in_order(self, job: Job, expected: dict[tuple[str, int], list[StoredRecord]]) -> Iterator[str]:
        if job.order != "key":
            return
        last: dict[tuple[int, bytes | None], int] = {}
        for which, told in self._ends(job).items():
            for record, end in zip(expected.get(which, ()), told, strict=False):
                end.event.logs.append({"offset": record.offset, "key": record.key})
        for told in self._told[job.id]:
            if not told.final or not told.event.logs or told.event.logs[-1].get("offset") is None:
                continue
            offset, key = told.event.logs[-1]["offset"], (told.event.task, told.event.logs[-1]["key"])
            if told.failed and told.event.error.type == "playhead.errors.Refused":
                continue  # its function had ended in its turn; the refusal came when the next had begun
            if offset < last.get(key, -1):
                yield f"{job.id}: key {key}: {offset} ended after {last[key]}"
            last[key] = offset

    def _fenced(self, job: Job) -> Iterator[str]:
        """Whoever told something of a task was its newest owner."""
        newest: dict[int, int] = {}
        for told in self._told[job.id]:
            lease, task = told.event.lease, told.event.task
            if lease < newest.get(task, 0):
                yield f"{job.id}: task {task}: lease {lease} told {told.name} after lease {newest[task]}"
            newest[task] = max(lease, newest.get(task, 0))

    def _foldable(self, job: Job, expected: dict[tuple[str, int], list[StoredRecord]]) -> Iterator[str]:
        """What is told of a run is a life that a run can have."""
        views: dict[str, RunView] = {}
        for told in self._told[job.id]:
            if len(expected.get((told.event.event_id, told.event.task), ())) != 1:
                continue  # an id that came again after its window: two runs of one name
            run = told.event.run_id
            try:
                views[run] = views.get(run, RunView(run)).apply(told.event)
            except ValueError as error:
                yield f"{job.id}: {error}"

    def _at_the_end(self, job: Job) -> Iterator[str]:
        marks = self._broker.group(job.id).describe().checkpoints
        for record in self._broker.stored(job.trigger.entity):
            mark = marks.get(Partition(record.topic, record.partition))
            if mark is None or record.offset >= mark.offset:
                yield f"{job.id}: {record.topic}/{record.partition} stands at {mark}, before {record.offset}"

    def _chains(self) -> Iterator[str]:
        """A run of `chain` that succeeded has sent its step once; one that failed has sent none."""
        steps = Counter(header(record, CAUSATION) for record in self._broker.stored("step"))
        wanted = Counter(told.event.event_id for told in self._told["chain"] if told.name == "run.succeeded")
        for event in steps | wanted:
            if steps[event] != wanted[event]:
                yield f"chain: {event} has {steps[event]} steps, not {wanted[event]}"

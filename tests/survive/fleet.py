"""Workers and schedulers as processes, and the checker of what a read_committed reader finds: lost and doubled."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

from playhead.broker.contract import Partition
from playhead.broker.kafka import KafkaBroker
from playhead.config import Settings
from playhead.events import Event
from playhead.records import StoredRecord
from playhead.topics import RUN, entity_topic, system_topics
from tests.survive.worker_process import Options

PROGRAM = Path(__file__).with_name("worker_process.py")
ENTITIES = ("thing", "link")
FINAL = ("run.succeeded", "run.failed")


class WorkerProcess:
    """One worker. `said` is what it told on stdout so far; its log is in `log_path`."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.process = process
        self.log_path = log_path
        self.said: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, options: Options, log_path: Path) -> WorkerProcess:
        env = {
            **os.environ,
            "PLAYHEAD_LOG_LEVEL": "debug",
            "PYTHONPATH": os.pathsep.join(["runtime", str(PROGRAM.parents[2] / "runtime")]),
        }
        with log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(PROGRAM), json.dumps(asdict(options)), stdout=-1, stderr=log, env=env
            )
        return cls(process, log_path)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))

    @property
    def ready(self) -> bool:
        states = [told["ready"] for told in self.said if "ready" in told]
        return bool(states) and states[-1]

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def signal(self, number: Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def end(self, number: Signals = Signals.SIGKILL) -> int:
        """Signal the process and wait until it is gone."""
        self.signal(number)
        code = await self.process.wait()
        await self._reading
        return code


class SchedulerProcess:
    """`playhead scheduler`, with an empty folder for its stores and its log."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @classmethod
    async def start(cls, settings: Settings, folder: Path) -> SchedulerProcess:
        env = {
            **os.environ,
            "PLAYHEAD_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "PLAYHEAD_TOPIC_PREFIX": settings.topic_prefix,
            "PLAYHEAD_LOG_FORMAT": "json",
        }
        with (folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "playhead.cli", "scheduler", "--data-dir", str(folder / "stores")),
                cwd=folder,
                env=env,
                stderr=log,
            )
        return cls(process, folder)

    @property
    def running(self) -> bool:
        """Whether it has ever had its partitions."""
        return '"running"' in (self._folder / "log").read_text(errors="replace")

    async def end(self, number: Signals = Signals.SIGKILL) -> None:
        """Signal the process and wait until it is gone."""
        self._process.send_signal(number)
        await self._process.wait()


@dataclass
class Report:
    """What the log says of the events that were sent."""

    lost: list[tuple[str, str]] = field(default_factory=list)
    """(job, event id) without a final record."""
    doubled: list[tuple[str, str]] = field(default_factory=list)
    """(job, event id) with more than one."""
    links_lost: list[str] = field(default_factory=list)
    """Events whose chain event is missing."""
    links_doubled: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.links_lost or self.links_doubled)

    def __str__(self) -> str:
        counts = {name: len(found) for name, found in asdict(self).items()}
        return f"{counts}, for example {self.lost[:3]} {self.doubled[:3]}"


async def make_topics(broker: KafkaBroker, prefix: str) -> None:
    await broker.create_topics(
        [*system_topics(prefix=prefix), *(entity_topic(entity, prefix=prefix) for entity in ENTITIES)]
    )


async def committed_events(broker: KafkaBroker, topic: str) -> list[Event]:
    """Everything that a read_committed reader sees of a topic now."""
    found: list[Event] = []

    async def keep(records: Sequence[StoredRecord]) -> None:
        found.extend(Event(record, dict(record.headers)) for record in records)

    partitions = [Partition(topic, p) for p in range((await broker.topic(topic)).partitions)]
    for partition, (start, end) in (await broker.bounds(partitions)).items():
        await broker.read(partition, start, end, keep)
    return found


async def check(broker: KafkaBroker, prefix: str, jobs: Iterable[str], sent: Sequence[str]) -> Report:
    """Compare the final run records of `jobs`, and the chain's events, with the ids that were sent.

    `chained` is triggered by the chain's events; its runs are compared with those.
    """
    finals: Counter[tuple[str, str]] = Counter()
    for event in await committed_events(broker, prefix + RUN):
        if event.name in FINAL:
            told = event.payload()
            finals[told["jobId"], told["eventId"]] += 1
    links = await committed_events(broker, prefix + "link")
    by_cause = Counter(link.causation_id for link in links)
    report = Report()
    for job in jobs:
        expected = [link.id for link in links] if job == "chained" else sent
        report.lost += [(job, event_id) for event_id in expected if finals[job, event_id] == 0]
    report.doubled = [pair for pair, count in finals.items() if count > 1]
    if "chain" in jobs:
        report.links_lost = [event_id for event_id in sent if by_cause[event_id] == 0]
    report.links_doubled = [event_id for event_id, count in by_cause.items() if count > 1]
    return report


async def finished(broker: KafkaBroker, prefix: str, jobs: Sequence[str], sent: Sequence[str]) -> bool:
    """Whether nothing is missing (any more)."""
    report = await check(broker, prefix, jobs, sent)
    return not report.lost and not report.links_lost

"""A seeded run of workers, events and faults on one broker in memory and one clock that nobody waits for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.events import OutgoingEvent, outgoing
from playhead.records import Record
from playhead.serde import CE_ID, CE_TYPE
from playhead.testing.virtual_clock import VirtualClock, drain
from playhead.topics import entity_topic, system_topics
from tests.simulator.checker import POISON, Checker
from tests.simulator.jobs import Watch, define_jobs
from tests.simulator.process import Process

QUIET_SECONDS_MAX = 3_600
PARTITIONS_MAX = 7


class Simulation:
    """`await run()` returns what does not hold.

    Args:
        calm: no faults, no failures: workers come and go gracefully, and partitions are added.
    """

    def __init__(self, seed: int, *, calm: bool = False) -> None:
        self._rng = random.Random(seed)
        self._calm = calm
        self._clock = VirtualClock()
        self._broker = MemoryBroker(self._clock)
        self._broker.commit_latency_seconds = self._rng.choice([0.0, 0.01, 0.3])
        self._broker.breath_seconds = self._rng.choice([0.0, 0.001])
        self._broker.marker_latency_seconds = self._rng.choice([0.0, 0.02, 0.5])
        self._client = Client("simulator", settings=Settings(), broker=self._broker, clock=self._clock)
        self._processes: list[Process] = []
        self._graves: list[Process] = []
        self._numbers = 0
        self._partitions = self._rng.choice([1, 3, 4])
        self._killers_left = self._rng.choice([0, 0, 1, 2]) if not calm else 0
        self._watch = Watch(calm=calm)
        self._jobs = define_jobs(self._rng, self._clock, self._watch)
        self.history: list[str] = []

    async def run(self) -> list[str]:
        """Let it happen, let it calm down, look."""
        await self._broker.start()
        await self._broker.create_topics(
            [entity_topic("order", partitions=self._partitions), entity_topic("step"), *system_topics()]
        )
        for _ in range(self._rng.choice([2, 3])):
            self._start_process()
        try:
            for _ in range(self._rng.randint(15, 40)):
                await self._send_some()
                if self._rng.random() < 0.6:
                    await self._change()
                await self._pass(self._rng.choice([0.0, 0.02, 0.3, 1.0, 4.0, 12.0]))
            return await self._come_to_rest()
        finally:
            for process in [*self._processes, *self._graves]:
                await process.bury()
            await self._client.close()
            await self._broker.stop()
            await drain()

    async def _come_to_rest(self) -> list[str]:
        """Without faults everything is worked on within some minutes; the problems that remain are real."""
        self._broker.faults.next_commit = None
        problems = ["nothing was looked at"]
        for _ in range(0, QUIET_SECONDS_MAX, 20):
            await self._pass(20.0)
            problems = list(Checker(self._broker, self._jobs).problems())
            if not problems:
                break
        return [*self._watch.problems, *(self._watch.repeated() if self._calm else ()), *problems]

    async def _pass(self, seconds: float) -> None:
        await self._clock.advance(seconds)
        for process in [process for process in self._processes if process.dead]:
            self._note("a run has killed its worker")
            self._processes.remove(process)
            self._graves.append(process)
            self._start_process()
        for process in [*self._processes, *self._graves]:
            process.check()

    def _start_process(self) -> None:
        seed, grace_seconds = self._rng.randrange(1_000), 10.0 if self._calm else self._rng.choice([0.0, 1.0, 10.0])
        self._processes.append(Process(self._jobs, self._broker, self._clock, seed, grace_seconds=grace_seconds))

    def _note(self, what: str) -> None:
        self.history.append(f"{self._clock.monotonic():8.2f} {what}")

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _send_some(self) -> None:
        events = [self._event() for _ in range(self._rng.choice([1, 3, 10, 30]))]
        if self._rng.random() < 0.5:
            # Each has a moment of its own: whether an id came within a window is then no question of order.
            for event in events:
                await self._client.send_all([event])
        else:
            await self._client.send_all(events)
        if not self._calm and self._rng.random() < 0.1:
            self._numbers += 1
            headers = [(CE_TYPE, b"order.made"), (CE_ID, b"poison-%d" % self._numbers)]
            at, now_ms = self._rng.randrange(self._partitions), int(self._clock.time() * 1000)
            await self._broker.append([Record("order", at, b"k", POISON, headers, now_ms)])

    def _event(self) -> OutgoingEvent:
        rng = self._rng
        self._numbers += 1
        payload = {
            "number": self._numbers,
            "seconds": rng.choice([0, 0, 0, 0.05, 0.5, 3.0, 15.0 if not self._calm and rng.random() < 0.2 else 0.1]),
            "failures": 0 if self._calm else rng.choice([0] * 8 + [1, 3]),
            "hopeless": not self._calm and rng.random() < 0.03,
            "kills": self._killers_left > 0 and rng.random() < 0.01,
        }
        self._killers_left -= payload["kills"]
        if rng.random() < 0.2:
            chosen = f"chosen-{rng.randrange(30)}"
            return outgoing("order.made", payload, id=chosen, key=chosen)
        return outgoing("order.made", payload, key=rng.choice([str(self._numbers), *"abcde"]))

    # ── what changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _change(self) -> None:
        changes: list[Callable[[], Any]] = [self._restart, self._join_another, self._leave, self._add_partition]
        if not self._calm:
            changes += [self._commit_fault] * 4
            changes += [self._expel, self._freeze, self._away, self._kill, self._kill, self._refuse]
        change = self._rng.choice(changes)
        self._note(change.__name__)
        await change()

    def _some_process(self) -> Process:
        return self._processes.pop(self._rng.randrange(len(self._processes)))

    async def _restart(self) -> None:
        process = self._some_process()
        process.stop()
        self._graves.append(process)
        await self._pass(self._rng.choice([0.0, 0.0, 0.5, 3.0]))
        self._start_process()

    async def _join_another(self) -> None:
        if len(self._processes) < 4:
            self._start_process()

    async def _leave(self) -> None:
        if len(self._processes) > 1:
            process = self._some_process()
            process.stop()
            self._graves.append(process)

    async def _add_partition(self) -> None:
        if self._partitions < PARTITIONS_MAX and self._rng.random() < 0.5:
            self._partitions += 1
            self._broker.add_partitions("order", self._partitions)

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────

    def _some_membership(self) -> Any:
        """One that its group knows and that answers: nobody is thrown out twice."""
        found = [
            membership
            for process in self._processes
            for membership in process.memberships
            if membership._member.id in membership._group.members and not membership._is_frozen()
        ]
        return self._rng.choice(found) if found else None

    async def _expel(self) -> None:
        if (membership := self._some_membership()) is not None:
            self._broker.expel(membership)

    async def _freeze(self) -> None:
        if (membership := self._some_membership()) is not None:
            self._broker.freeze(membership)
            await self._pass(self._rng.choice([0.5, 6.0, 8.0, 11.0, 25.0]))
            if not any(process.dead and membership in process.memberships for process in self._graves):
                self._broker.thaw(membership)

    async def _commit_fault(self) -> None:
        self._broker.faults.next_commit = self._rng.choice(["unknown_committed", "unknown_aborted", "hang"])

    async def _away(self) -> None:
        self._broker.faults.unavailable = True
        await self._pass(self._rng.choice([0.2, 3.0, 9.0, 20.0]))
        self._broker.faults.unavailable = False

    async def _refuse(self) -> None:
        """Some of the steps, or of what tells of retries; never the failures that follow."""
        rest = self._rng.randrange(5)
        name = self._rng.choice([b"step.taken", b"run.retrying"])

        def refuse(record: Record) -> bool:
            return (CE_TYPE, name) in record.headers and sum(record.key or b"") % 5 == rest

        self._broker.faults.refuse = refuse
        await self._pass(self._rng.choice([0.5, 3.0, 9.0]))
        self._broker.faults.refuse = None

    async def _kill(self) -> None:
        process = self._some_process()
        process.kill()
        self._graves.append(process)
        await self._pass(self._rng.choice([0.0, 1.0, 12.0]))
        self._start_process()


async def simulate(seed: int, *, calm: bool = False) -> tuple[list[str], list[str]]:
    """(problems, what was done) of one seed; a hang is a problem."""
    simulation = Simulation(seed, calm=calm)
    async with asyncio.timeout(60):
        return await simulation.run(), simulation.history

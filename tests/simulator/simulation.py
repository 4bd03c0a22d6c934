"""A seeded run of workers, events and faults on one broker in memory and one clock that nobody waits for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.events import OutgoingEvent, outgoing
from playhead.io import IO
from playhead.job import Job, event_trigger
from playhead.records import Record
from playhead.retry import NonRetriableError, RetryPolicy
from playhead.serde import CE_ID, CE_TYPE
from playhead.testing.virtual_clock import VirtualClock, drain
from playhead.topics import DEFAULT_PARTITIONS, entity_topic, system_topics
from tests.simulator.checker import Checker
from tests.simulator.process import Process

QUIET_SECONDS_MAX = 600


class Simulation:
    """`await run()` returns what does not hold."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._clock = VirtualClock()
        self._broker = MemoryBroker(self._clock)
        self._broker.commit_latency_seconds = self._rng.choice([0.0, 0.01, 0.3])
        self._broker.marker_latency_seconds = self._rng.choice([0.0, 0.02, 0.5])
        self._client = Client("simulator", settings=Settings(), broker=self._broker, clock=self._clock)
        self._processes: list[Process] = []
        self._graves: list[Process] = []
        self._numbers = 0
        self.history: list[str] = []
        self._jobs = self._define()

    def _define(self) -> Sequence[Job]:
        clock = self._clock

        async def work(payload: Any, io: IO) -> None:
            if payload.get("step"):
                await io.send_event("step.taken", {"of": payload["number"]}, key=str(payload["number"]))
            if payload["seconds"]:
                await clock.sleep(payload["seconds"])
            if payload["hopeless"]:
                raise NonRetriableError("hopeless")
            if io.run.attempt <= payload["failures"]:
                raise ValueError("not yet")

        async def chain(payload: Any, io: IO) -> None:
            await work({**payload, "step": True}, io)

        async def follow(payload: Any, io: IO) -> None:
            await clock.sleep(0.01)

        retry = RetryPolicy(max_attempts=3, initial_seconds=0.5)
        order = self._rng.choice(["key", "key", "none"])
        few = self._rng.choice([1, 4, 100])
        common: dict[str, Any] = {"version": "1", "start": "earliest", "retry": retry}
        made = event_trigger("order.made")
        self._client.define_job(id="chain", name="chain", trigger=made, run=chain, concurrency=few, **common)
        self._client.define_job(id="plain", name="plain", trigger=made, run=work, order=order, **common)
        self._client.define_job(id="follow", name="follow", trigger=event_trigger("step.taken"), run=follow, **common)
        return list(self._client.jobs.values())

    async def run(self) -> list[str]:
        """Let it happen, let it calm down, look."""
        topics = [entity_topic("order"), entity_topic("step"), *system_topics()]
        await self._broker.start()
        await self._broker.create_topics(topics)
        for _ in range(self._rng.choice([2, 3])):
            self._start_process()
        try:
            for _ in range(self._rng.randint(15, 40)):
                await self._send_some()
                if self._rng.random() < 0.6:
                    await self._fault()
                await self._pass(self._rng.choice([0.0, 0.02, 0.3, 1.0, 4.0, 12.0]))
            return await self._calm_down()
        finally:
            for process in [*self._processes, *self._graves]:
                await process.bury()
            await self._client.close()
            await self._broker.stop()
            await drain()

    async def _calm_down(self) -> list[str]:
        """Without faults everything is worked on within some minutes; the problems that remain are real."""
        self._broker.faults.next_commit = None
        problems = ["nothing was looked at"]
        for _ in range(0, QUIET_SECONDS_MAX, 20):
            await self._pass(20.0)
            problems = list(Checker(self._broker, self._jobs).problems())
            if not problems:
                break
        return problems

    async def _pass(self, seconds: float) -> None:
        await self._clock.advance(seconds)
        for process in self._processes:
            process.check()

    def _start_process(self) -> None:
        self._processes.append(Process(self._jobs, self._broker, self._clock, self._rng.randrange(1_000)))

    def _note(self, what: str) -> None:
        self.history.append(f"{self._clock.monotonic():8.2f} {what}")

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _send_some(self) -> None:
        count = self._rng.choice([1, 3, 10, 30])
        await self._client.send_all([self._event() for _ in range(count)])
        if self._rng.random() < 0.1:
            at = self._rng.randrange(DEFAULT_PARTITIONS)
            self._numbers += 1
            headers = [(CE_TYPE, b"order.made"), (CE_ID, b"poison-%d" % self._numbers)]
            now_ms = int(self._clock.time() * 1000)
            await self._broker.append([Record("order", at, b"k", b"not json", headers, now_ms)])

    def _event(self) -> OutgoingEvent:
        rng = self._rng
        self._numbers += 1
        payload = {
            "number": self._numbers,
            "seconds": rng.choice([0, 0, 0, 0.05, 0.5, 3.0, 15.0 if rng.random() < 0.2 else 0.1]),
            "failures": rng.choice([0] * 8 + [1, 3]),
            "hopeless": rng.random() < 0.03,
        }
        if rng.random() < 0.2:
            chosen = f"chosen-{rng.randrange(30)}"
            return outgoing("order.made", payload, id=chosen, key=chosen)
        return outgoing("order.made", payload, key=rng.choice([str(self._numbers), *"abcde"]))

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fault(self) -> None:
        faults: list[Callable[[], Any]] = [
            self._expel,
            self._freeze,
            self._commit_fault,
            self._commit_fault,
            self._away,
            self._kill,
            self._restart,
            self._join_another,
        ]
        fault = self._rng.choice(faults)
        self._note(fault.__name__)
        await fault()

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
            self._broker.thaw(membership)

    async def _commit_fault(self) -> None:
        self._broker.faults.next_commit = self._rng.choice(["unknown_committed", "unknown_aborted", "hang"])

    async def _away(self) -> None:
        self._broker.faults.unavailable = True
        await self._pass(self._rng.choice([0.2, 3.0, 9.0, 20.0]))
        self._broker.faults.unavailable = False

    async def _kill(self) -> None:
        process = self._processes.pop(self._rng.randrange(len(self._processes)))
        process.kill()
        self._graves.append(process)
        await self._pass(self._rng.choice([0.0, 1.0, 12.0]))
        self._start_process()

    async def _restart(self) -> None:
        process = self._processes.pop(self._rng.randrange(len(self._processes)))
        process.stop()
        self._graves.append(process)
        await self._pass(self._rng.choice([0.0, 0.5, 3.0]))
        self._start_process()

    async def _join_another(self) -> None:
        if len(self._processes) < 4:
            self._start_process()


async def simulate(seed: int) -> tuple[list[str], list[str]]:
    """(problems, what was done) of one seed; a hang is a problem."""
    simulation = Simulation(seed)
    async with asyncio.timeout(60):
        return await simulation.run(), simulation.history

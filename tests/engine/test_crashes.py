"""Workers that die, brokers that go away, groups that move on without being asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.events import outgoing
from playhead.io import IO
from playhead.job import event_trigger
from playhead.records import Partition
from playhead.serde import CE_TYPE
from playhead.testing import VirtualClock
from playhead.topics import DEAD_LETTER, RUN, entity_topic, system_topics
from tests.simulator.process import Process


class Scene:
    """One job `j` on one partition, in processes that can be killed."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        self.client = Client("t", settings=Settings(), broker=self.broker, clock=self.clock)
        self.processes: list[Process] = []

    async def open(self) -> None:
        await self.broker.start()
        await self.broker.create_topics([*system_topics(), entity_topic("thing", partitions=1)])

    async def start(self, run: Callable[..., Any]) -> Process:
        client = Client("t")
        trigger = event_trigger("thing.made")
        client.define_job(id="j", name="J", version="1", trigger=trigger, run=run, start="earliest", concurrency=4)
        process = Process([client.jobs["j"]], self.broker, self.clock, 1)
        self.processes.append(process)
        await self.clock.advance(2)
        return process

    async def kill(self, process: Process) -> None:
        """Kill it, and wait until its group has noticed."""
        process.kill()
        await self.clock.advance(self.broker.session_seconds + 1)

    async def send(self, *numbers: int) -> None:
        await self.client.send_all([outgoing("thing.made", {"n": n}, key=str(n)) for n in numbers])
        await self.clock.advance(1)

    def ended(self) -> list[tuple[str, dict[str, Any]]]:
        told = [(dict(r.headers)[CE_TYPE].decode(), json.loads(r.value or b"")) for r in self.broker.stored(RUN)]
        return [(name, payload) for name, payload in told if name != "run.retrying"]

    def metadata(self) -> str:
        return self.broker.group("j").describe().checkpoints[Partition("thing", 0)].metadata


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    await made.open()
    yield made
    for process in made.processes:
        await process.bury()
    await made.broker.stop()


class TestCrashes:
    async def test_run_that_kills_its_worker_is_a_dead_letter_after_three_starts_alone(self, scene: Scene) -> None:
        starts: list[tuple[int, int]] = []
        victim: list[Process] = []

        async def run(payload: dict[str, int], io: IO) -> None:
            starts.append((len(scene.processes), payload["n"]))
            if payload["n"] == 1:
                victim.append(scene.processes[-1])
                await scene.clock.sleep(10_000)

        process = await scene.start(run)
        await scene.send(1, 2)
        for _ in range(5):
            await scene.kill(process)
            process = await scene.start(run)
        assert [n for _, n in starts].count(1) == 5  # twice with others, three times alone
        assert [n for _, n in starts].count(2) == 1
        by_name = dict(scene.ended())
        assert len(scene.ended()) == 2
        assert by_name["run.failed"]["error"]["type"] == "playhead.errors.KilledItsWorker"
        assert len(scene.broker.stored(DEAD_LETTER)) == 1

    async def test_start_alone_is_in_the_checkpoint_before_the_function_runs(self, scene: Scene) -> None:
        seen: list[str] = []

        async def run(payload: dict[str, int], io: IO) -> None:
            seen.append(scene.metadata().split(" ")[3])
            await scene.clock.sleep(10_000)

        process = await scene.start(run)
        await scene.send(1)
        for _ in range(3):
            await scene.kill(process)
            process = await scene.start(run)
        assert seen == ["0", "1", "2@0x1", "3@0x2"]

    async def test_worker_that_was_killed_idle_makes_nobody_suspicious_for_good(self, scene: Scene) -> None:
        async def run(payload: dict[str, int], io: IO) -> None: ...

        process = await scene.start(run)
        for _ in range(4):
            await scene.kill(process)
            process = await scene.start(run)
        await scene.send(*range(8))
        await scene.send(*range(8, 10))
        assert [name for name, _ in scene.ended()] == ["run.succeeded"] * 10
        assert scene.metadata().split(" ")[3] == "0"

    async def test_commit_left_open_by_a_dead_worker_is_freed_by_the_next_owner(self, scene: Scene) -> None:
        async def run(payload: dict[str, int], io: IO) -> None: ...

        process = await scene.start(run)
        scene.broker.faults.next_commit = "hang"
        await scene.send(1)
        assert scene.ended() == []
        await scene.kill(process)
        await scene.start(run)
        assert [name for name, _ in scene.ended()] == ["run.succeeded"]


class TestBrokerAway:
    async def test_broker_that_is_away_is_waited_for(self, scene: Scene) -> None:
        async def run(payload: dict[str, int], io: IO) -> None: ...

        process = await scene.start(run)
        scene.broker.faults.unavailable = True
        await scene.clock.advance(60)
        assert not process.ended
        scene.broker.faults.unavailable = False
        await scene.send(1, 2)
        await scene.clock.advance(60)
        assert [name for name, _ in scene.ended()] == ["run.succeeded"] * 2


class TestFenced:
    async def test_run_of_a_worker_that_was_expelled_ends_once_with_its_next_owner(self, scene: Scene) -> None:
        leases: list[int] = []

        async def run(payload: dict[str, int], io: IO) -> None:
            leases.append(io.run.lease)
            await scene.clock.sleep(1.5)

        process = await scene.start(run)
        await scene.send(1)
        scene.broker.expel(process.memberships[0])
        await scene.start(run)
        await scene.clock.advance(30)
        ((name, told),) = scene.ended()
        assert name == "run.succeeded"
        assert len(leases) == 2
        assert told["lease"] == leases[1] > leases[0]

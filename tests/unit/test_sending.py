"""Clients and what they share: event loops, threads, processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from playhead import BlockingClient, Client, Settings, send_event
from playhead.broker.memory import MemoryBroker
from playhead.errors import BrokerUnavailable, InvalidInput
from playhead.events import outgoing
from playhead.sending import SentEvent
from playhead.topics import entity_topic

FORKED = """
import os, sys
from playhead import BlockingClient, Settings
from playhead.broker.memory import MemoryBroker
client = BlockingClient("c", settings=Settings(), broker=MemoryBroker())
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    client.send_event("unit.done", {})
except RuntimeError as error:
    os._exit(7 if "fork" in str(error) else 8)
os._exit(9)
"""


@pytest.fixture
async def broker() -> MemoryBroker:
    made = MemoryBroker()
    await made.create_topics([entity_topic("unit")])
    return made


class TestOpenClient:
    async def test_send_event_goes_through_the_client_that_was_opened_last(self, broker: MemoryBroker) -> None:
        async with Client("outer", settings=Settings(), broker=broker):
            async with Client("inner", settings=Settings(), broker=broker):
                await send_event("unit.done", {"by": 1})
            await send_event("unit.done", {"by": 2})
        sources = {dict(record.headers)["ce_source"] for record in broker.stored("unit")}
        assert sources == {b"/playhead/inner", b"/playhead/outer"}

    async def test_closed_client_sends_nothing_until_it_is_started_again(self, broker: MemoryBroker) -> None:
        client = Client("c", settings=Settings(), broker=broker)
        await client.send_event("unit.done", {})
        await client.close()
        await client.close()
        with pytest.raises(RuntimeError, match="this client is closed"):
            await client.send_event("unit.done", {})
        with pytest.raises(RuntimeError, match="this client is closed"):
            await client.send_events([("unit.done", {})])
        await client.start()
        await client.send_event("unit.done", {})
        await client.close()
        async with client:
            await client.send_event("unit.done", {})
        assert len(broker.stored("unit")) == 3

    async def test_closing_waits_for_the_connection_that_is_being_made(self, broker: MemoryBroker) -> None:
        client = Client("c", settings=Settings(), broker=broker)
        sending = asyncio.create_task(client.send_event("unit.done", {}))
        await asyncio.sleep(0)
        await client.close()
        assert client._broker is None
        await asyncio.gather(sending, return_exceptions=True)
        await client.close()
        assert client._broker is None

    @pytest.mark.parametrize("name", ["", "with space", "x" * 65, ".hidden"])
    def test_name_of_a_client_is_one_that_can_be_a_source(self, name: str) -> None:
        with pytest.raises(InvalidInput, match="client id"):
            Client(name)


class TestMany:
    async def test_events_of_one_key_keep_their_order(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            await client.send_all([outgoing("unit.done", {"n": n}, key="k") for n in range(50)])
        values = [record.value for record in broker.stored("unit")]
        assert values == [b'{"n":%d}' % n for n in range(50)]

    async def test_broker_that_is_away_is_a_result_each(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            await client.send_event("unit.done", {})
            broker.faults.unavailable = True
            results = await client.send_events([("unit.done", {}), ("unit.done", {})])
            broker.faults.unavailable = False
        assert [type(result) for result in results] == [BrokerUnavailable, BrokerUnavailable]
        assert all(result.retriable for result in results if isinstance(result, BrokerUnavailable))

    async def test_of_none_is_nothing(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            assert await client.send_events([]) == []


class TestBlocking:
    def test_many_threads_may_send_at_once(self) -> None:
        broker = MemoryBroker()
        with BlockingClient("c", settings=Settings(), broker=broker) as client:
            client._call(broker.create_topics([entity_topic("unit")]))
            with ThreadPoolExecutor(8) as threads:
                sent = list(threads.map(lambda n: client.send_event("unit.done", {"n": n}), range(200)))
        assert all(isinstance(one, SentEvent) for one in sent)
        assert len({one.id for one in sent}) == len(broker.stored("unit")) == 200

    def test_closing_ends_its_thread_and_is_done_once(self) -> None:
        before = threading.active_count()
        client = BlockingClient("c", settings=Settings(), broker=MemoryBroker())
        client.start()
        assert threading.active_count() == before + 1
        client.close()
        client.close()
        assert threading.active_count() == before

    def test_error_comes_to_whoever_sends(self) -> None:
        broker = MemoryBroker()
        broker.faults.unavailable = True
        with BlockingClient("c", settings=Settings(), broker=broker) as client, pytest.raises(BrokerUnavailable):
            client.send_event("unit.done", {})

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    def test_client_from_before_a_fork_says_so_and_does_not_wait_for_ever(self) -> None:
        done = subprocess.run([sys.executable, "-c", FORKED], timeout=60, check=False)
        assert done.returncode == 7

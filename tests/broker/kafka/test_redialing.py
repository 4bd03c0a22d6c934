"""A broker that is away is dialled by one at a time, and ever more seldom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.conn import create_conn  # noqa: TID251 -- the behaviour under test is its own
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed  # noqa: TID251

from playhead.broker.kafka.redialing import LONGEST_SECONDS, SHORTEST_SECONDS, Redialing

HERE = ("host", 9092)
STEP_SECONDS = 1 / 64


class Broker:
    """One that is away until it `answers`, at a time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.answers = False
        self.dialled: list[float] = []
        self.redialing = Redialing(lambda: self.now)

    async def _connect(self) -> str:
        self.dialled.append(self.now)
        await asyncio.sleep(0)
        if not self.answers:
            raise ConnectionRefusedError(111, "Connect call failed")
        return "connected"

    async def dial(self, address: tuple[str, int] = HERE) -> object:
        return await self.redialing.dial(address, self._connect)

    async def all_fail(self, many: int = 1) -> None:
        for outcome in await asyncio.gather(*(self.dial() for _ in range(many)), return_exceptions=True):
            assert isinstance(outcome, ConnectionRefusedError)
            assert outcome.errno == 111


@pytest.fixture
def broker() -> Broker:
    return Broker()


async def test_of_many_one_dials_after_pauses_that_grow_to_a_second(broker: Broker) -> None:
    await broker.all_fail()
    for _ in range(640):
        broker.now += STEP_SECONDS
        await broker.all_fail(many=5)
    pauses = [after - before for before, after in zip(broker.dialled, broker.dialled[1:], strict=False)]
    assert SHORTEST_SECONDS <= pauses[0] < SHORTEST_SECONDS + STEP_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_SECONDS


async def test_everybody_dials_once_it_answers(broker: Broker) -> None:
    await broker.all_fail()
    broker.answers, broker.now = True, SHORTEST_SECONDS
    assert await broker.dial() == "connected"
    assert await asyncio.gather(*(broker.dial() for _ in range(3))) == ["connected"] * 3
    assert len(broker.dialled) == 5


async def test_another_address_is_dialled_at_once(broker: Broker) -> None:
    await broker.all_fail()
    broker.answers = True
    assert await broker.dial(("another", 9092)) == "connected"


async def test_turn_is_the_next_ones_when_whoever_dials_is_cancelled(broker: Broker) -> None:
    await broker.all_fail()
    broker.answers, broker.now = True, SHORTEST_SECONDS
    first = asyncio.create_task(broker.dial())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    assert await broker.dial() == "connected"


async def test_refused_credentials_are_no_silence(broker: Broker) -> None:
    async def refused() -> None:
        raise SaslAuthenticationFailed("no")

    for _ in range(2):
        with pytest.raises(SaslAuthenticationFailed):
            await broker.redialing.dial(HERE, refused)
    broker.answers = True
    assert await broker.dial() == "connected"


@pytest.fixture
async def hangs_up() -> AsyncIterator[tuple[int, list[object]]]:
    """A port that closes each connection at once, and who came."""
    came: list[object] = []

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], came
    server.close()


async def test_connections_of_aiokafka_are_made_in_turn(hangs_up: tuple[int, list[object]]) -> None:
    port, came = hangs_up
    with pytest.raises(KafkaConnectionError):
        await create_conn("127.0.0.1", port)
    tries = await asyncio.gather(*(create_conn("127.0.0.1", port) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(error, KafkaConnectionError) for error in tries)
    assert len(came) <= 3

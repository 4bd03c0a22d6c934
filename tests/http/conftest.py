"""The API on a broker in memory, reached without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from playhead import Client
from playhead.broker.memory import MemoryBroker
from playhead.http import create_app, reaches
from playhead.topics import entity_topic, system_topics


@pytest.fixture
async def memory() -> AsyncIterator[MemoryBroker]:
    """(The fixture `broker` is the real one, which the tests marked kafka share.)"""
    memory = MemoryBroker()
    await memory.start()
    await memory.create_topics([entity_topic(name) for name in ("test", "parcel", "thing")] + system_topics())
    yield memory
    await memory.stop()


@pytest.fixture
def client(memory: MemoryBroker) -> Client:
    return Client("shop", broker=memory)


@pytest.fixture
def app(client: Client, memory: MemoryBroker) -> FastAPI:
    return create_app(client, broker_reached=reaches(memory))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http,
    ):
        yield http

"""GET /healthz and /readyz: alive is not ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from playhead import Client
from playhead.broker.memory import MemoryBroker
from playhead.http import BrokerProbe, Limits, Readiness, WorkerState, create_app, reaches


@asynccontextmanager
async def api(
    client: Client, probe: BrokerProbe, worker: WorkerState | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(client, broker_reached=probe, worker=worker, limits=Limits(ready_seconds=0.01))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http


async def reached() -> bool:
    return True


async def test_alive_while_the_broker_is_away(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    memory.faults.unavailable = True
    answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_when_the_broker_answers(http: httpx.AsyncClient) -> None:
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_not_ready_while_the_broker_is_away(http: httpx.AsyncClient, memory: MemoryBroker) -> None:
    memory.faults.unavailable = True
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    body = answer.json()
    assert body["code"] == "PH612"
    assert len(body["missing"]) == 1
    assert body["missing"][0].startswith("broker: ")
    memory.faults.unavailable = False
    assert (await http.get("/readyz")).status_code == 200


async def test_broker_that_does_not_answer_is_not_waited_for(client: Client) -> None:
    async def hangs() -> bool:
        await asyncio.Event().wait()
        return True

    async with api(client, hangs) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["broker: no answer within 0.01 s"])


async def test_probe_that_says_no(client: Client) -> None:
    async def says_no() -> bool:
        return False

    async with api(client, says_no) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["broker: not reached"])


async def test_workers_tasks_count(client: Client) -> None:
    state = Readiness(("job welcome: tasks 2 and 3 do not run",))
    async with api(client, reached, lambda: state) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["missing"]) == (503, ["job welcome: tasks 2 and 3 do not run"])
        state = Readiness()
        assert (await http.get("/readyz")).status_code == 200


async def test_all_that_is_missing_is_named(client: Client, memory: MemoryBroker) -> None:
    memory.faults.unavailable = True
    async with api(client, reaches(memory), lambda: Readiness(("worker: not started",))) as http:
        assert len((await http.get("/readyz")).json()["missing"]) == 2

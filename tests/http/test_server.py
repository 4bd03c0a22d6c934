"""Serving on a real socket: the port, the signals, the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from playhead import Client
from playhead.errors import InvalidSetting, PortInUse
from playhead.http import listen, serve, url_of
from playhead.http.port_owner import listener_of
from playhead.http.server import StartFailed

EVENT = {"event": "thing.happened", "payload": {"n": 1}}


class Serving:
    """A server in a task of its own, with the means to stop it."""

    def __init__(self, app: Any, **options: Any) -> None:
        sockets = listen("127.0.0.1", 0)
        self.url, self.port = url_of(sockets), sockets[0].getsockname()[1]
        self.stop = asyncio.Event()
        self.started = asyncio.Event()
        self.task = asyncio.create_task(
            serve(app, sockets=sockets, stop=self.stop, started=self.started.set, **options)
        )


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[Serving]:
    serving = Serving(app, **options)
    try:
        await asyncio.wait_for(serving.started.wait(), 10)
        yield serving
    finally:
        serving.stop.set()
        await asyncio.wait({serving.task}, timeout=10)
    if not serving.task.cancelled():
        serving.task.result()


class TestListen:
    def test_port_0_picks_a_free_one(self) -> None:
        sockets = listen("127.0.0.1", 0)
        try:
            assert url_of(sockets) == f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        finally:
            sockets[0].close()

    def test_localhost_takes_the_port_on_each_of_its_addresses(self) -> None:
        sockets = listen("localhost", 0)
        try:
            assert len({taken.getsockname()[1] for taken in sockets}) == 1
            assert len(sockets) == len({taken.family for taken in sockets})
        finally:
            for taken in sockets:
                taken.close()

    def test_busy_port_names_who_listens_and_the_way_out(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(PortInUse) as caught:
                listen("127.0.0.1", port)
        assert f"127.0.0.1:{port}" in caught.value.message
        assert f"(pid {os.getpid()})" in caught.value.message
        assert "--port" in caught.value.remedy

    def test_the_port_that_is_offered_instead_is_free(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as neighbour:
            port = other.getsockname()[1]
            with contextlib.suppress(OSError):  # else another program has it, which serves as well
                neighbour.bind(("127.0.0.1", port + 1))
                neighbour.listen()
            with pytest.raises(PortInUse) as caught:
                listen("127.0.0.1", port)
            offered = int(caught.value.remedy.removesuffix(".").rpartition(" ")[2])
            assert offered != port + 1
            for taken in listen("127.0.0.1", offered):
                taken.close()

    @pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("192.0.2.1", 0), ("127.0.0.1", 70_000)])
    def test_address_that_is_none_of_this_machines(self, host: str, port: int) -> None:
        with pytest.raises(InvalidSetting):
            listen(host, port)

    def test_port_of_a_closed_connection_is_free(self) -> None:
        sockets = listen("127.0.0.1", 0)
        port = sockets[0].getsockname()[1]
        sockets[0].listen()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            sockets[0].setblocking(True)
            accepted, _ = sockets[0].accept()
            accepted.close()  # the server closes first, so its end stays in TIME_WAIT
            assert connection.recv(1) == b""
        sockets[0].close()
        for taken in listen("127.0.0.1", port):
            taken.close()

    def test_listener_is_unknown_where_the_system_does_not_tell(self, tmp_path: Path) -> None:
        assert listener_of(3002, tmp_path) is None


class TestServe:
    async def test_requests_are_answered_over_a_socket(self, app: FastAPI) -> None:
        async with served(app) as serving, httpx.AsyncClient(base_url=serving.url) as http:
            answer = await http.post("/trigger", json=EVENT)
            assert answer.status_code == 200
            assert "server" not in answer.headers
            head = await http.head("/healthz")
            assert (head.status_code, head.content) == (200, b"")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", serving.port))

    async def test_signals_stay_the_callers(self, app: FastAPI) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with served(app):
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    async def test_port_taken_between_listen_and_serve(self, app: FastAPI) -> None:
        sockets = listen("127.0.0.1", 0)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(sockets[0].getsockname())
            other.listen()
            with pytest.raises(PortInUse):
                await serve(app, sockets=sockets)

    async def test_busy_port_is_found_before_anything_starts(self, app: FastAPI) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortInUse):
            await serve(app, "127.0.0.1", other.getsockname()[1])

    async def test_application_that_does_not_start(self, app: FastAPI) -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

        with pytest.raises(StartFailed):
            await serve(broken, "127.0.0.1", 0)

    async def test_malformed_requests_do_not_disturb(self, app: FastAPI) -> None:
        async with served(app) as serving:
            for request in (b"\x00\xff\r\n\r\n", b"POST /trigger HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 400")
                writer.close()
                await writer.wait_closed()
            async with httpx.AsyncClient(base_url=serving.url) as http:
                assert (await http.get("/healthz")).status_code == 200

    async def test_body_cut_off_sends_nothing(self, app: FastAPI, memory: Any) -> None:
        async with served(app) as serving:
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            head = b"POST /trigger HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
            writer.write(head + b'{"event":"thing.happened"}')
            writer.write_eof()
            assert b"HTTP/1.1 200" not in await reader.read()
            writer.close()
            await writer.wait_closed()
        assert memory.stored("thing") == []

    async def test_body_somewhat_too_large_is_answered_and_the_connection_goes_on(self, app: FastAPI) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b" " * 65_536

        headers = {"content-type": "application/json"}
        async with served(app) as serving, httpx.AsyncClient(base_url=serving.url) as http:
            for content in (chunks(), b" " * 2_000_000):
                answer = await http.post("/trigger", content=content, headers=headers)
                assert answer.status_code == 413
                assert (await http.post("/trigger", json=EVENT)).status_code == 200


class TestStop:
    @pytest.fixture
    def held(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
        """The next send says that it has begun, and goes on when told."""
        begun, go_on = asyncio.Event(), asyncio.Event()
        send_all = client.send_all

        async def slow(events: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await send_all(events)

        monkeypatch.setattr(client, "send_all", slow)
        return begun, go_on

    async def test_request_that_has_begun_ends(self, app: FastAPI, held: tuple[asyncio.Event, asyncio.Event]) -> None:
        begun, go_on = held
        async with served(app) as serving, httpx.AsyncClient(base_url=serving.url) as http:
            request = asyncio.create_task(http.post("/trigger", json=EVENT))
            await begun.wait()
            serving.stop.set()
            go_on.set()
            assert (await request).status_code == 200
            await serving.task

    async def test_cancel_is_a_stop_with_grace(self, app: FastAPI, held: tuple[asyncio.Event, asyncio.Event]) -> None:
        begun, go_on = held
        async with served(app) as serving, httpx.AsyncClient(base_url=serving.url) as http:
            request = asyncio.create_task(http.post("/trigger", json=EVENT))
            await begun.wait()
            serving.task.cancel()
            go_on.set()
            assert (await request).status_code == 200
            with pytest.raises(asyncio.CancelledError):
                await serving.task

    async def test_request_beyond_the_grace_is_503_and_not_acknowledged(
        self, app: FastAPI, memory: Any, held: tuple[asyncio.Event, asyncio.Event]
    ) -> None:
        begun, _ = held
        async with served(app, grace_seconds=0) as serving, httpx.AsyncClient(base_url=serving.url) as http:
            request = asyncio.create_task(http.post("/trigger", json=EVENT))
            await begun.wait()
            serving.stop.set()
            answer = await request
            assert (answer.status_code, answer.json()["code"]) == (503, "PH613")
            assert "retry-after" in answer.headers
        assert memory.stored("thing") == []

    async def test_idle_connections_do_not_hold_the_stop(self, app: FastAPI) -> None:
        async with served(app) as serving:
            reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
            serving.stop.set()
            await asyncio.wait_for(serving.task, 5)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

"""What a body may be: type, size, time, and the corners of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.types import Message

from playhead import Client
from playhead.broker.memory import MemoryBroker
from playhead.http import Limits, create_app, reaches

JSON = {"content-type": "application/json"}
EVENT = b'{"event":"thing.happened"}'


async def post(http: httpx.AsyncClient, content: bytes, **headers: str) -> httpx.Response:
    return await http.post("/trigger", content=content, headers={**JSON, **headers})


def with_payload(payload: bytes) -> bytes:
    return b'{"event":"thing.happened","payload":' + payload + b"}"


class TestType:
    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "Application/JSON; charset=UTF-8",
            'application/json;charset="utf-8"',
            "application/vnd.acme.v1+json",
            "application/json; profile=x",
        ],
    )
    async def test_json_by_any_of_its_names_is_taken(self, http: httpx.AsyncClient, content_type: str) -> None:
        assert (await http.post("/trigger", content=EVENT, headers={"content-type": content_type})).status_code == 200

    @pytest.mark.parametrize(
        "content_type",
        [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "application/json; charset=utf-16",
            "application/json; charset=latin-1",
            "text/json",
            "application/+json",
        ],
    )
    async def test_anything_else_is_415(self, http: httpx.AsyncClient, memory: MemoryBroker, content_type: str) -> None:
        headers = {"content-type": content_type} if content_type else {}
        answer = await http.post("/trigger", content=EVENT, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "PH606")
        assert memory.stored("thing") == []

    async def test_encoded_body_is_415(self, http: httpx.AsyncClient) -> None:
        assert (await post(http, EVENT, **{"content-encoding": "gzip"})).status_code == 415
        assert (await post(http, EVENT, **{"content-encoding": "identity"})).status_code == 200


class TestNotJson:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"  ",
            b"{",
            b"event=thing.happened",
            b"{'event': 1}",
            b'{"event":"thing.happened",}',
            EVENT + b"x",
            b"NaN",
            with_payload(b'{"n":NaN}'),
            with_payload(b'{"n":Infinity}'),
            with_payload(b'{"n":-Infinity}'),
            with_payload(b'{"n":1e400}'),
            with_payload(b'{"n":01}'),
            b"\xef\xbb\xbf" + EVENT,
            EVENT.decode().encode("utf-16"),
            with_payload(b'{"t":"\xff"}'),
            with_payload(b'{"t":"\xed\xa0\x80"}'),
            with_payload(b'{"t":"\\ud800"}'),
            with_payload(b'{"t":"\x00"}'),
            b"// comment\n" + EVENT,
        ],
    )
    async def test_is_400(self, http: httpx.AsyncClient, memory: MemoryBroker, body: bytes) -> None:
        answer = await post(http, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "PH602")
        assert answer.json()["error"].startswith("the body is not JSON: ")
        assert memory.stored("thing") == []


class TestCarriedUnchanged:
    @pytest.mark.parametrize(
        "payload",
        [
            b'{"n":18446744073709551615}',
            b'{"n":-9223372036854775808}',
            b'{"n":9007199254740993}',
            b'{"n":0.1}',
            b'{"n":-0.0}',
            b'{"n":1e-300}',
            '{"t":"ü\\u0000😀"}'.encode(),
            b'{"t":"18446744073709551616"}',
            b'{"18446744073709551616":1}',
            b'{"t":"\\"18446744073709551616"}',
            b'{"n":null}',
            b'{"":{"":[]}}',
        ],
    )
    async def test_what_json_can_say(self, http: httpx.AsyncClient, memory: MemoryBroker, payload: bytes) -> None:
        assert (await post(http, with_payload(payload))).status_code == 200
        (record,) = memory.stored("thing")
        assert record.value is not None
        assert orjson.loads(record.value) == orjson.loads(payload)
        assert repr(orjson.loads(record.value)) == repr(orjson.loads(payload))

    @pytest.mark.parametrize(
        ("number", "status", "code"),
        [
            (b"18446744073709551616", 422, "PH609"),
            (b"-9223372036854775809", 422, "PH609"),
            (b"-" + b"9" * 30, 422, "PH609"),
            (b"1" * 300, 422, "PH609"),
            (b"1" * 400, 400, "PH602"),  # beyond a double as well, so that no JSON parser here reads it
        ],
    )
    async def test_integer_beyond_64_bits_is_refused_and_not_rounded(
        self, http: httpx.AsyncClient, memory: MemoryBroker, number: bytes, status: int, code: str
    ) -> None:
        for payload in (b'{"n":' + number + b"}", b'{"n":[1,"x",' + number + b"]}"):
            answer = await post(http, with_payload(payload))
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert memory.stored("thing") == []

    async def test_long_fraction_is_a_double(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        payload = b'{"a":0.12345678901234567890,"b":12345678901234567890.5,"c":12345678901234567890e5}'
        assert (await post(http, with_payload(payload))).status_code == 200

    async def test_of_equal_names_the_last_counts(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        body = b'{"event":"","event":"thing.happened","payload":{"n":1,"n":2}}'
        assert (await post(http, body)).status_code == 200
        assert [record.value for record in memory.stored("thing")] == [b'{"n":2}']

    @pytest.mark.parametrize("open_and_close", [(b"[", b"]"), (b'{"a":', b"}")])
    async def test_nesting_has_a_limit(
        self, http: httpx.AsyncClient, memory: MemoryBroker, open_and_close: tuple[bytes, bytes]
    ) -> None:
        opening, closing = open_and_close

        def nested(levels: int) -> bytes:
            return with_payload(b'{"x":' + opening * levels + b"1" + closing * levels + b"}")

        assert (await post(http, nested(198))).status_code == 200  # two levels are the body and its payload
        for levels in (199, 250, 300, 1_000, 1_100, 50_000):
            answer = await post(http, nested(levels))
            assert (answer.status_code, answer.json()["code"]) == (422, "PH609"), levels
        assert len(memory.stored("thing")) == 1

    async def test_typed_payload_at_the_nesting_limit_is_taken(self, http: httpx.AsyncClient) -> None:
        payload = b'{"parcelId":"p","weightGrams":1,"extra":' + b"[" * 198 + b"]" * 198 + b"}"
        assert (await post(http, payload.join([b'{"event":"parcel.shipped","payload":', b"}"]))).status_code == 200

    async def test_many_siblings_are_no_nesting(self, http: httpx.AsyncClient) -> None:
        assert (await post(http, with_payload(b'{"x":[' + b"[{}]," * 5_000 + b"[]]}"))).status_code == 200


class TestSize:
    @pytest.fixture
    async def small(self, client: Client, memory: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(client, broker_reached=reaches(memory), limits=Limits(event_body_bytes=64))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            yield http

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"content-length", b"1048577"), (b"expect", b"100-continue")],
            [(b"content-length", b"20000000")],
            [(b"content-length", b"9" * 5_000)],
        ],
    )
    async def test_declared_length_is_refused_before_reading(
        self, app: FastAPI, headers: list[tuple[bytes, bytes]]
    ) -> None:
        async def receive() -> Message:
            raise AssertionError("the body was read")

        answer = await asked(app, receive, *headers)
        assert answer[0]["status"] == 413
        assert (b"connection", b"close") in answer[0]["headers"]

    async def test_body_somewhat_too_large_is_read_so_that_the_client_hears_the_answer(self, app: FastAPI) -> None:
        chunks = [b" " * 1_000_000] * 4

        async def receive() -> Message:
            return {"type": "http.request", "body": chunks.pop(), "more_body": bool(chunks)}

        answer = await asked(app, receive, (b"content-length", b"4000000"))
        assert answer[0]["status"] == 413
        assert (b"connection", b"close") not in answer[0]["headers"]
        assert chunks == []

    async def test_body_that_never_ends_is_counted_while_it_arrives(self, app: FastAPI) -> None:
        received = [0]

        async def receive() -> Message:
            received[0] += 65_536
            return {"type": "http.request", "body": b" " * 65_536, "more_body": True}

        answer = await asked(app, receive)
        assert answer[0]["status"] == 413
        assert (b"connection", b"close") in answer[0]["headers"]
        assert received[0] < 18 * 1_048_576

    async def test_body_of_the_limit_is_taken_and_a_byte_more_is_not(
        self, small: httpx.AsyncClient, memory: MemoryBroker
    ) -> None:
        def chunked(size: int) -> Iterator[bytes]:
            yield from (EVENT.ljust(size)[start : start + 10] for start in range(0, size, 10))

        async def stream(size: int) -> AsyncIterator[bytes]:
            for chunk in chunked(size):
                yield chunk

        for content in (EVENT.ljust(64), stream(64)):
            assert (await small.post("/trigger", content=content, headers=JSON)).status_code == 200
        for content in (EVENT.ljust(65), stream(65)):
            answer = await small.post("/trigger", content=content, headers=JSON)
            assert (answer.status_code, answer.json()["code"], answer.json()["limitBytes"]) == (413, "PH604", 64)
        assert len(memory.stored("thing")) == 2


class TestTransport:
    async def test_body_that_does_not_come_is_408(self, client: Client, memory: MemoryBroker) -> None:
        app = create_app(client, broker_reached=reaches(memory), limits=Limits(body_seconds=0.01))

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        answer = await asked(app, receive)
        assert answer[0]["status"] == 408
        assert (b"connection", b"close") in answer[0]["headers"]

    async def test_client_that_goes_away_within_its_body_sends_nothing(
        self, app: FastAPI, memory: MemoryBroker
    ) -> None:
        messages: list[Message] = [
            {"type": "http.request", "body": EVENT, "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Message:
            return messages.pop(0)

        assert await asked(app, receive) == []
        assert memory.stored("thing") == []


async def asked(app: FastAPI, receive: object, *headers: tuple[bytes, bytes]) -> list[Message]:
    """POST /trigger with a body as `receive` has it; what the application sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/trigger",
        "raw_path": b"/trigger",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3002),
    }
    await app(scope, receive, send)  # type: ignore[arg-type]
    return sent

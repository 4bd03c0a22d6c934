"""POST /trigger, as the guide has it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from playhead import Client
from playhead.broker.contract import Appended, Record, StoredRecord
from playhead.broker.memory import MemoryBroker
from playhead.errors import BrokerTooOld, NotAuthorized
from playhead.http import create_app, reaches
from tests.http.parcels import ParcelShipped

GUIDE = {"event": "test.event", "payload": {"message": "This is a test event"}}
MISSING = b'{"error":"Missing required fields"}'


def headers_of(record: StoredRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


class TestSent:
    async def test_guides_event_is_answered_as_the_guide_says(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/trigger", json=GUIDE)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert body.keys() == {"success", "message", "result"}
        assert body["success"] is True
        assert body["message"] == "Event test.event sent"
        assert body["result"].keys() == {"id", "topic", "partition", "offset"}

    async def test_answer_names_the_place_where_the_event_is(
        self, http: httpx.AsyncClient, memory: MemoryBroker
    ) -> None:
        result = (await http.post("/trigger", json=GUIDE)).json()["result"]
        (record,) = memory.stored("test")
        assert (record.topic, record.partition, record.offset) == (
            result["topic"],
            result["partition"],
            result["offset"],
        )
        assert record.value == b'{"message":"This is a test event"}'
        headers = headers_of(record)
        assert headers["ce_id"] == result["id"]
        assert headers["ce_type"] == "test.event"
        assert headers["ce_source"] == "/playhead/shop"
        assert "ce_playheadminted" in headers

    async def test_missing_payload_is_an_empty_object(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        assert (await http.post("/trigger", json={"event": "thing.happened"})).status_code == 200
        assert [record.value for record in memory.stored("thing")] == [b"{}"]

    async def test_fields_that_are_null_count_as_missing(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        body = {"event": "thing.happened", "payload": None, "id": None, "key": None}
        assert (await http.post("/trigger", json=body)).status_code == 200
        (record,) = memory.stored("thing")
        assert record.value == b"{}"
        assert "ce_playheadminted" in headers_of(record)

    async def test_id_and_key_are_the_records(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        body = {"event": "thing.happened", "payload": {"n": 1}, "id": "order 7 / ünïcode", "key": "käse"}
        answer = await http.post("/trigger", json=body)
        (record,) = memory.stored("thing")
        assert answer.json()["result"]["id"] == "order 7 / ünïcode"
        assert headers_of(record)["ce_id"] == "order 7 / ünïcode"
        assert "ce_playheadminted" not in headers_of(record)
        assert record.key == "käse".encode()

    async def test_typed_payload_gets_its_key_and_schema(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        payload = {"parcelId": "p-1", "weightGrams": 300}
        assert (await http.post("/trigger", json={"event": "parcel.shipped", "payload": payload})).status_code == 200
        (record,) = memory.stored("parcel")
        assert record.key == b"p-1"
        assert headers_of(record)["ce_dataschema"] == ParcelShipped.__event__.schema_uri

    async def test_events_of_one_key_keep_their_order(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        for number in range(5):
            await http.post("/trigger", json={"event": "thing.happened", "payload": {"n": number}, "key": "k"})
        assert [record.value for record in memory.stored("thing")] == [b'{"n":%d}' % n for n in range(5)]

    async def test_offset_that_the_broker_has_forgotten_is_null(
        self, http: httpx.AsyncClient, memory: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def append(records: list[Record]) -> list[Appended]:
            return [Appended(record.topic, record.partition, -1) for record in records]

        monkeypatch.setattr(memory, "append", append)
        answer = await http.post("/trigger", json=GUIDE)
        assert (answer.status_code, answer.json()["result"]["offset"]) == (200, None)


class TestMissing:
    @pytest.mark.parametrize(
        "body",
        [
            "null",
            "[]",
            '"text"',
            "5",
            "true",
            "{}",
            '{"event":""}',
            '{"event":null}',
            '{"event":false}',
            '{"event":0}',
            '{"payload":{}}',
            '{"event":"","unknown":1}',
            '[{"event":"thing.happened"}]',
        ],
    )
    async def test_no_event_is_answered_to_the_letter(self, http: httpx.AsyncClient, body: str) -> None:
        answer = await http.post("/trigger", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert answer.content == MISSING
        assert answer.headers["content-type"] == "application/json"


class TestRefused:
    async def refused(self, http: httpx.AsyncClient, memory: MemoryBroker, body: dict[str, Any]) -> dict[str, Any]:
        answer = await http.post("/trigger", json=body)
        assert answer.status_code == 422
        error: dict[str, Any] = answer.json()
        assert error["error"]
        assert error["remedy"]
        assert [r for topic in ("test", "parcel", "thing") for r in memory.stored(topic)] == []
        return error

    async def test_name_is_answered_with_its_rule_and_a_suggestion(
        self, http: httpx.AsyncClient, memory: MemoryBroker
    ) -> None:
        error = await self.refused(http, memory, {"event": "UserCreated"})
        assert error["code"] == "PH101"
        assert error["rule"] == "use lower case letters only."
        assert error["suggestion"] == "user.created"

    @pytest.mark.parametrize("name", [5, 1.5, True, [], {}, ["a"], {"a": 1}])
    async def test_name_that_is_no_text(self, http: httpx.AsyncClient, memory: MemoryBroker, name: object) -> None:
        error = await self.refused(http, memory, {"event": name})
        assert (error["code"], error["rule"], error["suggestion"]) == ("PH101", "it must be text.", None)

    async def test_playheads_own_entities_cannot_be_sent(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        error = await self.refused(http, memory, {"event": "run.succeeded"})
        assert error["code"] == "PH101"

    @pytest.mark.parametrize("payload", [[], "text", 5, True, 0, ""])
    async def test_payload_that_is_no_object(
        self, http: httpx.AsyncClient, memory: MemoryBroker, payload: object
    ) -> None:
        error = await self.refused(http, memory, {"event": "thing.happened", "payload": payload})
        assert error["code"] == "PH102"

    async def test_payload_is_answered_with_its_fields(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        error = await self.refused(http, memory, {"event": "parcel.shipped", "payload": {"weightGrams": "heavy"}})
        assert error["code"] == "PH102"
        assert [field["field"] for field in error["fields"]] == ["parcelId", "weightGrams"]
        assert all(field["error"] for field in error["fields"])

    async def test_unknown_field_is_named(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        error = await self.refused(http, memory, {"event": "thing.happened", "dealy": {"hours": 24}, "kye": "7"})
        assert error["code"] == "PH607"
        assert [field["field"] for field in error["fields"]] == ["dealy", "kye"]

    @pytest.mark.parametrize("field", ["id", "key"])
    @pytest.mark.parametrize("value", [5, True, {}, []])
    async def test_id_and_key_are_text(
        self, http: httpx.AsyncClient, memory: MemoryBroker, field: str, value: object
    ) -> None:
        error = await self.refused(http, memory, {"event": "thing.happened", field: value})
        assert error["fields"] == [{"field": field, "error": "it must be text"}]

    @pytest.mark.parametrize("value", ["", "x" * 256, "line\nbreak", "nul\0"])
    async def test_id_that_cannot_be_one(self, http: httpx.AsyncClient, memory: MemoryBroker, value: str) -> None:
        error = await self.refused(http, memory, {"event": "thing.happened", "id": value})
        assert error["code"] == "PH100"

    async def test_key_that_is_too_long(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        error = await self.refused(http, memory, {"event": "thing.happened", "key": "ü" * 513})
        assert error["code"] == "PH100"

    async def test_unknown_topic_is_answered_with_the_command_that_makes_it(
        self, http: httpx.AsyncClient, memory: MemoryBroker
    ) -> None:
        error = await self.refused(http, memory, {"event": "usr.created"})
        assert (error["code"], error["topic"]) == ("PH104", "usr")
        assert error["remedy"] == "Create it: playhead topics create usr"

    async def test_answer_does_not_repeat_a_megabyte(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        answer = await http.post("/trigger", json={"event": "x" * 1_000_000})
        assert answer.status_code == 422
        assert len(answer.content) < 2_000


class TestIdempotencyKey:
    @pytest.mark.parametrize("header", ["signup-7", '"signup-7"', "  signup-7 "])
    async def test_is_the_events_id(self, http: httpx.AsyncClient, memory: MemoryBroker, header: str) -> None:
        answer = await http.post("/trigger", json=GUIDE, headers={"Idempotency-Key": header})
        assert answer.json()["result"]["id"] == "signup-7"
        (record,) = memory.stored("test")
        assert headers_of(record)["ce_id"] == "signup-7"
        assert "ce_playheadminted" not in headers_of(record)

    async def test_quoted_string_is_unescaped(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/trigger", json=GUIDE, headers={"Idempotency-Key": r'"a\"b\\c"'})
        assert answer.json()["result"]["id"] == r'a"b\c'

    async def test_may_repeat_the_bodys_id(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/trigger", json={**GUIDE, "id": "a"}, headers={"Idempotency-Key": "a"})
        assert answer.json()["result"]["id"] == "a"

    async def test_that_differs_from_the_bodys_id_is_refused(
        self, http: httpx.AsyncClient, memory: MemoryBroker
    ) -> None:
        answer = await http.post("/trigger", json={**GUIDE, "id": "b"}, headers={"Idempotency-Key": "a"})
        assert (answer.status_code, answer.json()["code"]) == (422, "PH608")
        assert memory.stored("test") == []

    @pytest.mark.parametrize("header", [b"", b'"', b'""', b'"open', "schlüssel".encode(), b"x" * 256])
    async def test_that_is_no_id_is_refused(self, http: httpx.AsyncClient, memory: MemoryBroker, header: bytes) -> None:
        answer = await http.post("/trigger", json=GUIDE, headers=[(b"Idempotency-Key", header)])
        assert answer.status_code == 422
        assert memory.stored("test") == []

    async def test_twice_is_refused(self, http: httpx.AsyncClient) -> None:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
        assert (await http.post("/trigger", json=GUIDE, headers=headers)).status_code == 422


class TestBroker:
    async def test_away_is_503_with_retry_after(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        await http.post("/trigger", json=GUIDE)
        memory.faults.unavailable = True
        answer = await http.post("/trigger", json=GUIDE)
        memory.faults.unavailable = False
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] == "PH201"
        assert len(memory.stored("test")) == 1

    async def test_event_beyond_its_topics_limit_is_413(self, http: httpx.AsyncClient, memory: MemoryBroker) -> None:
        body = {"event": "thing.happened", "payload": {"text": "x" * 800_000}}
        answer = await http.post("/trigger", json=body)
        assert (answer.status_code, answer.json()["code"]) == (413, "PH103")
        assert answer.json()["sizeBytes"] > answer.json()["limitBytes"] > 700_000
        assert memory.stored("thing") == []

    @pytest.mark.parametrize(
        "error", [NotAuthorized("not authorized to write to topic 'thing'."), BrokerTooOld("old.")]
    )
    async def test_refusal_of_the_servers_credentials_or_of_the_broker_is_502(
        self, memory: MemoryBroker, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def topic(name: str) -> None:
            raise error

        monkeypatch.setattr(memory, "topic", topic)
        app = create_app(Client("shop", broker=memory), broker_reached=reaches(memory))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            answer = await http.post("/trigger", json={"event": "thing.happened"})
        assert answer.status_code == 502
        assert "retry-after" not in answer.headers
        assert answer.json()["code"] == error.code  # type: ignore[attr-defined]

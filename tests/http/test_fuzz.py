"""Whatever is sent: never a 500, and 200 exactly when the event is in the log."""

from __future__ import annotations

import json
from typing import Any

import httpx
import orjson
from hypothesis import event, given, settings
from hypothesis import strategies as st

from playhead import Client
from playhead.broker.memory import MemoryBroker
from playhead.http import create_app, reaches
from playhead.topics import entity_topic
from tests.http import parcels

ENTITIES = ("parcel", "thing")
CODES = {200, 207, 400, 413, 415, 422}

_leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_json = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
_names = st.sampled_from(
    ["thing.happened", "parcel.shipped", "thing", "usr.created", "Thing.Happened", "run.failed", ""]
)
_payloads = _json | st.fixed_dictionaries({}, optional={"parcelId": _json, "weightGrams": _json, "more": _json})
_events = st.fixed_dictionaries(
    {}, optional={"event": _names | _json, "payload": _payloads, "id": st.text() | _json, "key": st.text() | _json}
)
_good_events = st.fixed_dictionaries(
    {"event": st.just("thing.happened"), "payload": st.dictionaries(st.text(), _json, max_size=4)},
    optional={"id": st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1), "key": st.text()},
)
_near_events = (
    _good_events | _events | st.dictionaries(st.sampled_from(["event", "payload", "id", "key", "delay"]), _json) | _json
)
_encoded = _near_events.map(lambda value: json.dumps(value).encode())  # integers of any size, surrogates escaped
_bytes = (
    st.binary() | _encoded | st.tuples(_encoded, st.binary(max_size=4), st.integers(0, 200)).map(lambda t: _spliced(*t))
)


def _spliced(body: bytes, inserted: bytes, at: int) -> bytes:
    at = min(at, len(body))
    return body[:at] + inserted + body[at:]


def _batch(events: list[Any]) -> bytes:
    return json.dumps({"events": events}).encode()


async def posted(path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[httpx.Response, MemoryBroker]:
    assert parcels.ParcelShipped.__event__.name == "parcel.shipped"
    broker = MemoryBroker()
    await broker.start()
    await broker.create_topics([entity_topic(name) for name in ENTITIES])
    app = create_app(Client("fuzz", broker=broker), broker_reached=reaches(broker))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.post(path, content=body, headers=headers)
    await broker.stop()
    return answer, broker


def stored(broker: MemoryBroker) -> list[tuple[str, int, int, str]]:
    records = [record for name in ENTITIES for record in broker.stored(name)]
    return [(r.topic, r.partition, r.offset, dict(r.headers)["ce_id"].decode()) for r in records]


def place(result: dict[str, Any]) -> tuple[str, int, int, str]:
    return result["topic"], result["partition"], result["offset"], result["id"]


@settings(deadline=None, max_examples=300)
@given(body=_bytes, header=st.none() | st.binary(max_size=20))
async def test_trigger_takes_anything(body: bytes, header: bytes | None) -> None:
    headers = [(b"content-type", b"application/json")]
    if header is not None:
        headers.append((b"idempotency-key", header))
    answer, broker = await posted("/trigger", body, headers)
    event(str(answer.status_code))
    assert answer.status_code in CODES
    found = stored(broker)
    if answer.status_code == 200:
        assert found == [place(answer.json()["result"])]
        (record,) = [record for name in ENTITIES for record in broker.stored(name)]
        payload = orjson.loads(record.value or b"")
        assert record.topic == "thing" or payload.keys() >= {"parcelId", "weightGrams"}
    else:
        assert found == []
        error = answer.json()
        assert error == {"error": "Missing required fields"} or {"error", "code", "remedy"} <= error.keys()


@settings(deadline=None, max_examples=200)
@given(payload=st.dictionaries(st.text(), _json, max_size=5))
async def test_payload_is_carried_unchanged_or_refused(payload: dict[str, Any]) -> None:
    body = json.dumps({"event": "thing.happened", "payload": payload}).encode()
    answer, broker = await posted("/trigger", body, [(b"content-type", b"application/json")])
    event(str(answer.status_code))
    if answer.status_code == 200:
        (record,) = broker.stored("thing")
        assert repr(json.loads(record.value or b"")) == repr(payload)
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "PH609")


@settings(deadline=None, max_examples=200)
@given(body=_bytes | st.lists(_near_events, max_size=6).map(_batch))
async def test_batch_takes_anything(body: bytes) -> None:
    answer, broker = await posted("/api/events", body, [(b"content-type", b"application/json")])
    event(str(answer.status_code))
    assert answer.status_code in CODES
    results = answer.json().get("results", [])
    acknowledged = [place(result["result"]) for result in results if result["success"]]
    assert sorted(acknowledged) == sorted(stored(broker))
    if answer.status_code == 200:
        assert len(acknowledged) == len(results)
    if answer.status_code == 207:
        assert len(acknowledged) < len(results)


@settings(deadline=None, max_examples=200)
@given(content_type=st.binary(max_size=40) | st.sampled_from([b"application/json", b"application/x+json"]))
async def test_content_type_may_be_anything(content_type: bytes) -> None:
    answer, broker = await posted("/trigger", b'{"event":"thing.happened"}', [(b"content-type", content_type)])
    assert answer.status_code in {200, 415}
    assert len(stored(broker)) == (answer.status_code == 200)

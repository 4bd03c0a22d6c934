"""JSON, texts, times, topics: what goes over the wire and what may not."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.errors import InvalidInput, InvalidPayload, Poison
from playhead.events import Event, TypedEvent, outgoing
from playhead.serde import NotJson, from_json, plain_text, rfc3339, to_json
from playhead.topics import (
    DEAD_LETTER,
    DELAY,
    JOBS,
    MAX_MESSAGE_BYTES,
    RUN,
    SCHEDULE,
    entity_topic,
    event_limit_bytes,
    partition_for,
    system_topics,
)

NAN, INFINITE = float("nan"), float("inf")


class UnitReading(TypedEvent, name="unit-reading.taken", key="sensor"):
    sensor: str | None = None
    value: float = 0.0
    more: dict[str, Any] = {}

    def model_post_init(self, context: Any) -> None:
        if self.value < 0:
            raise KeyError("a validator's own mistake")


def read(value: bytes | None, headers: list[tuple[str, Any]]) -> Event:
    class Stored:
        topic, partition, offset, timestamp, key = "unit-reading", 0, 0, 0, None

    Stored.value, Stored.headers = value, headers  # type: ignore[attr-defined]
    return Event(Stored(), dict(headers))  # type: ignore[arg-type]


class TestJson:
    @pytest.mark.parametrize("value", [NAN, {"a": [1, INFINITE]}, {"a": (NAN,)}, {1, 2}, object(), 2**70, "\ud83d"])
    def test_what_has_no_form_is_refused(self, value: Any) -> None:
        with pytest.raises(NotJson):
            to_json(value)

    def test_null_is_no_nan(self) -> None:
        assert from_json(to_json({"a": None, "b": ["null"]})) == {"a": None, "b": ["null"]}

    @pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN", b"[" * 2_000])
    def test_what_is_none_is_told(self, data: bytes) -> None:
        with pytest.raises(NotJson):
            from_json(data)


class TestPayloads:
    """The same rules whether an event is given as a class or by its name."""

    circle: dict[str, Any] = {}
    circle["again"] = circle

    @pytest.mark.parametrize("value", [NAN, INFINITE, {"deep": [NAN]}, object(), "\ud83d", circle], ids=repr)
    def test_value_without_json_form_is_refused_at_once(self, value: Any) -> None:
        number = isinstance(value, float)
        with pytest.raises(InvalidPayload):
            outgoing(UnitReading(value=value) if number else UnitReading(more={"x": value}))
        with pytest.raises(InvalidPayload):
            outgoing("unit-reading.taken", {"value": value} if number else {"more": {"x": value}})

    def test_none_in_a_field_of_ones_own_is_kept(self) -> None:
        assert b'"x":null' in outgoing(UnitReading(more={"x": None})).value

    @pytest.mark.parametrize("key", [5, b"bytes", "half a pair \ud83d", "x" * 1_025])
    def test_key_that_is_no_text_or_too_long_is_refused(self, key: Any) -> None:
        with pytest.raises(InvalidInput, match="key of"):
            outgoing("unit-reading.taken", {}, key=key)

    def test_key_field_that_is_none_spreads_like_no_key(self) -> None:
        event = outgoing(UnitReading())
        assert event.key == event.id.encode()


class TestReading:
    @pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_correlationid", "ce_causationdepth", "traceparent"])
    def test_header_without_a_value_is_like_none(self, name: str) -> None:
        event = read(b"{}", [("ce_type", b"unit-reading.taken"), ("ce_id", b"1"), (name, None)])
        assert (event.depth, event.traceparent, event.causation_id) == (0, None, "")
        assert isinstance(event.id + event.name + event.correlation_id, str)

    @pytest.mark.parametrize("depth", [b"-1", b"many", b"9" * 40, "٣".encode(), b""])
    def test_depth_that_is_no_number_is_0(self, depth: bytes) -> None:
        assert read(b"{}", [("ce_causationdepth", depth)]).depth == 0

    @pytest.mark.parametrize("value", [None, b"{", b'{"value": "much"}', b'{"value": -1}'])
    def test_payload_that_can_not_be_had_is_poison_whatever_its_validator_raises(self, value: bytes | None) -> None:
        with pytest.raises(Poison):
            read(value, []).typed_payload(UnitReading)

    @given(st.binary(), st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "x"]), st.binary() | st.none())))
    def test_no_bytes_break_it(self, value: bytes, headers: list[tuple[str, Any]]) -> None:
        event = read(value, headers)
        for read_it in (event.check, event.payload, lambda: event.typed_payload(UnitReading)):
            with suppress(Poison):
                read_it()


class TestTexts:
    @given(st.text(st.characters(codec=None, exclude_categories=())))
    def test_any_text_becomes_one_that_utf8_has(self, text: str) -> None:
        assert len(plain_text(text).encode().decode()) == len(text)

    def test_object_whose_str_raises_has_a_text_too(self) -> None:
        class Silent:
            def __str__(self) -> str:
                raise ValueError

        assert "Silent" in plain_text(Silent())


class TestTimes:
    @given(st.lists(st.integers(0, 4_102_444_800_000), min_size=1, max_size=20))
    def test_are_rfc_3339_in_utc_to_the_millisecond(self, moments: list[int]) -> None:
        for millis in moments:
            told = datetime.fromisoformat(rfc3339(millis))
            assert told.tzinfo is not None
            assert told == datetime.fromtimestamp(millis / 1000, UTC)


class TestTopics:
    def test_event_and_its_copy_in_a_dead_letter_fit(self) -> None:
        largest = event_limit_bytes(MAX_MESSAGE_BYTES)
        (room,) = [int(t.config["max.message.bytes"]) for t in system_topics() if t.name == DEAD_LETTER]
        assert largest * 4 // 3 + 65_536 < room
        assert largest == 786_441  # 768 KiB and a little

    def test_history_is_kept_for_ever_and_the_groups_are_compacted(self) -> None:
        by_name = {topic.name: topic for topic in system_topics(prefix="staging.", partitions=3)}
        assert set(by_name) == {"staging." + name for name in (RUN, DEAD_LETTER, SCHEDULE, DELAY, JOBS)}
        assert by_name["staging.run"].config["retention.ms"] == "-1"
        assert by_name["staging." + JOBS].config["cleanup.policy"] == "compact"
        assert by_name["staging." + JOBS].partitions == 1
        assert entity_topic("user", partitions=9).config["retention.bytes"] == "-1"

    @given(st.binary(), st.integers(1, 1_000))
    def test_partition_is_one_of_the_topics(self, key: bytes, partitions: int) -> None:
        assert 0 <= partition_for(key, partitions) < partitions

"""Events before they reach a broker: names, payloads, ids and keys."""

from __future__ import annotations

from typing import Any

import pytest

from playhead.errors import InvalidEventName, InvalidInput, InvalidPayload
from playhead.events import MAX_KEY_BYTES, MAX_NAME_CHARS, TypedEvent, check_name, outgoing
from playhead.serde import MAX_ID_CHARS


class UnitParcelSent(TypedEvent, name="unit-parcel.sent", key="parcel_id"):
    parcel_id: str
    weight_grams: int


class TestNames:
    @pytest.mark.parametrize("name", ["user.created", "a.b", "user.email.changed", "big-order.paid2"])
    def test_name_that_keeps_the_convention_passes(self, name: str) -> None:
        assert check_name(name) == name

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("User.Created", "user.created"),
            ("user_created", "user.created"),
            ("userCreated", "user.created"),
            ("user/created", "user.created"),
            ("user..created", "user.created"),
        ],
    )
    def test_name_that_breaks_it_is_told_a_better_one(self, name: str, suggestion: str) -> None:
        with pytest.raises(InvalidEventName) as caught:
            check_name(name)
        assert suggestion in str(caught.value)

    @pytest.mark.parametrize(
        "name", ["", "user", "user.", ".created", "user.1st", "user.-x", "a." + "b" * 127, 7, None]
    )
    def test_name_that_breaks_it_is_refused(self, name: object) -> None:
        with pytest.raises(InvalidEventName):
            check_name(name)

    def test_longest_name_passes(self) -> None:
        assert check_name("a." + "b" * (MAX_NAME_CHARS - 2))

    @pytest.mark.parametrize("name", ["run.succeeded", "delay.due", "dead-letter.created", "playhead.jobs"])
    def test_own_entities_can_be_listened_to_and_not_sent(self, name: str) -> None:
        assert check_name(name, reserved_ok=True) == name
        with pytest.raises(InvalidEventName):
            check_name(name)


class TestOutgoing:
    def test_typed_event_has_wire_names_and_its_own_key(self) -> None:
        event = outgoing(UnitParcelSent(parcel_id="7", weight_grams=250))
        assert event.value == b'{"parcelId":"7","weightGrams":250}'
        assert event.key == b"7"
        assert event.schema == "urn:playhead:unit-parcel.sent:1"

    def test_payload_by_name_is_checked_against_the_catalog(self) -> None:
        with pytest.raises(InvalidPayload, match="weightGrams"):
            outgoing("unit-parcel.sent", {"parcelId": "7"})

    def test_field_that_the_schema_does_not_know_is_kept(self) -> None:
        event = outgoing("unit-parcel.sent", {"parcelId": "7", "weightGrams": 1, "colour": "red"})
        assert b'"colour":"red"' in event.value

    @pytest.mark.parametrize("payload", [[1], "text", {"n": float("nan")}, {"n": [float("inf")]}, {"n": object()}])
    def test_payload_that_is_no_json_object_is_refused(self, payload: Any) -> None:
        with pytest.raises(InvalidPayload):
            outgoing("unit.done", payload)

    def test_without_key_the_id_spreads_the_load(self) -> None:
        event = outgoing("unit.done", {})
        assert event.minted
        assert event.key == event.id.encode()

    def test_chosen_id_is_kept_and_not_minted(self) -> None:
        event = outgoing("unit.done", {}, id="order-7", key="k")
        assert (event.id, event.key, event.minted) == ("order-7", b"k", False)

    @pytest.mark.parametrize("id", ["", "a\nb", "x" * (MAX_ID_CHARS + 1)])
    def test_id_that_can_not_be_kept_is_refused(self, id: str) -> None:
        with pytest.raises(InvalidInput):
            outgoing("unit.done", {}, id=id)

    def test_key_that_is_too_long_is_refused(self) -> None:
        assert outgoing("unit.done", {}, key="k" * MAX_KEY_BYTES)
        with pytest.raises(InvalidInput, match="bytes"):
            outgoing("unit.done", {}, key="k" * (MAX_KEY_BYTES + 1))

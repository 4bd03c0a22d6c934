"""A form made of a schema says what was typed, and where it is wrong."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from playhead import TypedEvent
from playhead.dashboard.catalog import schema_of
from playhead.dashboard.forms import Field as Part
from playhead.dashboard.forms import blame, form_of, payload, typed_of
from playhead.errors import InvalidPayload
from playhead.events import outgoing


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: int | None = None


class Sample(TypedEvent, name="sample.made"):
    """Has a field of every kind."""

    title: str
    count: int
    price: float | None = None
    urgent: bool
    flag: bool = False
    colour: Colour = Colour.RED
    kind: Literal["a", "b"]
    level: Literal[1, 2] | None = None
    address: Address
    other: Address | None = None
    tags: list[str] = []
    places: list[Address] = Field(default=[], min_length=0)
    either: int | str | None = None
    anything: dict[str, Any] = {}


class Node(BaseModel):
    """Names itself four times."""

    name: str
    left: Node | None = None
    right: Node | None = None
    above: Node | None = None
    others: list[Node] = []


class Grown(TypedEvent, name="grown.made"):
    """A model within itself."""

    root: Node
    twin: Node | None = None


def form(**typed: str) -> Part:
    return form_of(schema_of(Sample), {f"p/{name.replace('__', '/')}": value for name, value in typed.items()})


ENOUGH = {"title": "x", "count": "3", "urgent": "true", "kind": "b", "address__street": "s"}


class TestValues:
    def test_kinds_of_fields(self) -> None:
        kinds = {one.label: one.kind for one in form().children}
        assert kinds == {
            "title": "text", "count": "integer", "price": "number", "urgent": "boolean", "flag": "boolean",
            "colour": "choice", "kind": "choice", "level": "choice", "address": "object", "other": "object",
            "tags": "array", "places": "array", "either": "json", "anything": "json",
        }  # fmt: skip

    def test_what_is_empty_and_optional_is_left_out(self) -> None:
        assert payload(form(**ENOUGH)) == {
            "title": "x", "count": 3, "urgent": True, "kind": "b", "address": {"street": "s"}
        }  # fmt: skip

    def test_everything_is_taken_as_its_type_wants_it(self) -> None:
        more = {
            "price": "1.50", "flag": "false", "colour": "blue", "level": "2", "address__number": "7",
            "other__street": "t",
            "tags__0": "one", "tags__3": "two", "places__0__street": "u", "either": '"text"', "anything": '{"a": [1]}',
        }  # fmt: skip
        said = payload(form(**ENOUGH, **more))
        assert said["price"] == 1.5
        assert said["flag"] is False
        assert (said["colour"], said["level"]) == ("blue", 2)
        assert said["address"] == {"street": "s", "number": 7}
        assert said["other"] == {"street": "t"}
        assert said["tags"] == ["one", "two"]
        assert said["places"] == [{"street": "u"}]
        assert (said["either"], said["anything"]) == ("text", {"a": [1]})
        outgoing("sample.made", said)

    @pytest.mark.parametrize(
        ("name", "typed", "why"),
        [
            ("count", "many", "it is not a whole number"),
            ("count", "1.5", "it is not a whole number"),
            ("count", "", "it is missing"),
            ("price", "nan", "it is not a number"),
            ("anything", "{", "it is not JSON"),
            ("kind", "c", "it is none of the choices"),
            ("address__number", "x", "it is not a whole number"),
        ],
    )
    def test_what_its_type_does_not_take_is_told_at_the_field(self, name: str, typed: str, why: str) -> None:
        filled = form(**{**ENOUGH, name: typed})
        payload(filled)
        assert {one.path: one.errors for one in filled.walk() if one.errors} == {f"p/{name.replace('__', '/')}": [why]}

    def test_what_json_says_can_be_typed_again(self) -> None:
        said = payload(form(**ENOUGH, tags__0="one", places__0__street="u", anything='{"a": [1]}', level="2"))
        assert payload(form_of(schema_of(Sample), typed_of(said))) == said


class TestErrors:
    def test_each_is_put_at_its_field_or_the_nearest_around_it(self) -> None:
        filled = form(**ENOUGH, tags__0="one")
        left = blame(filled, [("address.street.x", "deep"), ("tags.0", "item"), ("", "whole"), ("nothing", "else")])
        assert {one.path: one.errors for one in filled.walk() if one.errors} == {
            "p/address/street": ["deep"], "p/tags/0": ["item"]
        }  # fmt: skip
        assert left == ["whole", "nothing: else"]

    def test_those_of_the_catalog_are_found_again(self) -> None:
        filled = form(**{**ENOUGH, "places__1__street": "only"})
        said = payload(filled)
        said["places"][0]["number"] = "none"
        with pytest.raises(InvalidPayload) as refused:
            outgoing("sample.made", said)
        assert blame(filled, refused.value.fields) == []
        assert [one.path for one in filled.walk() if one.errors] == ["p/places/0/number"]


class TestModelsWithinThemselves:
    def test_model_within_itself_is_a_json_field(self) -> None:
        root, twin = form_of(schema_of(Grown)).children
        kinds = {"name": "text", "left": "json", "right": "json", "above": "json", "others": "array"}
        assert {one.label: one.kind for one in root.children} == kinds
        assert twin.kind == "object"  # another one is no repetition
        assert len(list(form_of(schema_of(Grown)).walk())) < 20

    def test_says_what_it_was_made_of(self) -> None:
        leaf = {"name": "5", "left": None}
        value = {"root": {"name": "a", "left": {"name": "b", "others": [leaf]}, "others": [leaf, leaf]}}
        assert payload(form_of(schema_of(Grown), typed_of(value))) == value

    def test_value_of_any_depth_costs_no_stack(self) -> None:
        value: Any = {}
        for _ in range(300):
            value = {"a": [value]}
        assert len(typed_of({"root": value})) < 20


class TestTextInAJsonField:
    @pytest.mark.parametrize("either", ["5", "true", "plain", '"', 5])
    def test_stays_text(self, either: object) -> None:
        assert payload(form_of(schema_of(Sample), typed_of({"either": either})))["either"] == either

"""A form made of an event's JSON Schema, and the payload that a filled one says. Pure.

    schema + what was typed ──form_of──▶ Field (a tree) ──payload──▶ value, or Fields with what is wrong
                                             │
                                             └──▶ send.html draws it

A field's name in the form is its path: `p/address/city`, `p/items/0`. What a form can't say (unions, objects with any
names) is a JSON field. An optional field that is left empty is left out of the payload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROOT = "p"
MAX_DEPTH = 8
MAX_ITEMS = 200
NOTHING = object()
"""What an empty optional field says."""

_AS_JSON = "//json"
"""Behind the path of a text: what is typed for it where the field is JSON, which knows "5" from 5."""
_KINDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


@dataclass(slots=True)
class Field:
    """One field, with what was typed into it and what is wrong with it."""

    path: str
    label: str
    kind: str
    """text, integer, number, boolean, choice, object, array, json or fixed"""
    required: bool
    nullable: bool = False
    description: str = ""
    placeholder: str = ""
    default: str = ""
    choices: Sequence[Any] = ()
    constant: Any = None
    typed: str = ""
    errors: list[str] = field(default_factory=list)
    children: list[Field] = field(default_factory=list)
    item: Field | None = None
    """Of an array: an empty item, whose index is `mark`."""
    mark: str = ""

    @property
    def id(self) -> str:
        """For HTML."""
        return "f-" + self.path.replace("/", "-")

    @property
    def hint(self) -> str:
        """What it takes, in a word."""
        words = {"json": "JSON", "choice": "one of", "array": "list", "boolean": "yes or no"}.get(self.kind, self.kind)
        return words if self.required else f"{words}, optional"

    def walk(self) -> Iterator[Field]:
        yield self
        for child in self.children:
            yield from child.walk()


def form_of(schema: Mapping[str, Any], typed: Mapping[str, str] | None = None) -> Field:
    """The form of a schema.

    Args:
        typed: what was typed, by path; None for an empty form.
    """
    return _field(schema, schema.get("$defs", {}), ROOT, "payload", True, typed, 0)


def _field(
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    path: str,
    label: str,
    required: bool,
    typed: Mapping[str, str] | None,
    depth: int,
) -> Field:
    schema, nullable, definitions = _resolved(schema, definitions)
    made = Field(path, label, _kind(schema, depth), required, nullable)
    made.description = str(schema.get("description") or "")
    examples = schema.get("examples")
    if isinstance(examples, list) and examples:
        made.placeholder = "such as " + _text(examples[0])
    if schema.get("default") is not None:
        made.default = _text(schema["default"])
    made.choices, made.constant = schema.get("enum", ()), schema.get("const")
    made.typed = (typed or {}).get(path, "")
    if made.kind == "json":
        made.typed = (typed or {}).get(path + _AS_JSON, made.typed)
    if made.kind == "object":
        wanted = schema.get("required", ())
        for name, part in schema["properties"].items():
            under = f"{path}/{name}"
            made.children.append(_field(part, definitions, under, name, name in wanted, typed, depth + 1))
    elif made.kind == "array":
        made.mark = f"__{depth}__"
        items = schema["items"]
        made.item = _field(items, definitions, f"{path}/{made.mark}", label, True, None, depth + 1)
        for new, old in enumerate(_indexes(path, typed)):
            moved = _renumbered(typed or {}, f"{path}/{old}", f"{path}/{new}")
            made.children.append(
                _field(items, definitions, f"{path}/{new}", f"{label} {new + 1}", True, moved, depth + 1)
            )
    return made


def _resolved(
    schema: Mapping[str, Any], definitions: Mapping[str, Any]
) -> tuple[Mapping[str, Any], bool, Mapping[str, Any]]:
    """The schema with its references followed, whether it may be null, and the definitions for what is in it.

    What was followed is left out of those, so a model within itself is a JSON field: a form of each would be a form
    within a form, to a power of how often the model names itself.
    """
    nullable = False
    for _ in range(MAX_DEPTH):
        if "$ref" in schema:
            name = str(schema["$ref"]).removeprefix("#/$defs/")
            target = definitions.get(name, {})
            definitions = {other: one for other, one in definitions.items() if other != name}
            schema = {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
        elif len(schema.get("allOf", ())) == 1:
            schema = {**schema["allOf"][0], **{name: value for name, value in schema.items() if name != "allOf"}}
        elif "anyOf" in schema:
            others = [one for one in schema["anyOf"] if one.get("type") != "null"]
            nullable = nullable or len(others) < len(schema["anyOf"])
            if len(others) != 1:
                return schema, nullable, definitions
            schema = {**others[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
        else:
            return schema, nullable, definitions
    return {}, nullable, definitions


def _kind(schema: Mapping[str, Any], depth: int) -> str:
    if "const" in schema:
        return "fixed"
    if "enum" in schema:
        return "choice"
    kind = schema.get("type")
    if depth < MAX_DEPTH and kind == "object" and isinstance(schema.get("properties"), Mapping):
        return "object"
    if depth < MAX_DEPTH and kind == "array" and isinstance(schema.get("items"), Mapping) and schema["items"]:
        return "array"
    return _KINDS.get(kind, "json") if isinstance(kind, str) else "json"


def _indexes(path: str, typed: Mapping[str, str] | None) -> list[int]:
    """Those of an array's items that the form has, in their order: some between may have been removed."""
    found = {name[len(path) + 1 :].split("/")[0] for name in typed or () if name.startswith(path + "/")}
    return sorted(int(index) for index in found if index.isascii() and index.isdigit() and len(index) < 7)[:MAX_ITEMS]


def _renumbered(typed: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    return {
        new + name.removeprefix(old): value
        for name, value in typed.items()
        if name == old or name.startswith(old + "/")
    }


# ── what a filled form says ──────────────────────────────────────────────────────────────────────────────────────────


def payload(form: Field) -> Any:
    """The value that the fields say; those that say none get an error. Only what the types need is checked here."""
    value = _value(form)
    return {} if value is NOTHING else value


def _value(one: Field) -> Any:
    if one.kind == "object":
        if not one.required and not any(part.typed for part in one.walk()):
            return NOTHING
        parts = {child.label: _value(child) for child in one.children}
        return {name: value for name, value in parts.items() if value is not NOTHING}
    if one.kind == "array":
        items = [_value(child) for child in one.children]
        return items if items or one.required else NOTHING
    if one.kind == "fixed":
        return one.constant
    if not one.typed and one.kind != "text":
        return _empty(one)
    return _typed_value(one)


def _empty(one: Field) -> Any:
    if one.required and one.nullable:
        return None
    if one.required:
        one.errors.append("it is missing")
    return NOTHING


def _typed_value(one: Field) -> Any:
    typed = one.typed
    if one.kind == "text":
        if typed or (one.required and not one.nullable):
            return typed
        return _empty(one)
    if one.kind == "choice":
        for choice in one.choices:
            if _text(choice) == typed:
                return choice
        one.errors.append("it is none of the choices")
        return NOTHING
    if one.kind == "boolean":
        return typed == "true"
    try:
        if one.kind == "integer":
            return int(typed)
        if one.kind == "number":
            return _number(typed)
        return json.loads(typed)
    except ValueError:
        wanted = {"integer": "a whole number", "number": "a number"}.get(one.kind, "JSON")
        one.errors.append(f"it is not {wanted}")
        return NOTHING


def _number(typed: str) -> float | int:
    try:
        return int(typed)
    except ValueError:
        number = float(typed)
        if not math.isfinite(number):
            raise
        return number


def typed_of(value: Any, path: str = ROOT, depth: int = 0) -> dict[str, str]:
    """What would have to be typed to say this value, as deep as forms go: from JSON mode back to the form."""
    found = {} if value is None else {path: _text(value)}
    if isinstance(value, str):
        found[path + _AS_JSON] = json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict | list) and depth < MAX_DEPTH:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            found |= typed_of(part, f"{path}/{name}", depth + 1)
    return found


def blame(form: Field, fields: Sequence[tuple[str, str]]) -> list[str]:
    """Put each error beside the field that its dotted path names, or the nearest around it; what is left has none."""
    by_path = {one.path: one for one in form.walk()}
    left = []
    for dotted, why in fields:
        parts = [ROOT, *(part for part in dotted.split(".") if part)]
        while len(parts) > 1 and "/".join(parts) not in by_path:
            parts.pop()
        if len(parts) > 1:
            by_path["/".join(parts)].errors.append(why)
        else:
            left.append(f"{dotted}: {why}" if dotted else why)
    return left


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""The README's examples: what they send, the catalog takes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import playhead_schemas  # noqa: F401 -- the catalog
from playhead.events import outgoing

README = (Path(__file__).parent.parent / "README.md").read_text()


def sent_in_shells() -> Iterator[tuple[str, Any]]:
    for body in re.findall(r"-d '(\{.*\})'", README):
        told = json.loads(body)
        yield told["event"], told["payload"]
    for name, payload in re.findall(r"playhead send (\S+) '(\{.*?\})'", README):
        yield name, json.loads(payload)


def sent_in_python() -> Iterator[tuple[str, Any]]:
    for snippet in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        values: dict[str, Any] = {}
        for node in ast.walk(ast.parse(snippet)):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and isinstance(node.value, ast.Dict)
            ):
                values[node.targets[0].id] = ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.Call) and _is_send(node) and len(node.args) == 2:
                payload = node.args[1]
                told = values[payload.id] if isinstance(payload, ast.Name) else ast.literal_eval(payload)
                yield ast.literal_eval(node.args[0]), told


def _is_send(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in ("send", "send_event")


@pytest.mark.parametrize(("name", "payload"), [*sent_in_shells(), *sent_in_python()])
def test_what_an_example_sends_fits_its_schema(name: str, payload: Any) -> None:
    assert outgoing(name, payload).name == name


def test_examples_are_found() -> None:
    assert {name for name, _ in sent_in_shells()} == {"user.created", "reminder.send"}
    assert {name for name, _ in sent_in_python()} == {"user.created", "reminder.send"}

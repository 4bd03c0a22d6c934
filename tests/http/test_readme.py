"""The API's README says what the API does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from playhead.http import answers, refusals
from playhead.http.limits import DEFAULT_LIMITS

PAGE = (Path(answers.__file__).parent / "README.md").read_text()


def test_every_code_of_the_api_is_there_and_no_other() -> None:
    sources = "".join(Path(str(module.__file__)).read_text() for module in (answers, refusals))
    codes = set(re.findall(r'"(PH6\d\d)"', sources))
    assert codes == set(re.findall(r"PH6\d\d", PAGE))


def test_each_refusal_has_a_code_of_its_own() -> None:
    codes = [refusal.code for refusal in refusals.Refusal.__subclasses__()]
    assert len(codes) == len(set(codes))
    assert "PH600" not in codes


@pytest.mark.parametrize("path", ["/trigger", "/api/events"])
def test_every_status_is_there(app: FastAPI, path: str) -> None:
    _, _, section = PAGE.partition(f"## POST {path}\n")
    section = section.partition("\n## ")[0]
    described: Any = app.openapi()["paths"][path]["post"]["responses"]
    assert {status for status in described if status not in section} == set()


def test_limits_are_the_defaults() -> None:
    assert DEFAULT_LIMITS.event_body_bytes == 1 << 20
    assert DEFAULT_LIMITS.batch_body_bytes == 8 << 20
    assert "At most 1,000 events and 8 MiB" in PAGE
    assert DEFAULT_LIMITS.batch_events == 1_000
    assert f"within {DEFAULT_LIMITS.body_seconds:g} s" in PAGE


async def test_guides_body_is_the_pages(http: httpx.AsyncClient) -> None:
    found = re.search(r"/trigger.*?-d '(.*?)'", PAGE, re.DOTALL)
    assert found is not None
    answer = await http.post("/trigger", content=found.group(1), headers={"content-type": "application/json"})
    assert answer.status_code == 200

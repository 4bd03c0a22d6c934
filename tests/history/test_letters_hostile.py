"""Dead letters that anybody may have written, and people who settle the same ones at once."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from playhead.errors import AlreadySettled, NotReplayable, PlayheadError
from playhead.records import Record
from playhead.topics import DEAD_LETTER
from tests.engine.scene import Scene
from tests.history.test_letters import Place


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.close()


@pytest.fixture
def place(scene: Scene, tmp_path: Path) -> Iterator[Place]:
    made = Place(scene, tmp_path)
    yield made
    made.store.close()


def foreign(id_: str, **more: Any) -> Record:
    """A dead letter that no engine wrote, of an event of `thing`."""
    pairs = [("ce_type", b"thing.made"), ("ce_id", b"e-1"), ("ce_specversion", b"1.0")]
    told = {
        "jobId": "j",
        "reason": "made up",
        "topic": "thing",
        "partition": 0,
        "offset": 0,
        "timestampMs": 1,
        "key": b64encode(b"k").decode(),
        "value": b64encode(b'{"n": 1}').decode(),
        "headers": [[name, b64encode(data).decode()] for name, data in pairs],
        **more,
    }
    headers = [("ce_type", b"dead-letter.created"), ("ce_id", id_.encode())]
    return Record(DEAD_LETTER, 0, b"k", orjson.dumps(told), headers, 1)


@pytest.mark.parametrize(
    ("id_", "more"),
    [("é", {}), ("a", {"runId": "ü"}), ("a", {"runId": "r" * 999}), ("a", {"jobId": "jöb"}), ("a", {"jobId": ""})],
)
async def test_copy_that_every_job_would_take_for_an_event_is_not_written(
    place: Place, id_: str, more: dict[str, Any]
) -> None:
    """What marks it as one job's is a header that only ids of Playhead fit into."""
    await place.open()
    await place.scene.broker.append([foreign(id_, **more)])
    (refusal,) = await place.letters.retry([place.one().id])
    await place.scene.clock.advance(1)
    assert place.ran == []
    assert isinstance(refusal, NotReplayable)


@pytest.mark.parametrize(
    "more",
    [
        {"topic": "no-such-topic"},
        {"topic": ""},
        {"topic": "a b/c"},
        {"topic": "\0"},
        {"topic": "x" * 300},
        {"partition": 999},
        {"partition": -1},
        {"partition": 2**31},
        {"partition": 2**63},
        {"leftOut": ["value"], "offset": -7},
        {"leftOut": ["value"], "offset": 2**63, "topic": "no-such-topic"},
        {"headers": [["x", "!"]]},
        {"value": None},
        {"timestampMs": 2**63},
    ],
)
async def test_letter_that_leads_nowhere_holds_no_other(place: Place, more: dict[str, Any]) -> None:
    await place.open()
    place.broken = False
    await place.scene.broker.append([foreign("bad", **more), foreign("good", offset=1)])
    assert {letter.id for letter in place.all()} == {"bad", "good"}
    bad, good = await place.letters.retry(["bad", "good"])
    assert good is None
    assert bad is None or isinstance(bad, PlayheadError)
    await place.scene.clock.advance(1)
    assert set(place.ran) == {"job"}


class TestAtOnce:
    async def test_retried_by_several_runs_once(self, place: Place) -> None:
        await place.open()
        await place.scene.broker.append([foreign("a")])
        place.all()
        place.broken = False
        results = await asyncio.gather(*(place.letters.retry(["a", "a"]) for _ in range(5)))
        await place.scene.clock.advance(1)
        assert place.ran == ["job"]
        assert [one for result in results for one in result] == [None] * 10

    async def test_retried_and_discarded_ran_where_history_says_retried(self, place: Place) -> None:
        await place.open()
        await place.scene.broker.append([foreign("a")])
        place.all()
        place.broken = False
        await asyncio.gather(place.letters.discard(["a"]), place.letters.retry(["a"]))
        await place.scene.clock.advance(1)
        assert (place.ran, place.one().state) == (["job"], "retried")
        (again,) = await place.letters.retry(["a"])
        assert isinstance(again, AlreadySettled)

    @pytest.mark.parametrize("later_ms", [1, 1_000])
    async def test_discarded_by_who_had_not_seen_the_retry_is_still_retried(self, place: Place, later_ms: int) -> None:
        """Two people look at one letter: what was run must not look as if it was not."""
        await place.open()
        await place.scene.broker.append([foreign("a")])
        place.all()
        place.broken = False
        await place.letters.retry(["a"])
        await place.scene.clock.advance(later_ms / 1000)
        await place.letters.discard(["a"])  # history has not read the retry yet
        await place.scene.clock.advance(1)
        assert (place.ran, place.one().state) == (["job"], "retried")

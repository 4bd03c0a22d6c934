"""Records that can't be read, from producers that know nothing of Playhead: the partition goes on."""

from __future__ import annotations

import random
from base64 import b64decode
from typing import Any

import pytest

from playhead import IO, TypedEvent, event_trigger
from tests.engine.scene import Scene

MADE: list[tuple[str, Any]] = [("ce_type", b"thing.made"), ("ce_id", b"good")]


class ThingMeasured(TypedEvent, name="thing.measured"):
    n: int

    def model_post_init(self, context: Any) -> None:
        if self.n == 13:
            raise KeyError("a mistake in the catalog's own code")


async def nothing(payload: Any, io: IO) -> None: ...


class TestForeign:
    @pytest.mark.parametrize(
        "headers",
        [
            [("ce_type", None), ("ce_id", b"1")],
            [("ce_id", None), ("ce_type", b"thing.made")],
            [("ce_id", None)],
            [("x", None)],
            [("ce_type", b"\xff\xfe"), ("ce_id", b"1")],
            [("ce_type", b"thing.made"), ("ce_id", b"\xff")],
            [("ce_type", b"thing.made"), ("ce_id", b"1"), ("ce_causationdepth", None), ("traceparent", None)],
            [("ce_type", b"thing.made"), ("ce_type", b"thing.seen"), ("ce_id", b"1")],
            [],
        ],
        ids=str,
    )
    @pytest.mark.parametrize("key", [None, b"", b"\xff"])
    async def test_headers_of_any_kind_stop_nobody(
        self, scene: Scene, headers: list[tuple[str, Any]], key: bytes | None
    ) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        await scene.put(b'{"n": 1}', headers, key=key)
        await scene.put(b'{"n": 2}', MADE)
        await scene.clock.advance(1)
        worker.check()
        assert (2, "succeeded") in scene.ends()
        assert scene.marks()[0].offset == 2

    async def test_anything_at_all_stops_nobody(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        rng = random.Random(4)
        names = ["ce_type", "ce_id", "ce_specversion", "content-type", "ce_causationdepth", "ce_playheadminted", "x"]
        for _ in range(300):
            headers = [
                (rng.choice(names), rng.choice([None, b"", rng.randbytes(4), b"thing.made", b"5"]))
                for _ in range(rng.randrange(5))
            ]
            value = rng.choice([None, b"", b"{}", b"null", b"[]", b'{"n": 1}', rng.randbytes(9)])
            await scene.put(value, headers, key=rng.choice([None, b"k", rng.randbytes(2)]))
        await scene.put(b'{"n": 2}', MADE)
        await scene.clock.advance(5)
        worker.check()
        assert (2, "succeeded") in scene.ends()
        assert scene.marks()[0].offset == 301

    async def test_dead_letter_has_all_that_the_record_had(self, scene: Scene) -> None:
        await scene.open()
        await scene.work(nothing)
        await scene.put(b"\xff\x00", [*MADE[:1], ("ce_id", b"bad"), ("x", b"\xfe")], key=b"\xfd")
        (dead,) = scene.dead_letters()
        assert b64decode(dead["value"]) == b"\xff\x00"
        assert b64decode(dead["key"]) == b"\xfd"
        assert [(name, b64decode(text)) for name, text in dead["headers"]][-1] == ("x", b"\xfe")
        assert (dead["runId"], dead["attempts"], dead["error"]) == ("", 0, None)


class TestCatalog:
    async def test_validator_that_raises_anything_is_a_dead_letter_and_no_dead_worker(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing, on=event_trigger(ThingMeasured))
        await scene.send(12, 13, 14, name="thing.seen")
        for n in (12, 13, 14):
            measured = [("ce_type", b"thing.measured"), ("ce_id", b"%d" % n)]
            await scene.put(b'{"n": %d}' % n, measured)
        worker.check()
        assert len(scene.told("run.succeeded")) == 2
        (dead,) = scene.dead_letters()
        assert "ThingMeasured raised KeyError" in dead["reason"]


class TestFilters:
    async def test_filter_is_asked_once_and_not_again_for_a_retry(self, scene: Scene) -> None:
        """A filter that looks at the time of day must not swallow a run that has begun."""
        await scene.open()
        asked: list[int] = []

        def only_once(payload: Any) -> bool:
            asked.append(payload["n"])
            return len(asked) == 1

        async def fails_once(payload: Any, io: IO) -> None:
            if io.run.attempt == 1:
                raise ValueError

        await scene.work(fails_once, on=event_trigger("thing.made", filter=only_once))
        await scene.send(1)
        await scene.clock.advance(10)
        assert (asked, scene.ends()) == ([1], [(1, "succeeded")])

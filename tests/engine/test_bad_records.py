"""Records that can't be read, from producers that know nothing of Playhead: the partition goes on."""

from __future__ import annotations

import random
from base64 import b64decode
from typing import Any

import pytest

from playhead import IO, TypedEvent, event_trigger
from playhead.run import MAX_MESSAGE_CHARS
from tests.engine.scene import Scene

MADE: list[tuple[str, Any]] = [("ce_type", b"thing.made"), ("ce_id", b"good")]


class ThingMeasured(TypedEvent, name="thing.measured"):
    n: int

    def model_post_init(self, context: Any) -> None:
        if self.n == 13:
            raise KeyError("a mistake in the catalog's own code")


class ThingListed(TypedEvent, name="thing.listed"):
    items: list[int]


async def nothing(payload: Any, io: IO) -> None: ...


async def telling(payload: Any, io: IO) -> None:
    await io.send_event("echo.made", {})


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


class TestIds:
    async def test_ids_that_are_no_utf8_are_dead_letters_and_no_repetitions(self, scene: Scene) -> None:
        """Decoded, both would read the same; each has its own bytes in the dead letters."""
        await scene.open()
        await scene.work(nothing)
        for id in (b"\xff1", b"\xfe1"):
            await scene.put(b'{"n": 1}', [("ce_type", b"thing.made"), ("ce_id", id)])
        assert [b64decode(dead["headers"][1][1]) for dead in scene.dead_letters()] == [b"\xff1", b"\xfe1"]
        assert all("UTF-8" in dead["reason"] for dead in scene.dead_letters())
        await scene.put(b'{"n": 2}', [("ce_type", b"thing.made"), ("ce_id", "\ufffd1".encode())])
        assert scene.ends() == [(2, "succeeded")]

    @pytest.mark.parametrize("minted", [False, True])
    async def test_longer_than_an_id_may_be_is_a_dead_letter(self, scene: Scene, minted: bool) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        mark = [("ce_playheadminted", b"1")] if minted else []
        await scene.put(b'{"n": 1}', [("ce_type", b"thing.made"), ("ce_id", b"x" * 400_000), *mark])
        await scene.put(b'{"n": 2}', MADE)
        worker.check()
        assert scene.ends() == [(2, "succeeded")]
        (dead,) = scene.dead_letters()
        assert "255 characters" in dead["reason"]


class TestSizes:
    @pytest.mark.parametrize("name", ["ce_correlationid", "ce_causationid", "traceparent", "x"])
    async def test_header_of_any_size_stops_no_run(self, scene: Scene, name: str) -> None:
        """What is carried on from event to event is cut."""
        await scene.open()
        worker = await scene.work(telling)
        await scene.put(b'{"n": 1}', [*MADE, (name, b"c" * 1_040_000)])
        await scene.clock.advance(1)
        worker.check()
        assert scene.ends() == [(1, "succeeded")]
        (echo,), (told,) = scene.events("echo"), scene.events("run")
        assert echo.correlation_id == told.correlation_id
        assert len(echo.correlation_id) <= 255

    @pytest.mark.parametrize(
        ("key", "value", "header", "left_out"),
        [
            (b"k", b"v" * 3_000_000, b"", "too large: the value)"),
            (b"k", None, b"h" * 3_000_000, "too large: the headers)"),
            (b"k", b"no json", b"h" * 3_000_000, "too large: the value, the headers)"),
            (b"k" * 3_000_000, b"no json", b"h", "too large: the value, the headers, the rest of the key)"),
        ],
        ids=["value", "headers of a tombstone", "headers", "key"],
    )
    async def test_record_that_no_dead_letter_takes_is_told_with_what_fits(
        self, scene: Scene, key: bytes, value: bytes | None, header: bytes, left_out: str
    ) -> None:
        await scene.open(thing=4 << 20)
        worker = await scene.work(nothing)
        await scene.put(value, [*MADE, ("x", header)], key=key)
        await scene.put(b'{"n": 2}', [*MADE[:1], ("ce_id", b"2")])
        await scene.clock.advance(1)
        worker.check()
        assert scene.ends() == [(2, "succeeded")]
        (dead,) = scene.dead_letters()
        assert dead["reason"].endswith(left_out)
        assert key.startswith(b64decode(dead["key"]))

    async def test_name_of_a_header_takes_in_a_dead_letter_what_json_makes_of_it(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        await scene.put(b"no json", [*MADE, ("\x01" * 300_000, b"")])
        await scene.clock.advance(1)
        worker.check()
        (dead,) = scene.dead_letters()
        assert dead["reason"].endswith("too large: the value, the headers)")

    async def test_minimal_dead_letter_is_written_where_the_broker_refuses_two(self, scene: Scene) -> None:
        """Also where its topic takes less than this worker knows of."""
        await scene.open()
        worker = await scene.work(nothing)
        scene.broker.existing_topic("dead-letter").max_message_bytes = 2_000
        await scene.put(b"x" * 5_000, MADE)
        await scene.put(b'{"n": 2}', [*MADE[:1], ("ce_id", b"2")])
        await scene.clock.advance(1)
        worker.check()
        assert scene.ends() == [(2, "succeeded")]
        (dead,) = scene.dead_letters()
        assert (dead["offset"], dead["value"], dead["headers"]) == (0, None, [])

    async def test_reason_is_cut(self, scene: Scene) -> None:
        await scene.open()
        await scene.work(nothing, on=event_trigger(ThingListed))
        wrong = b'{"items": [' + b",".join([b'"x"'] * 20_000) + b"]}"
        await scene.put(wrong, [("ce_type", b"thing.listed"), ("ce_id", b"1")])
        (dead,) = scene.dead_letters()
        assert "items.0: " in dead["reason"]
        assert dead["reason"].endswith("characters)")
        assert len(dead["reason"]) < MAX_MESSAGE_CHARS + 50


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

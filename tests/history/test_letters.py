"""Dead letters are retried and discarded: on the real engine, in memory, with a history of what it wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from playhead.engine.consumer import JobConsumer
from playhead.errors import AlreadySettled, BrokerUnavailable, InvalidInput, NotInHistory, NotReplayable
from playhead.events import outgoing
from playhead.history.letters import Letters, replay_run_id
from playhead.history.projection import Rows, project
from playhead.history.reading import Letter
from playhead.history.schema import LETTER
from playhead.history.store import HistoryStore, Span
from playhead.records import Partition
from playhead.retry import NonRetriableError
from playhead.run import DeadLetterDiscarded, DeadLetterRetried
from playhead.topics import DEAD_LETTER, RUN
from tests.engine.scene import Scene
from tests.history.scene import History

TOPICS = ("thing", "echo", RUN, DEAD_LETTER)


class Place:
    """A scene of jobs, and its history."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.store = HistoryStore(f"sqlite:///{folder}/history.db")
        self.history = History(self.store)
        self.letters = Letters(self.history, scene.client, scene.clock)
        self.broken = True
        self.ran: list[str] = []

    async def job(self, payload: Any, io: Any) -> dict[str, Any]:
        self.ran.append("job")
        if self.broken:
            raise NonRetriableError("no")
        await io.send_event("echo.made", {"n": payload["n"]})
        return {"n": payload["n"]}

    async def other(self, payload: Any, io: Any) -> None:
        self.ran.append("other")

    async def open(self, **more: Any) -> None:
        await self.scene.open(**more)
        self.scene.launch(self.scene.job(self.job), self.scene.job(self.other, id="other"))
        await self.scene.clock.advance(1)

    def read(self) -> None:
        """What is in the log, into history."""
        positions = self.store.positions()
        for topic in TOPICS:
            by_partition: dict[Partition, list[Any]] = {}
            for record in self.scene.broker.stored(topic):
                by_partition.setdefault(Partition(topic, record.partition), []).append(record)
            for partition, records in by_partition.items():
                self.store.begin({partition: 0})
                start, rows = positions.get(partition, 0), Rows()
                new = [record for record in records if record.offset >= start]
                project(new, topic, self.store.base(partition), rows)
                if new:
                    self.store.write(rows, {partition: Span(start, new[-1].offset + 1)})

    def all(self) -> list[Letter]:
        self.read()
        with self.history.snapshot() as now:
            return now.letters().items

    def one(self) -> Letter:
        (letter,) = self.all()
        return letter


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


def _first(place: Place) -> JobConsumer:
    return place.scene.consumer(place.scene.processes[0])


class TestRetried:
    async def test_letter_is_worked_on_again_by_its_job_alone(self, place: Place) -> None:
        await place.open()
        (event_id,) = await place.scene.send(7)
        letter = place.one()
        assert (letter.state, Counter(place.ran)) == ("open", {"job": 1, "other": 1})
        place.broken = False
        assert await place.letters.retry([letter.id]) == [None]
        await place.scene.clock.advance(1)
        assert sorted(place.ran) == ["job", "job", "other"]
        settled = place.one()
        assert settled.state == "retried"
        with place.history.snapshot() as now:
            run = now.run(replay_run_id(letter))
            (told,) = now.told(replay_run_id(letter))
        assert run is not None
        assert (run.state, run.event_id, told.body["replayOf"]) == ("succeeded", event_id, letter.run_id)
        assert [event.payload() for event in place.scene.events("echo")] == [{"n": 7}]
        (retried,) = [e for e in place.scene.events(DEAD_LETTER) if e.name == "dead-letter.retried"]
        words = retried.typed_payload(DeadLetterRetried)
        assert (retried.causation_id, retried.correlation_id) == (letter.id, event_id)
        assert words == DeadLetterRetried(letter_id=letter.id, job_id="j", replay_run_id=run.id)

    async def test_event_is_still_one_event(self, place: Place) -> None:
        await place.open()
        (event_id,) = await place.scene.send(7)
        await place.letters.retry([place.one().id])
        await place.scene.clock.advance(1)
        assert [event.id for event in place.scene.events("thing")] == [event_id, event_id]
        place.read()
        with place.history.snapshot() as now:
            assert [event.id for event in now.events(name="thing").items] == [event_id]
            assert len(now.runs(event_id=event_id).items) == 3

    async def test_replay_that_fails_has_a_letter_of_its_own(self, place: Place) -> None:
        await place.open()
        await place.scene.send(7)
        first = place.one()
        await place.letters.retry([first.id])
        await place.scene.clock.advance(1)
        second, first = place.all()
        assert (first.state, second.state, second.run_id) == ("retried", "open", replay_run_id(first))
        place.broken = False
        assert await place.letters.retry([second.id]) == [None]
        await place.scene.clock.advance(1)
        (told,) = [told for told in place.scene.told("run.succeeded") if told["jobId"] == "j"]
        assert (told["runId"], told["replayOf"]) == (replay_run_id(second), second.run_id)
        assert len({first.run_id, second.run_id, told["runId"]}) == 3

    async def test_retry_that_broke_off_half_way_starts_no_second_run(self, place: Place) -> None:
        """The copy is written, what settles the letter is not."""
        await place.open()
        await place.scene.send(7)
        letter = place.one()
        append, appended = place.scene.broker.append, 0

        async def once(records: Any) -> Any:
            nonlocal appended
            appended += 1
            return await append(records) if appended == 1 else [BrokerUnavailable("not now") for _ in records]

        place.scene.broker.append = once  # type: ignore[method-assign]
        assert [type(error) for error in await place.letters.retry([letter.id])] == [BrokerUnavailable]
        await place.scene.clock.advance(1)
        assert sorted(place.ran) == ["job", "job", "other"]
        place.scene.broker.append = append  # type: ignore[method-assign]
        place.broken = False
        _, letter = place.all()
        assert letter.state == "open"
        assert await place.letters.retry([letter.id]) == [None]
        await place.scene.clock.advance(1)
        assert sorted(place.ran) == ["job", "job", "other"]

    async def test_settled_letter_and_unknown_one_are_refused(self, place: Place) -> None:
        await place.open()
        await place.scene.send(7)
        letter = place.one()
        first, again, unknown = await place.letters.retry([letter.id, letter.id, "nobody"])
        assert (first, again) == (None, None)
        assert isinstance(unknown, NotInHistory)
        await place.scene.clock.advance(1)
        place.read()
        for settle in (place.letters.retry, place.letters.discard):
            (error,) = await settle([letter.id])
            assert isinstance(error, AlreadySettled)
        assert place.ran.count("job") == 2

    async def test_too_many_at_once_are_refused(self, place: Place) -> None:
        await place.open()
        with pytest.raises(InvalidInput, match="501"):
            await place.letters.retry(["x"] * 501)


class TestLargeRecord:
    async def test_is_read_from_the_log_again(self, place: Place) -> None:
        await place.open(**{"dead-letter": 10_000})
        await place.scene.client.send_all([outgoing("thing.made", {"n": 1, "x": "y" * 20_000}, key="k")])
        await place.scene.clock.advance(1)
        assert place.scene.dead_letters()[0]["value"] is None
        place.broken = False
        assert await place.letters.retry([place.one().id]) == [None]
        await place.scene.clock.advance(1)
        assert [event.payload() for event in place.scene.events("echo")] == [{"n": 1}]

    async def test_that_is_gone_is_a_clear_error(self, place: Place) -> None:
        await place.open(**{"dead-letter": 10_000})
        await place.scene.client.send_all([outgoing("thing.made", {"n": 1, "x": "y" * 20_000}, key="k")])
        await place.scene.send(2)
        large = next(letter for letter in place.all() if b'"leftOut":["the value"]' in letter.body)
        place.scene.broker.trim(Partition("thing", 0), 1)
        (error,) = await place.letters.retry([large.id])
        assert isinstance(error, NotReplayable)
        assert "offset 0 of thing[0] is not in the log any more" in str(error)
        assert all(letter.state == "open" for letter in place.all())

    async def test_in_whose_place_is_another_now_is_not_taken_for_it(self, place: Place) -> None:
        """The topic was deleted and made again."""
        await place.open(**{"dead-letter": 10_000})
        await place.scene.client.send_all([outgoing("thing.made", {"n": 1, "x": "y" * 20_000}, key="k")])
        await place.scene.clock.advance(1)
        body = place.one().body
        at_ms = place.scene.broker.stored("thing")[0].timestamp
        other = body.replace(b'"timestampMs":%d' % at_ms, b'"timestampMs":%d' % (at_ms - 1))
        with place.store.transaction() as db:
            db.execute(sa.update(LETTER).values(body=other))
        (error,) = await place.letters.retry([place.one().id])
        assert isinstance(error, NotReplayable)
        assert "another record" in str(error)


class TestDiscarded:
    async def test_letter_is_settled_and_nothing_runs(self, place: Place) -> None:
        await place.open()
        await place.scene.send(7)
        letter = place.one()
        assert await place.letters.discard([letter.id]) == [None]
        await place.scene.clock.advance(1)
        assert (place.one().state, Counter(place.ran)) == ("discarded", {"job": 1, "other": 1})
        told = place.scene.events(DEAD_LETTER)[-1]
        assert told.typed_payload(DeadLetterDiscarded).letter_id == letter.id

    async def test_of_one_record_that_could_not_be_read(self, place: Place) -> None:
        await place.open()
        await place.scene.put(b"no json", [("ce_type", b"thing.made"), ("ce_id", b"x")])
        first, second = place.all()
        assert {first.job_id, second.job_id} == {"j", "other"}
        assert await place.letters.discard([first.id]) == [None]
        assert await place.letters.retry([second.id]) == [None]
        await place.scene.clock.advance(1)
        states = sorted((letter.job_id == second.job_id, letter.state) for letter in place.all())
        assert states == [(False, "discarded"), (True, "open"), (True, "retried")]


class TestListeners:
    async def test_job_on_dead_letters_does_not_start_on_what_settles_them(self, place: Place) -> None:
        await place.open()
        seen: list[Any] = []

        async def listen(payload: Any, io: Any) -> None:
            seen.append(payload["jobId"])

        place.scene.launch(place.scene.job(listen, id="listen", on="dead-letter.created"))
        await place.scene.clock.advance(1)
        await place.scene.send(7, 8)
        first, second = place.all()
        place.broken = False
        assert await place.letters.discard([first.id]) == await place.letters.retry([second.id]) == [None]
        await place.scene.clock.advance(1)
        assert seen == ["j", "j"]

    async def test_job_on_dead_letters_is_retried_without_a_second_letter(self, place: Place) -> None:
        """What is copied is then a record of topic `dead-letter` itself."""
        await place.open()
        fails = [True]

        async def listen(payload: Any, io: Any) -> None:
            if fails[0]:
                raise NonRetriableError("listener")

        place.scene.launch(place.scene.job(listen, id="listen", on="dead-letter.created"))
        await place.scene.clock.advance(1)
        await place.scene.send(7)
        letter = next(one for one in place.all() if one.job_id == "listen")
        fails[0] = False
        assert await place.letters.retry([letter.id]) == [None]
        await place.scene.clock.advance(1)
        assert sorted((one.job_id, one.state) for one in place.all()) == [("j", "open"), ("listen", "retried")]
        (told,) = [told for told in place.scene.told("run.succeeded") if told["jobId"] == "listen"]
        assert told["replayOf"] == letter.run_id


class TestForeignHeaders:
    @pytest.mark.parametrize(
        "headers",
        [
            [("ce_forjob", b"other")],
            [("ce_replayid", b"x")],
            [("ce_replayid", b""), ("ce_replayof", b"y"), ("ce_forjob", b"other")],
            [("ce_replayid", b"x" * 256), ("ce_replayof", b"y"), ("ce_forjob", b"other")],
            [("ce_replayid", b"\xff"), ("ce_replayof", b"y"), ("ce_forjob", b"other")],
            [("ce_replayid", None), ("ce_replayof", None), ("ce_forjob", None)],
        ],
    )
    async def test_that_make_no_whole_replay_change_nothing(self, place: Place, headers: list[Any]) -> None:
        await place.open()
        place.broken = False
        await place.scene.put(b'{"n": 1}', [("ce_type", b"thing.made"), ("ce_id", b"x"), *headers])
        assert sorted(place.ran) == ["job", "other"]
        place.read()
        with place.history.snapshot() as now:
            assert [event.id for event in now.events(name="thing").items] == ["x"]
        assert all("replayOf" not in told for told in place.scene.told("run.succeeded"))

    async def test_of_a_replay_start_one_run_of_its_own_for_each_replay(self, place: Place) -> None:
        await place.open()
        place.broken = False
        event = [("ce_type", b"thing.made"), ("ce_id", b"x"), ("ce_playheadminted", b"1")]
        for replay in (b"a", b"a", b"b"):
            replayed = [("ce_replayid", replay), ("ce_replayof", b"r"), ("ce_forjob", b"j")]
            await place.scene.put(b'{"n": 1}', [*event, *replayed])
        assert place.ran == ["job", "job"]
        runs = [told["runId"] for told in place.scene.told("run.succeeded")]
        assert len(set(runs)) == 2

    async def test_same_replay_is_known_after_a_takeover(self, place: Place) -> None:
        await place.open()
        place.broken = False
        replayed = [("ce_replayid", b"a"), ("ce_replayof", b"r"), ("ce_forjob", b"j"), ("ce_playheadminted", b"1")]
        event = [("ce_type", b"thing.made"), ("ce_id", b"x"), *replayed]
        await place.scene.put(b'{"n": 1}', event)
        await place.scene.clock.advance(1)
        _first(place).member.unknown("for this test")
        await place.scene.clock.advance(5)
        await place.scene.put(b'{"n": 1}', event)
        await place.scene.clock.advance(1)
        assert place.ran == ["job"]

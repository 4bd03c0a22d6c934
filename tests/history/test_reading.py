"""What history answers: pages that neither repeat nor skip, chains, sums, and how it was."""

from __future__ import annotations

import itertools
import json
import tempfile
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.errors import InvalidInput
from playhead.history.chain import Node, chain_of
from playhead.history.projection import Rows, project
from playhead.history.reading import Snapshot
from playhead.history.statistics import Span, counts_as_of, event_sums, run_sums, state_as_of, total
from playhead.history.store import HistoryStore
from playhead.history.store import Span as Offsets
from playhead.records import Partition
from tests.history.logs import at, letter
from tests.history.scene import History, Scene

HOUR_MS = 3_600_000


@pytest.fixture
def scene(store: HistoryStore) -> Scene:
    return Scene(store)


@pytest.fixture
def now(scene: Scene) -> Iterator[Snapshot]:
    """Sees what was written before its first question."""
    with History(scene.store).snapshot() as now:
        yield now


def ids(page: Any) -> list[str]:
    return [one.id for one in page.items]


class TestEvents:
    def test_are_found_by_name_entity_key_and_time(self, scene: Scene, now: Snapshot) -> None:
        scene.event("a", "user.created", 1_000, key="ada")
        scene.event("b", "user.updated", 2_000, key="ada")
        scene.event("c", "userland.entered", 3_000)
        scene.event("d", "user.created", 4_000)
        assert ids(now.events()) == ["d", "c", "b", "a"]
        assert ids(now.events(name="user.created")) == ["d", "a"]
        assert ids(now.events(name="user")) == ["d", "b", "a"]
        assert ids(now.events(key="ada")) == ["b", "a"]
        assert ids(now.events(key="d")) == ["d"]  # its id is its key
        assert ids(now.events(key="ada", name="user.updated")) == ["b"]
        assert ids(now.events(since_ms=2_000, until_ms=4_000)) == ["c", "b"]
        assert ids(now.events(name="nobody")) == []

    def test_are_found_by_fields_of_their_payload(self, scene: Scene, now: Snapshot) -> None:
        scene.event("a", payload={"userId": "7", "address": {"city": "Rome"}})
        scene.event("b", payload={"userId": 7, "ok": None})
        scene.event("c", payload=["userId"])
        scene.event("d", payload=None)
        assert ids(now.events(payload={"userId": "7"})) == ["b", "a"]
        assert ids(now.events(payload={"address.city": "Rome"})) == ["a"]
        assert ids(now.events(payload={"ok": "null", "userId": "7"})) == ["b", "a"]
        assert ids(now.events(payload={"nothing": "x"})) == []

    @pytest.mark.parametrize(
        ("value", "found_by"),
        [
            (True, ["true"]),
            (1, ["1", "1.0"]),
            (0, ["0"]),
            (False, ["false"]),
            (None, ["null"]),
            ("", []),
            ("1", ["1", '"1"']),
            ("true", ["true"]),
            ("%_\\'\0", ["%_\\'\0"]),
            ([1, True], ["[1,true]", "[1, true]"]),
            ({"a": 0}, ['{"a": 0}']),
            (1e300, []),
        ],
    )
    def test_are_found_by_fields_of_every_type(
        self, scene: Scene, now: Snapshot, value: Any, found_by: list[str]
    ) -> None:
        scene.event("a", payload=json.dumps({"x": value}).encode())
        asked = ["true", "false", "1", "1.0", "0", "null", "none", "%", "_", "[1,true]", "[1, true]", "[1,1]", "\ud800"]
        asked += ['"1"', '{"a": 0}', '{"a": false}', "%_\\'\0", "[" * 2_000]
        assert [text for text in asked if now.events(payload={"x": text}).items] == sorted(found_by, key=asked.index)

    @pytest.mark.parametrize("text", ["%", "_", "user\0", "\ud800", "user'--", "u" * 3_000, "."])
    def test_whatever_is_asked_for_is_answered(self, scene: Scene, now: Snapshot, text: str) -> None:
        scene.event("user", "user.created")
        assert now.events(name=text).items == now.events(key=text).items == now.runs(job_id=text).items == []
        assert now.runs(event_id=text).items == now.letters(job_id=text).items == now.letters_of(text) == []
        assert now.event(text) is now.run(text) is now.letter(text) is None
        assert chain_of(now, text).root.at_ms is None
        assert run_sums(now, Span(0, 60, 60), text) == {}

    def test_search_that_looks_at_much_goes_on_in_the_next_page(
        self, scene: Scene, now: Snapshot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("playhead.history.reading.SCANNED_EVENTS_MAX", 4)
        monkeypatch.setattr("playhead.history.reading._SCAN_AT_ONCE", 2)
        for n in range(10):
            scene.event(f"e{n}", at_ms=n, payload={"n": n})
        first = now.events(payload={"n": "1"}, limit=1)
        assert (first.items, bool(first.next)) == ([], True)
        second = now.events(payload={"n": "1"}, limit=1, cursor=first.next)
        third = now.events(payload={"n": "1"}, limit=1, cursor=second.next)
        assert ids(second) + ids(third) == ["e1"]

    def test_one_says_all_that_is_known_of_it(self, scene: Scene, now: Snapshot) -> None:
        scene.event("a", key="ada", payload={"x": 1}, cause="z", by="r-0")
        event = now.event("a")
        assert event is not None
        assert (event.topic, event.partition, event.offset) == ("user", 0, 0)
        assert (event.key, event.cause, event.run_id, event.correlation) == ("ada", "z", "r-0", "a")
        assert event.payload == b'{"x":1}'
        assert now.event("b") is None

    @settings(max_examples=25, deadline=None)
    @given(
        times=st.lists(st.integers(0, 5), min_size=1, max_size=20),
        late=st.lists(st.integers(0, 5), max_size=6),
        limit=st.integers(1, 7),
    )
    def test_pages_neither_repeat_nor_skip_while_others_come(
        self, times: list[int], late: list[int], limit: int
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            scene = Scene(HistoryStore(f"sqlite:///{folder}/history.db"))
            history = History(scene.store)
            for n, at in enumerate(times):
                scene.event(f"e{n}", at_ms=at)
            seen: list[str] = []
            cursor, coming = None, iter(late)
            while True:
                with history.snapshot() as now:
                    page = now.events(cursor=cursor, limit=limit)
                seen += ids(page)
                cursor = page.next
                if cursor is None:
                    break
                for at in itertools.islice(coming, 1):
                    scene.event(f"late{at}-{len(seen)}", at_ms=at)
            scene.store.close()
        assert len(seen) == len(set(seen))
        early = [one for one in seen if not one.startswith("late")]
        newest_first = sorted(range(len(times)), key=lambda n: (times[n], n), reverse=True)
        assert early == [f"e{n}" for n in newest_first]

    @pytest.mark.parametrize(
        "cursor",
        ["x", "!!", "MTIz", "w6k", "fA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5fDE", "MXw5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "MXxh"],
    )
    def test_cursor_that_is_none_is_refused(self, now: Snapshot, cursor: str) -> None:
        with pytest.raises(InvalidInput, match="cursor"):
            now.events(cursor=cursor)

    @pytest.mark.parametrize("place", ["99999999999999999999|1", "1|9223372036854775808", "-9223372036854775809|1"])
    def test_cursor_beyond_the_numbers_of_a_database_is_refused(self, now: Snapshot, place: str) -> None:
        cursor = urlsafe_b64encode(place.encode()).decode()
        for asked in (now.events, now.letters):
            with pytest.raises(InvalidInput, match="cursor"):
                asked(cursor=cursor)

    def test_cursor_of_a_list_of_runs_is_refused_by_others(self, scene: Scene, now: Snapshot) -> None:
        for id_ in ("a", "b"):
            scene.event(id_)
            scene.told(id_, "succeeded", 1_000)
        cursor = now.runs(limit=1).next
        for asked in (now.events, now.letters):
            with pytest.raises(InvalidInput, match="cursor"):
                asked(cursor=cursor)

    def test_text_that_a_database_can_not_have_is_not_there(self, scene: Scene, now: Snapshot) -> None:
        scene.event("a")
        assert now.event("\0") is now.run("\0") is now.letter("\0") is None
        for found in (now.events(key="\0"), now.events(name="a.\0"), now.runs(job_id="\0", event_id="\0")):
            assert not found.items


class TestRuns:
    def test_are_found_by_job_state_event_and_time(self, scene: Scene, now: Snapshot) -> None:
        one = scene.told("a", "succeeded", 1_000)
        two = scene.told("b", "failed", 2_000, error={"type": "ValueError", "message": "no"})
        three = scene.told("a", "succeeded", 3_000, job="crm")
        assert ids(now.runs()) == [three, two, one]
        assert ids(now.runs(job_id="welcome")) == [two, one]
        assert ids(now.runs(state="failed")) == [two]
        assert ids(now.runs(event_id="a")) == [three, one]
        assert ids(now.runs(since_ms=1_500, until_ms=2_500)) == [two]
        page = now.runs(limit=2)
        assert ids(now.runs(limit=2, cursor=page.next)) == [one]
        assert [run.error for run in now.runs(state="failed").items] == ["ValueError: no"]

    def test_one_tells_its_attempts_in_order(self, scene: Scene, now: Snapshot) -> None:
        scene.told("a", "retrying", 1_000)
        run = scene.told("a", "succeeded", 2_000, attempt=2, output={"ok": True})
        assert [(told.state, told.at_ms) for told in now.told(run)] == [("retrying", 1_000), ("succeeded", 2_000)]
        assert now.told(run)[1].body["output"] == {"ok": True}
        assert [state_as_of(now, run, at) for at in (0, 995, 1_500, 2_000)] == [
            None,
            "running",
            "retrying",
            "succeeded",
        ]


class TestLetters:
    def test_are_open_until_they_are_settled(self, scene: Scene, now: Snapshot) -> None:
        for n in range(3):
            scene.letter(f"l{n}", 1_000 + n)
        scene.settle("l0", "retried")
        scene.settle("l1", "discarded")
        assert ids(now.letters(state="open")) == ["l2"]
        assert ids(now.letters()) == ["l2", "l1", "l0"]
        assert now.count_open_letters() == 1
        letter = now.letter("l0")
        assert letter is not None
        assert (letter.state, letter.settled_ms, letter.event_id, letter.event_name) == ("retried", 2_000, "e", "x.y")


class TestChain:
    def test_goes_up_to_the_first_cause_and_down_to_all_that_followed(self, scene: Scene, now: Snapshot) -> None:
        scene.event("a", "file.uploaded", 1_000)
        run = scene.told("a", "succeeded", 1_100, job="process")
        scene.event("b", "file.processed", 1_100, cause="a", by=run)
        scene.told("b", "failed", 1_200, job="notify")
        expected = ("file.uploaded", [("process", [("file.processed", [("notify", [])])])])
        for event_id in ("a", "b"):
            chain = chain_of(now, event_id)
            assert (_shape(chain.root), chain.is_cut) == (expected, False)

    def test_of_what_is_too_large_is_cut(self, scene: Scene, now: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("playhead.history.chain.CHAIN_NODES_MAX", 3)
        scene.event("a")
        for n in range(5):
            scene.event(f"b{n}", cause="a")
        assert chain_of(now, "a").is_cut

    def test_circle_ends(self, scene: Scene, now: Snapshot) -> None:
        scene.event("a", cause="b")
        scene.event("b", cause="a")
        scene.event("c", cause="c")
        assert _shape(chain_of(now, "c").root) == ("user.created", [])
        assert chain_of(now, "a").root.id in ("a", "b")


def _shape(node: Node) -> Any:
    return (node.name, [_shape(child) for child in node.children])


class TestSums:
    def test_are_of_whole_steps(self, scene: Scene, now: Snapshot) -> None:
        for minute, state in ((0, "succeeded"), (0, "failed"), (1, "succeeded"), (61, "succeeded")):
            scene.told(f"{minute}{state}", state, minute * 60_000 + 500, began_ms=minute * 60_000)
        scene.event("a", at_ms=61_000)
        span = Span(0, 120, 60)
        sums = run_sums(now, span)
        assert {key: (one.succeeded, one.failed) for key, one in sums.items()} == {
            (0, "welcome"): (1, 1),
            (60, "welcome"): (1, 0),
        }
        assert event_sums(now, span) == {(60, "user.created"): 1}
        whole = total(run_sums(now, Span(0, 7_200, 3_600)).values())
        assert (whole.succeeded, whole.failed, whole.success_rate) == (3, 1, 0.75)
        assert 500 <= (whole.percentile_ms(0.5) or 0) <= 600
        assert run_sums(now, span, "nobody") == {}

    @pytest.mark.parametrize(("begin", "end", "step"), [(0, 60, 30), (0, 60, 90), (60, 60, 60), (0, 60_060, 60)])
    def test_steps_that_are_none_are_refused(self, begin: int, end: int, step: int) -> None:
        with pytest.raises(InvalidInput):
            Span(begin, end, step)

    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_counts_of_a_moment_are_those_of_a_fold_up_to_it(self, data: st.DataObject) -> None:
        moments = st.integers(0, 3 * HOUR_MS)
        with tempfile.TemporaryDirectory() as folder:
            scene = Scene(HistoryStore(f"sqlite:///{folder}/history.db"))
            runs: list[tuple[str, list[tuple[int, str]]]] = []
            for n in range(data.draw(st.integers(0, 5))):
                times = sorted(data.draw(st.lists(moments, min_size=2, max_size=4)))
                began, ends = times[0], times[1:]
                last = data.draw(st.sampled_from(["succeeded", "failed", "retrying"]))
                states = ["retrying"] * (len(ends) - 1) + [last]
                job = data.draw(st.sampled_from(["a", "b"]))
                for attempt, (at, state) in enumerate(zip(ends, states, strict=True), 1):
                    scene.told(f"e{n}", state, at, job=job, attempt=attempt, began_ms=began)
                runs.append((job, [(began, "running"), *zip(ends, states, strict=True)]))
            at = data.draw(moments)
            expected = Counter(
                (job, [state for moment, state in told if moment <= at][-1]) for job, told in runs if told[0][0] <= at
            )
            with History(scene.store).snapshot() as now:
                counts = counts_as_of(now, at)
            scene.store.close()
        assert {(job, state): n for job, states in counts.items() for state, n in states.items()} == expected


def test_letters_of_a_run_are_found_among_any_number_of_others(scene: Scene, now: Snapshot) -> None:
    """A run that waits for its retries for long ends after thousands of others."""
    scene.told("e", "retrying", 1_000)
    records = [at(offset, letter(f"l{offset}", at_ms=2_000)) for offset in range(600)]
    place = Partition("dead-letter", 7)
    scene.store.begin({place: 0})
    rows = Rows()
    project(records, "dead-letter", scene.store.base(place), rows)
    scene.store.write(rows, {place: Offsets(0, 600)})
    run = scene.told("e", "failed", 3_000, attempt=2)
    scene.letter("mine", 3_000)
    assert [one.id for one in now.letters_of(run)] == [one.id for one in now.letters_on("e")] == ["mine"]

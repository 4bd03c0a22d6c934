"""Ids that are remembered: what is a repetition depends on the events alone, not on who has seen how many of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from playhead.engine import dedupe
from playhead.engine.dedupe import RecentIds

WINDOW_SECONDS = 10
WINDOW_MS = WINDOW_SECONDS * 1000

Seen = list[tuple[str, int]]


@st.composite
def logs(draw: st.DrawFn) -> Seen:
    """(id, timestamp) of events in the order of their log; few ids, times that do not go back."""
    steps = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, WINDOW_MS)), max_size=60))
    at, log = 0, []
    for name, step in steps:
        at += step
        log.append((name, at))
    return log


def repeats(log: Seen, place: int) -> bool:
    """Whether the event there is a repetition, told slowly."""
    name, at = log[place]
    return any(other == name and at - before <= WINDOW_MS for other, before in log[:place])


class TestRecentIds:
    @given(logs())
    def test_repetition_is_what_came_within_the_window_before(self, log: Seen) -> None:
        recent = RecentIds(WINDOW_SECONDS)
        assert [recent.add(*event) for event in log] == [not repeats(log, place) for place in range(len(log))]

    @given(logs(), st.data())
    def test_next_owner_that_reads_one_window_back_tells_the_same(self, log: Seen, data: st.DataObject) -> None:
        if not log:
            return
        place = data.draw(st.integers(0, len(log) - 1))
        recent = RecentIds(WINDOW_SECONDS)
        for name, at in log[:place]:
            if at >= log[place][1] - WINDOW_MS:
                recent.add(name, at)
        assert [recent.add(*event) for event in log[place:]] == [not repeats(log, n) for n in range(place, len(log))]

    def test_never_remembers_more_than_the_limit(self, monkeypatch) -> None:  # type: ignore[no-untyped-def]
        monkeypatch.setattr(dedupe, "MAX_IDS", 10)
        recent = RecentIds(WINDOW_SECONDS)
        for n in range(100):
            assert recent.add(str(n), 0)
            assert len(recent) <= 10
        assert not recent.add("99", 0)
        assert recent.add("1", 0)

    def test_one_id_again_and_again_is_remembered_once(self) -> None:
        recent = RecentIds(WINDOW_SECONDS)
        for n in range(1_000):
            recent.add("same", n * WINDOW_MS // 2)
        assert len(recent) == 1
        assert len(recent._oldest) == 1

    @given(logs(), st.data())
    def test_event_that_comes_late_takes_nothing_back(self, log: Seen, data: st.DataObject) -> None:
        """Of one id the latest timestamp counts, not the last one that came."""
        recent = RecentIds(WINDOW_SECONDS)
        for event in log:
            recent.add(*event)
        for name, latest in log[-1:]:
            assert not recent.add(name, latest - data.draw(st.integers(1, 5 * WINDOW_MS)))
            assert not recent.add(name, latest + WINDOW_MS)

    @given(logs(), st.integers(0, 60), st.integers(WINDOW_MS * 100, 10**15))
    def test_one_timestamp_far_in_the_future_changes_nothing_for_other_ids(
        self, log: Seen, place: int, far_ms: int
    ) -> None:
        recent = RecentIds(WINDOW_SECONDS)
        for n, event in enumerate(log):
            if n == place:
                assert recent.add("foreign", far_ms)
            assert recent.add(*event) == (not repeats(log, n))

    def test_window_of_0_remembers_what_came_in_the_same_millisecond(self) -> None:
        recent = RecentIds(0)
        assert recent.add("a", 5)
        assert not recent.add("a", 5)
        assert recent.add("a", 6)

"""Who gets which tasks, as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from playhead.broker.memory.assignment import divide

MEMBERS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@st.composite
def groups(draw: st.DrawFn) -> dict[str, frozenset[int]]:
    """Members with what they held: no task twice, some tasks of a topic that was larger or smaller."""
    members = draw(MEMBERS)
    owners = draw(st.lists(st.sampled_from([*members, None]), max_size=20))
    return {member: frozenset(t for t, owner in enumerate(owners) if owner == member) for member in members}


class TestDividing:
    """Every task once, even shares, few moves."""

    @given(tasks=st.integers(0, 20), held=groups())
    def test_every_task_has_exactly_one_owner(self, tasks: int, held: dict[str, frozenset[int]]) -> None:
        division = divide(tasks, held)
        assert set(division) == set(held)
        assert sorted(task for part in division.values() for task in part) == list(range(tasks))

    @given(tasks=st.integers(0, 20), held=groups())
    def test_no_share_is_larger_than_another_by_two(self, tasks: int, held: dict[str, frozenset[int]]) -> None:
        sizes = [len(part) for part in divide(tasks, held).values()]
        assert max(sizes) - min(sizes) <= 1

    @given(tasks=st.integers(0, 20), held=groups())
    def test_member_loses_tasks_only_to_make_shares_even(self, tasks: int, held: dict[str, frozenset[int]]) -> None:
        division = divide(tasks, held)
        for member, before in held.items():
            lost = {task for task in before if task < tasks} - division[member]
            assert not lost or len(division[member]) >= tasks // len(held)
            assert not lost or division[member] <= before

    @given(tasks=st.integers(0, 20), held=groups())
    def test_even_division_stays_as_it_is(self, tasks: int, held: dict[str, frozenset[int]]) -> None:
        division = divide(tasks, held)
        assert divide(tasks, division) == division

    def test_nobody_gets_nothing(self) -> None:
        assert divide(4, {}) == {}

"""Who gets which tasks, as a pure function of what the members claim."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from playhead.broker.kafka.assignor import Claim, divide

MEMBERS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Claim]:
    """Anything that members may say: stale generations, one task claimed by several, tasks that are not there."""
    tasks = st.frozensets(st.integers(0, 23), max_size=24)
    return {member: Claim(f"writer-{member}", draw(st.integers(-1, 5)), draw(tasks)) for member in draw(MEMBERS)}


def claimed(division: dict[str, frozenset[int]], generation: int = 1) -> dict[str, Claim]:
    """What members say who were given this."""
    return {member: Claim(f"writer-{member}", generation, tasks) for member, tasks in division.items()}


class TestDividing:
    """Every task once, even shares, few moves, and the newest claim counts."""

    @given(tasks=st.integers(0, 20), said=claims())
    def test_every_task_has_exactly_one_owner(self, tasks: int, said: dict[str, Claim]) -> None:
        division = divide(tasks, said)
        assert set(division) == set(said)
        assert sorted(task for part in division.values() for task in part) == list(range(tasks))

    @given(tasks=st.integers(0, 20), said=claims())
    def test_nobody_has_two_more_than_another(self, tasks: int, said: dict[str, Claim]) -> None:
        sizes = [len(part) for part in divide(tasks, said).values()]
        assert max(sizes) - min(sizes) <= 1

    @given(tasks=st.integers(0, 20), said=claims())
    def test_same_claims_give_the_same_division_in_any_order(self, tasks: int, said: dict[str, Claim]) -> None:
        assert divide(tasks, said) == divide(tasks, dict(reversed(said.items())))

    @given(tasks=st.integers(0, 20), members=MEMBERS)
    def test_nothing_moves_while_the_members_stay(self, tasks: int, members: list[str]) -> None:
        division = divide(tasks, {member: Claim(f"writer-{member}") for member in members})
        assert divide(tasks, claimed(division)) == division

    @given(tasks=st.integers(0, 20), members=MEMBERS)
    def test_newcomer_takes_its_share_and_nothing_else_moves(self, tasks: int, members: list[str]) -> None:
        before = divide(tasks, {member: Claim(f"writer-{member}") for member in members})
        after = divide(tasks, {**claimed(before), "newcomer": Claim("writer-newcomer")})
        for member in members:
            assert after[member] <= before[member]

    @given(tasks=st.integers(0, 20), members=MEMBERS.filter(lambda members: len(members) > 1))
    def test_those_who_stay_keep_what_they_had_when_one_dies(self, tasks: int, members: list[str]) -> None:
        before = divide(tasks, {member: Claim(f"writer-{member}") for member in members})
        after = divide(tasks, claimed({member: before[member] for member in members[1:]}))
        for member in members[1:]:
            assert before[member] <= after[member]

    def test_stale_claim_loses(self) -> None:
        said = {
            "back again": Claim("old", 3, frozenset({0, 1, 2})),
            "a": Claim("a", 4, frozenset({0, 1})),
            "b": Claim("b", 4, frozenset({2, 3})),
        }
        division = divide(6, said)
        assert division["a"] == {0, 1}
        assert division["b"] == {2, 3}
        assert division["back again"] == {4, 5}

    @given(said=claims())
    def test_claim_survives_the_wire(self, said: dict[str, Claim]) -> None:
        for claim in said.values():
            assert Claim.decode(claim.encode()) == claim

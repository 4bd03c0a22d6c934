"""Which member gets which tasks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def divide(tasks: int, held: Mapping[str, Iterable[int]]) -> dict[str, frozenset[int]]:
    """Divide tasks 0 to `tasks` - 1 among members: every task once, counts differ by at most one, few tasks move.

    Args:
        tasks: how many there are.
        held: every member, in the order in which they joined, with the tasks it had in the last generation.
    """
    if not held:
        return {}
    fair, larger = divmod(tasks, len(held))
    kept: dict[str, list[int]] = {}
    free = set(range(tasks))
    # Those that hold the most get the larger shares: that way the fewest tasks move.
    for place, member in enumerate(sorted(held, key=lambda member: -len(set(held[member])))):
        share = fair + 1 if place < larger else fair
        kept[member] = sorted(free.intersection(held[member]))[:share]
        free.difference_update(kept[member])
    for place, member in enumerate(kept):
        share = fair + 1 if place < larger else fair
        missing = sorted(free)[: share - len(kept[member])]
        kept[member] += missing
        free.difference_update(missing)
    return {member: frozenset(kept[member]) for member in held}

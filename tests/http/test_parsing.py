"""`bodies.parse` against the standard library's slow reader: what it refuses, and what that costs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from playhead.http.bodies import parse
from playhead.http.limits import MAX_NESTING
from playhead.http.refusals import UnsafeJson

MOST_TIMES_ORJSON = 8

integers = st.one_of(
    st.integers(),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**18, 10**19, -(10**20)]),
    st.integers(-(10**40), 10**40),
).map(str)
numbers = st.one_of(
    integers,
    st.tuples(integers, st.integers(0, 10**30)).map(lambda parts: f"{parts[0]}.{parts[1]}"),
    st.tuples(integers, st.sampled_from(["e", "E", "e+", "e-", ".5e"]), st.integers(0, 200)).map(
        lambda parts: f"{parts[0]}{parts[1]}{parts[2]}"
    ),
)
texts = st.lists(
    st.sampled_from(["a", '\\"', "\\\\", "\\/", "\\u0022", "\\n", "12345678901234567890123", "-", ".", "e", "[", "{"])
).map(lambda parts: '"' + "".join(parts) + '"')
bodies = st.recursive(
    st.one_of(numbers, texts, st.sampled_from(["true", "null"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda items: "[" + " , ".join(items) + "]"),
        st.lists(st.tuples(texts, inner), max_size=5).map(
            lambda items: "{" + ",".join(f"{name}:{item}" for name, item in items) + "}"
        ),
    ),
    max_leaves=20,
)


def lossy_integers(body: str) -> list[str]:
    """What 64 bits do not hold, in the order in which it stands there."""
    found: list[str] = []

    def look(digits: str) -> int:
        if not -(2**63) <= int(digits) < 2**64:
            found.append(digits)
        return 0

    json.loads(body, parse_int=look)
    return found


def nesting(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(nesting, value.values() if isinstance(value, dict) else value), default=0)


class TestIntegers:
    """Only what 64 bits do not hold is refused, and by the first such integer: never what a text says."""

    @given(body=bodies)
    @settings(max_examples=500)
    @example(body='["\\\\",123456789012345678901]')
    @example(body='["\\"",123456789012345678901,"\\\\\\""]')
    @example(body="[-9223372036854775809]")
    @example(body='["123456789012345678901\\\\\\"123456789012345678901"]')
    @example(body="[1e1234567890123456789012]")
    def test_is_what_the_standard_library_finds(self, body: str) -> None:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:  # a number beyond a double's range: refused before
            return
        if found := lossy_integers(body):
            with pytest.raises(UnsafeJson) as refused:
                parse(body.encode())
            assert f" {found[0][:20]}" in refused.value.message
        else:
            assert parse(body.encode()) == value


class TestNesting:
    @given(body=bodies, around=st.integers(MAX_NESTING - 6, MAX_NESTING + 1))
    def test_limit_is_the_deepest_path(self, body: str, around: int) -> None:
        deep = "[" * around + body + "]" * around
        if lossy_integers(body):
            return
        try:
            depth = nesting(orjson.loads(deep))
        except orjson.JSONDecodeError:
            return
        if depth > MAX_NESTING:
            with pytest.raises(UnsafeJson, match="levels deep"):
                parse(deep.encode())
        else:
            assert nesting(parse(deep.encode())) == depth


class TestCost:
    """The checks take their time where there is something to look at, not for each number of the body."""

    def test_one_long_integer_among_many_short_ones_costs_little_more_than_reading_them(self) -> None:
        body = b"[1234567890123456789," + b",".join([b"1"] * 500_000) + b"]"
        assert fastest(lambda: parse(body)) < MOST_TIMES_ORJSON * fastest(lambda: orjson.loads(body))


def fastest(call: Callable[[], object]) -> float:
    """Seconds; of several, so that what else the machine does counts little."""
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

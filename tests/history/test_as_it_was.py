"""How it was at a moment, against a fold of the log up to it; percentiles, against all durations."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.history.statistics import Span, counts_as_of, run_sums, state_as_of
from playhead.history.store import HistoryStore
from tests.history.scene import History, Scene

HOUR_MS = 3_600_000
MOMENTS = st.integers(0, 2 * HOUR_MS) | st.sampled_from([0, 59_999, 60_000, 60_001, HOUR_MS - 1, HOUR_MS, HOUR_MS + 1])
TOLD = st.tuples(
    st.integers(0, 3), st.sampled_from(["a", "b"]), MOMENTS, st.sampled_from(["succeeded", "failed", "retrying"])
)


@settings(max_examples=40, deadline=None)
@given(log=st.lists(TOLD, max_size=8), moments=st.lists(MOMENTS, min_size=1, max_size=3))
def test_is_what_a_fold_of_the_log_says(log: list[tuple[int, str, int, str]], moments: list[int]) -> None:
    """Runs of which some end, at the edges of minutes and hours as well."""
    ended: set[tuple[int, str]] = set()
    log = sorted(log, key=lambda told: told[2])
    with tempfile.TemporaryDirectory() as folder, closing(HistoryStore(f"sqlite:///{folder}/history.db")) as store:
        scene = Scene(store)
        runs: dict[str, tuple[str, list[tuple[int, str, int]]]] = {}
        for n, job, at_ms, state in log:
            if (n, job) in ended:
                continue
            if state != "retrying":
                ended.add((n, job))
            began_ms = max(0, at_ms - 500)
            run = scene.told(f"e{n}", state, at_ms, job=job, began_ms=began_ms)
            runs.setdefault(run, (job, []))[1].append((at_ms, state, began_ms))
        with History(store).snapshot() as now:
            for at in [*moments, *(told[2] for told in log)]:
                expected: Counter[tuple[str, str]] = Counter()
                for run, (job, told) in runs.items():
                    until = [state for at_ms, state, _ in told if at_ms <= at]
                    then = until[-1] if until else "running" if told[0][2] <= at else None
                    assert state_as_of(now, run, at) == then, (run, at)
                    if then is not None:
                        expected[job, then] += 1
                found = counts_as_of(now, at)
                assert {(job, s): n for job, states in found.items() for s, n in states.items()} == expected, at


@settings(max_examples=60, deadline=None)
@given(
    durations=st.lists(st.floats(0, 1e13) | st.integers(0, 3).map(float), min_size=1, max_size=40),
    share=st.sampled_from([0.5, 0.95, 0.99]),
)
def test_percentile_is_within_a_fifth(durations: list[float], share: float) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(HistoryStore(f"sqlite:///{folder}/history.db")) as store:
        scene = Scene(store)
        for n, took in enumerate(durations):
            scene.told(f"e{n}", "succeeded", 1_000, durationMs=took)
        with History(store).snapshot() as now:
            (sums,) = run_sums(now, Span(0, 60, 60)).values()
    exact = sorted(durations)[max(0, math.ceil(share * len(durations) - 1e-9) - 1)]
    shown = sums.percentile_ms(share)
    assert shown is not None
    assert min(exact, 1e12) <= shown * 1.000_001
    assert shown <= max(0.001, exact * 2**0.25 * 1.000_001)

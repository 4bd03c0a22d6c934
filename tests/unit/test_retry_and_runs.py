"""What follows a failed attempt, and what a run's events add up to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from playhead.errors import Poison
from playhead.retry import NO_RETRY, NonRetriableError, RetryAfter, RetryPolicy
from playhead.run import (
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_CHARS,
    NEXT_STATES,
    Fail,
    Failure,
    Retry,
    RunFailed,
    RunRetrying,
    RunState,
    RunSucceeded,
    RunView,
    verdict,
)

TOLD = {
    "run_id": "r-0",
    "job_id": "j",
    "job_version": "1",
    "event_id": "e",
    "event_name": "unit.done",
    "task": 0,
    "lease": 1,
    "started_at": "2026-01-01T00:00:00.000Z",
    "duration_ms": 1.0,
}
WHY = Failure(type="ValueError", message="no")


class TestPolicy:
    def test_delays_grow_up_to_the_limit_and_then_end(self) -> None:
        policy = RetryPolicy(max_attempts=5, initial_seconds=1, factor=3, max_seconds=10, jitter=0.5)
        assert [policy.delay_seconds(n, 0.5) for n in range(1, 6)] == [1, 3, 9, 10, None]

    def test_jitter_spreads_evenly_around_the_delay(self) -> None:
        policy = RetryPolicy(initial_seconds=10, jitter=0.2)
        assert (policy.delay_seconds(1, 0.0), policy.delay_seconds(1, 1.0)) == (8, 12)

    def test_large_attempt_number_does_not_overflow(self) -> None:
        assert RetryPolicy(max_attempts=10**9, jitter=0).delay_seconds(10**8, 0.5) == 60

    @pytest.mark.parametrize(
        "wrong", [{"max_attempts": 0}, {"factor": 0.5}, {"jitter": 1.1}, {"initial_seconds": -1}, {"max_seconds": 1e9}]
    )
    def test_policy_that_makes_no_sense_is_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=" is "):
            RetryPolicy(**wrong)  # type: ignore[arg-type]


class TestRetryAfter:
    def test_takes_seconds_or_a_timedelta_and_never_less_than_none(self) -> None:
        delays = [RetryAfter(delay).delay_seconds for delay in (5, timedelta(minutes=1), -3, 0)]
        assert delays == [5.0, 60.0, 0.0, 0.0]

    @pytest.mark.parametrize("delay", [float("inf"), float("nan"), 1e300, timedelta(days=400)])
    def test_waits_for_a_year_at_most(self, delay: float) -> None:
        with pytest.raises(ValueError, match="a year"):
            RetryAfter(delay)


class TestFailure:
    def test_message_and_traceback_are_bounded(self) -> None:
        failure = Failure.of(ValueError("x" * 1_000_000))
        assert len(failure.message) < MAX_MESSAGE_CHARS + 50
        assert failure.message.endswith("(1,000,000 characters)")
        assert len(failure.traceback) <= MAX_TRACEBACK_CHARS


class TestVerdict:
    def test_error_is_tried_again_until_the_last_attempt(self) -> None:
        policy = RetryPolicy(max_attempts=2, jitter=0)
        assert verdict(ValueError(), 1, policy, 0.5) == Retry(1.0)
        assert verdict(ValueError(), 2, policy, 0.5) == Fail()

    @pytest.mark.parametrize("error", [NonRetriableError("no"), Poison("no")])
    def test_hopeless_error_is_not(self, error: Exception) -> None:
        assert verdict(error, 1, RetryPolicy(), 0.5) == Fail()

    def test_retry_after_says_when_and_not_how_often(self) -> None:
        assert verdict(RetryAfter(timedelta(minutes=5)), 1, RetryPolicy(), 0.5) == Retry(300.0)
        assert verdict(RetryAfter(5), 1, NO_RETRY, 0.5) == Fail()


class TestRunView:
    def test_folds_a_retry_and_a_success(self) -> None:
        view = RunView("r-0").apply(RunRetrying(**TOLD, attempt=1, error=WHY, due_at="later"))
        assert (view.state, view.error) == (RunState.RETRYING, WHY)
        view = view.apply(RunSucceeded(**TOLD, attempt=2, output={"n": 1}, sent=["s"]))
        assert view == RunView("r-0", RunState.SUCCEEDED, "j", "e", 2, {"n": 1}, None, ("s",))

    def test_nothing_follows_an_end(self) -> None:
        view = RunView("r-0").apply(RunFailed(**TOLD, attempt=1, error=WHY))
        with pytest.raises(ValueError, match="can't follow"):
            view.apply(RunSucceeded(**TOLD, attempt=2))

    def test_event_of_another_run_is_refused(self) -> None:
        with pytest.raises(ValueError, match="can't follow"):
            RunView("r-1").apply(RunSucceeded(**TOLD, attempt=1))

    @pytest.mark.parametrize("first", list(RunState))
    @pytest.mark.parametrize("second", [RunSucceeded, RunRetrying, RunFailed])
    def test_follows_the_arrows_of_the_drawing_and_no_other(self, first: RunState, second: type) -> None:
        more = {RunSucceeded: {}, RunRetrying: {"error": WHY, "due_at": ""}, RunFailed: {"error": WHY}}[second]
        event = second(**TOLD, attempt=1, **more)
        state = {RunSucceeded: RunState.SUCCEEDED, RunRetrying: RunState.RETRYING, RunFailed: RunState.FAILED}[second]
        if state in NEXT_STATES[first]:
            assert RunView("r-0", state=first).apply(event).state is state
        else:
            with pytest.raises(ValueError, match="can't follow"):
                RunView("r-0", state=first).apply(event)

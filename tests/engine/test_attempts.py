"""What an attempt may do, and what may not leak out of it: sends, logs, context, exceptions of any kind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import Any

import pytest
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from playhead import IO, NO_RETRY, RetryAfter, RetryPolicy, SyncIO, event_trigger, send_event
from playhead.engine.attempt import DEADLINE_GRACE_SECONDS, MAX_SENDS_PER_RUN
from playhead.errors import InvalidInput
from playhead.run import MAX_LOG_LINES, RunFailed, RunRetrying, RunSucceeded
from tests.engine.scene import Scene
from tests.waiting import wait_until

QUICK = RetryPolicy(max_attempts=2, initial_seconds=0, jitter=0)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise KeyError("no words")


class Odd(BaseException): ...


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoDelay(RetryAfter):
    def __init__(self) -> None:
        """Calls no `super().__init__`."""


class NoNumber(RetryAfter):
    def __init__(self, delay: Any) -> None:
        self.delay_seconds = delay


class TestSends:
    async def test_attempt_that_timed_out_can_not_send_with_the_next_one(self, scene: Scene) -> None:
        await scene.open()
        second_attempt, refused = threading.Event(), threading.Event()

        def plain(payload: Any, io: SyncIO) -> None:
            if io.run.attempt == 2:
                second_attempt.set()
                assert refused.wait(10)
                return
            assert second_attempt.wait(10)  # this attempt's time is over, and its thread goes on
            with pytest.raises(InvalidInput, match="has ended"):
                io.send_event("echo.made", {"attempt": io.run.attempt})
            refused.set()

        await scene.work(plain, timeout=10, retry=QUICK)
        await scene.send(1)
        await scene.clock.advance(10)
        await wait_until(lambda: bool(scene.told("run.succeeded")))
        assert scene.events("echo") == []

    async def test_send_after_the_run_has_ended_is_an_error_and_not_lost_in_silence(self, scene: Scene) -> None:
        await scene.open()
        ended, outcome = asyncio.Event(), []
        left: list[asyncio.Task[None]] = []

        async def late(io: IO) -> None:
            await ended.wait()
            try:
                outcome.append(await io.send_event("echo.made", {}))
            except InvalidInput as error:
                outcome.append(error)

        async def run(payload: Any, io: IO) -> None:
            left.append(asyncio.create_task(late(io)))

        await scene.work(run)
        await scene.send(1)
        assert scene.ends() == [(1, "succeeded")]
        ended.set()
        await scene.clock.advance(1)
        assert isinstance(outcome[0], InvalidInput)
        assert scene.events("echo") == []

    async def test_module_level_send_event_inside_a_run_commits_with_the_run(self, scene: Scene) -> None:
        await scene.open()
        answers = []

        async def run(payload: Any, io: IO) -> None:
            answers.append(await send_event("echo.made", {"n": payload["n"]}))
            assert scene.events("echo") == []

        await scene.work(run)
        await scene.send(1)
        (echo,) = scene.events("echo")
        assert answers[0].offset is None
        assert answers[0].id == echo.id
        assert scene.told("run.succeeded")[0]["sent"] == [echo.id]

    async def test_one_more_than_the_limit_fails_the_run_and_sends_nothing(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            for _ in range(MAX_SENDS_PER_RUN + payload["n"]):
                await io.send_event("echo.made", {})

        await scene.work(run)
        await scene.send(0, 1)
        assert scene.ends() == [(0, "succeeded"), (1, "failed")]
        assert len(scene.events("echo")) == MAX_SENDS_PER_RUN

    async def test_more_than_a_transaction_can_take_fails_the_run(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            for _ in range(payload["n"]):
                await io.send_event("echo.made", {"text": "x" * 700_000})

        await scene.work(run, retry=NO_RETRY)
        await scene.send(2, 60)
        assert scene.ends() == [(2, "succeeded"), (60, "failed")]
        assert len(scene.events("echo")) == 2

    async def test_event_that_its_topic_does_not_take_fails_the_run_at_once(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await io.send_event("echo.made", {"text": "x" * 800_000})

        await scene.work(run)
        await scene.send(1)
        (failed,) = scene.told("run.failed")
        assert failed["error"]["type"] == "playhead.errors.EventTooLarge"
        assert failed["attempt"] == 1


class TestEnds:
    """Whatever a function raises or returns ends its attempt; nothing leaves a run hanging."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("half a pair: \ud83d"),
            Unspeakable(),
            ValueError("x" * 5_000_000),
            asyncio.CancelledError(),
            BaseExceptionGroup("several", [ValueError("one")]),
            Odd(),
            GeneratorExit(),
            Leaving(),
            NoDelay(),
            NoNumber("soon"),
            NoNumber(float("nan")),
        ],
        ids=[
            "surrogate",
            "unspeakable",
            "long",
            "cancelled",
            "group",
            "base",
            "generator",
            "leaving",
            "bare",
            "word",
            "nan",
        ],
    )
    async def test_error_of_any_kind_is_told(self, scene: Scene, error: BaseException) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            if payload["n"] == 1:
                raise error

        worker = await scene.work(run, retry=RetryPolicy(max_attempts=2, initial_seconds=0))
        await scene.send(1, 2)
        await scene.clock.advance(1)
        worker.check()
        assert scene.ends() == [(1, "failed"), (2, "succeeded")]
        assert len(scene.dead_letters()) == 1

    async def test_base_exception_in_a_thread_is_told(self, scene: Scene) -> None:
        await scene.open()

        def run(payload: Any, io: SyncIO) -> None:
            raise Odd

        await scene.work(run, retry=NO_RETRY)
        await scene.send(1)
        await wait_until(lambda: scene.ends() == [(1, "failed")])

    @pytest.mark.parametrize("error", [Odd, SystemExit, GeneratorExit])
    async def test_filter_may_raise_anything_and_fails_its_run_alone(
        self, scene: Scene, error: type[BaseException]
    ) -> None:
        await scene.open()

        def keep(payload: Any) -> bool:
            if payload["n"] == 1:
                raise error
            return True

        async def run(payload: Any, io: IO) -> None: ...

        worker = await scene.work(run, on=event_trigger("thing.made", filter=keep))
        await scene.send(1, 2)
        worker.check()
        assert scene.ends() == [(1, "failed"), (2, "succeeded")]

    async def test_retry_is_told_for_an_error_without_words_too(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            if io.run.attempt == 1:
                raise Unspeakable

        await scene.work(run, retry=QUICK)
        await scene.send(1)
        await scene.clock.advance(1)
        assert scene.ends() == [(1, "succeeded")]

    async def test_stop_iteration_in_a_plain_function_fails_its_run(self, scene: Scene) -> None:
        """An executor can't hand it over: without care nobody would ever hear of the run's end."""
        await scene.open()

        def run(payload: Any, io: SyncIO) -> Any:
            return next(iter([]))

        await scene.work(run, retry=NO_RETRY)
        await scene.send(1)
        await wait_until(lambda: scene.ends() == [(1, "failed")])


class TestLogs:
    @pytest.mark.parametrize(
        "fields",
        [
            {"level": "gold"},
            {"at": "noon"},
            {"big": 2**70},
            {"half": "\ud83d"},
            {"object": object()},
            {"nested": {"half": "\ud83d"}},
            {"nan": float("nan")},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    async def test_no_field_of_a_log_line_fails_the_run(self, scene: Scene, fields: dict[str, Any]) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            io.logger.info("told \ud83d", **fields)

        await scene.work(run, retry=NO_RETRY)
        await scene.send(1)
        (told,) = scene.told("run.succeeded")
        assert told["logs"][0]["level"] == "info"
        assert told["logs"][0]["event"].startswith("told")

    async def test_lines_beyond_the_limit_are_cut_off_with_a_word(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            for n in range(payload["n"]):
                io.logger.info("line" if payload["n"] > 50 else "x" * 10_000, n=n)

        await scene.work(run)
        await scene.send(3 * MAX_LOG_LINES, 50)
        by_event = {len(told["logs"]): told["logs"] for told in scene.told("run.succeeded")}
        assert sorted(by_event) == [14, MAX_LOG_LINES]
        for lines in by_event.values():
            assert lines[-1]["event"] == "(further lines are in the worker's log only)"

    async def test_exception_is_kept_with_its_traceback(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            try:
                int("inside")
            except ValueError:
                io.logger.exception("caught")

        await scene.work(run)
        await scene.send(1)
        (line,) = scene.told("run.succeeded")[0]["logs"]
        assert line["level"] == "error"
        assert "ValueError: invalid literal" in line["exception"]

    async def test_logger_that_is_first_used_late_writes_into_no_later_attempt(self, scene: Scene) -> None:
        await scene.open()
        left: list[asyncio.Task[None]] = []

        async def late(io: IO) -> None:
            await scene.clock.sleep(5)
            io.logger.info("stale")

        async def run(payload: Any, io: IO) -> None:
            if io.run.attempt == 1:
                left.append(asyncio.create_task(late(io)))
                raise ValueError
            await scene.clock.sleep(10)
            io.logger.info("own")

        await scene.work(run, retry=QUICK)
        await scene.send(1)
        await scene.clock.advance(20)
        assert [line["event"] for line in scene.told("run.succeeded")[0]["logs"]] == ["own"]


tenant = contextvars.ContextVar("tenant", default="nobody")


class TestContext:
    async def test_context_variable_of_one_run_is_not_seen_by_the_next(self, scene: Scene) -> None:
        await scene.open()
        seen = []

        async def run(payload: Any, io: IO) -> None:
            seen.append(tenant.get())
            tenant.set(f"tenant of {payload['n']}")
            await scene.clock.sleep(1)

        await scene.work(run, concurrency=1)
        await scene.send(1, 2, 3)
        await scene.clock.advance(10)
        assert seen == ["nobody"] * 3

    async def test_nor_by_its_filter_nor_in_log_lines(self, scene: Scene) -> None:
        """What ends makes room, and so starts the next: in a context that is not its own."""
        await scene.open()
        seen: list[Any] = []

        def keep(payload: Any) -> bool:
            seen.append((tenant.get(), get_contextvars()))
            tenant.set("of a filter")
            return True

        async def run(payload: Any, io: IO) -> None:
            tenant.set(f"tenant of {payload['n']}")

        await scene.work(run, on=event_trigger("thing.made", filter=keep), concurrency=1)
        await scene.send(1, 2)
        with capture_logs(processors=[merge_contextvars]) as lines:
            await scene.send(3)
            await scene.put(b"no json", [("ce_type", b"thing.made"), ("ce_id", b"bad")])
        assert seen == [("nobody", {})] * 3
        (line,) = [line for line in lines if "can't be read" in line["event"]]
        assert "run_id" not in line


class TestTold:
    async def test_records_read_back_with_their_classes(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> list[int]:
            if payload["n"] == 2 or io.run.attempt == 1:
                raise ValueError("no")
            return [1, 2]

        await scene.work(run, retry=QUICK)
        await scene.send(1, 2)
        await scene.clock.advance(5)
        models = {"run.succeeded": RunSucceeded, "run.retrying": RunRetrying, "run.failed": RunFailed}
        read = [event.typed_payload(models[event.name]) for event in scene.events("run")]
        assert sorted(type(told).__name__ for told in read) == [
            "RunFailed",
            "RunRetrying",
            "RunRetrying",
            "RunSucceeded",
        ]
        succeeded = next(told for told in read if isinstance(told, RunSucceeded))
        assert (succeeded.output, succeeded.attempt, succeeded.lease, succeeded.task) == ([1, 2], 2, 1, 0)


class TestDeadline:
    async def test_attempt_is_timed_on_the_clock_of_the_worker(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await scene.clock.sleep(payload["n"])

        await scene.work(run, timeout=10, retry=NO_RETRY)
        await scene.send(5, 15)
        await scene.clock.advance(9)
        assert scene.ends() == [(5, "succeeded")]
        await scene.clock.advance(1)
        assert scene.ends() == [(5, "succeeded"), (15, "failed")]
        assert scene.told("run.failed")[0]["error"]["type"] == "TimeoutError"

    async def test_retry_has_a_deadline_of_its_own(self, scene: Scene) -> None:
        await scene.open()

        async def run(payload: Any, io: IO) -> None:
            await scene.clock.sleep(15 if io.run.attempt == 1 else 5)

        await scene.work(run, timeout=10, retry=QUICK)
        await scene.send(1)
        await scene.clock.advance(16)
        assert scene.ends() == [(1, "succeeded")]

    async def test_function_that_does_not_listen_to_its_deadline_holds_no_key(self, scene: Scene) -> None:
        """Its attempt ends after a grace, and what it still sends or returns is nobody's."""
        await scene.open()
        ends: list[Any] = []

        async def run(payload: Any, io: IO) -> str:
            if io.run.attempt == 2 or payload["n"] == 2:
                await scene.clock.sleep(5)
                return "heard"
            with contextlib.suppress(asyncio.CancelledError):
                await scene.clock.sleep(1_000)
            await scene.clock.sleep(DEADLINE_GRACE_SECONDS + 2)
            try:
                await io.send_event("echo.made", {})
            except InvalidInput as error:
                ends.append(error)
            return "deaf"

        worker = await scene.work(run, timeout=10, retry=QUICK)
        made = ("ce_type", b"thing.made")
        await scene.put(b'{"n": 1}', [made, ("ce_id", b"1")])
        await scene.put(b'{"n": 2}', [made, ("ce_id", b"2")])
        await scene.clock.advance(10 + DEADLINE_GRACE_SECONDS)
        assert [told["error"]["type"] for told in scene.told("run.retrying")] == ["TimeoutError"]
        await scene.clock.advance(60)
        worker.check()
        assert [told["output"] for told in scene.told("run.succeeded")] == ["heard", "heard"]
        assert len(ends) == 1
        assert scene.consumer(worker).running == 0

"""What a job sees and what becomes of its runs, on the real engine in memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from base64 import b64decode
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from playhead import IO, NO_RETRY, Client, NonRetriableError, RetryAfter, RetryPolicy, SyncIO, TypedEvent, event_trigger
from playhead.records import Record
from playhead.run import RunState
from playhead.testing import JobHarness


class OrderPlaced(TypedEvent, name="order.placed", key="order_id"):
    order_id: str
    amount: int


def job(client: Client, name: str, run: Callable[..., Any], trigger: object = "order.placed", **options: Any) -> None:
    chosen = trigger if not isinstance(trigger, str) else event_trigger(trigger)
    client.define_job(id=name, name=name, version="1", trigger=chosen, run=run, **options)  # type: ignore[arg-type]


async def put(harness: JobHarness, value: bytes | None, headers: list[tuple[str, bytes]], key: bytes = b"k") -> None:
    """Append a record as a foreign producer does."""
    (result,) = await harness.broker.append([Record("order", 0, key, value, headers, int(harness.clock.time() * 1000))])
    assert not isinstance(result, Exception)
    await harness.settle()


FOREIGN = [("ce_type", b"order.placed"), ("ce_id", b"foreign-1"), ("ce_specversion", b"1.0")]


class TestBroadcastAndChains:
    async def test_one_event_starts_every_job_that_listens(self) -> None:
        client, seen = Client("t"), []

        async def note(payload: dict[str, Any], io: IO) -> None:
            seen.append(io.run.job_id)

        for name in ("a", "b", "c"):
            job(client, name, note)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            assert sorted(seen) == ["a", "b", "c"]
            assert {run.state for run in await jobs.runs()} == {RunState.SUCCEEDED}

    async def test_chain_carries_cause_and_correlation(self) -> None:
        client = Client("t")

        async def first(payload: OrderPlaced, io: IO) -> None:
            await io.send_event("parcel.packed", {"order": payload.order_id})

        async def second(payload: dict[str, Any], io: IO) -> None:
            await io.send_event("parcel.sent", payload)

        job(client, "first", first, event_trigger(OrderPlaced))
        job(client, "second", second, "parcel.packed")
        async with JobHarness(client) as jobs:
            sent = await jobs.send(OrderPlaced(order_id="1", amount=3))
            (packed,), (gone,) = await jobs.events("parcel.packed"), await jobs.events("parcel.sent")
            assert packed.causation_id == sent.id
            assert gone.causation_id == packed.id
            assert packed.correlation_id == gone.correlation_id == sent.id
            assert (packed.depth, gone.depth) == (1, 2)

    async def test_what_a_failed_attempt_sent_is_dropped(self) -> None:
        client = Client("t")

        async def fails_once(payload: dict[str, Any], io: IO) -> None:
            await io.send_event("parcel.packed", {"attempt": io.run.attempt})
            if io.run.attempt == 1:
                raise ValueError

        job(client, "once", fails_once)
        async with JobHarness(client, entities=["parcel"]) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            assert await jobs.payloads("parcel.packed") == []
            await jobs.advance(5)
            assert await jobs.payloads("parcel.packed") == [{"attempt": 2}]

    async def test_two_jobs_that_trigger_each_other_are_stopped_by_the_depth_limit(self) -> None:
        client = Client("t")

        async def again(payload: dict[str, Any], io: IO) -> None:
            await io.send_event("order.placed", payload)

        job(client, "again", again)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            runs = await jobs.runs()
            assert len(runs) == 65
            failed = [run for run in runs if run.state is RunState.FAILED]
            assert len(failed) == 1
            assert failed[0].error is not None
            assert "64 are allowed" in failed[0].error.message

    async def test_job_on_run_failed_runs_for_others_and_never_for_itself(self) -> None:
        client, seen = Client("t"), []

        async def fail(payload: dict[str, Any], io: IO) -> None:
            raise NonRetriableError("no")

        async def watch(payload: dict[str, Any], io: IO) -> None:
            seen.append(payload["jobId"])
            raise NonRetriableError("the watcher fails too")

        job(client, "fail", fail)
        job(client, "watch", watch, "run.failed")
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            await jobs.advance(5)
            assert seen == ["fail"]


class TestOrder:
    @staticmethod
    async def _starts(order: str, keys: list[str]) -> list[tuple[float, str]]:
        client, starts = Client("t"), []

        async def slow(payload: dict[str, Any], io: IO) -> None:
            starts.append((jobs.clock.monotonic(), str(io.run.event.key)))
            await jobs.clock.sleep(1)

        job(client, "slow", slow, order=order)
        async with JobHarness(client) as jobs:
            begin = jobs.clock.monotonic()
            for key in keys:
                await jobs._client.send_event("order.placed", {"orderId": key, "amount": 1}, key=key)
            await jobs.clock.advance(10)
        return [(round(at - begin), key) for at, key in starts]

    async def test_same_key_runs_one_after_the_other_and_other_keys_at_once(self) -> None:
        starts = await self._starts("key", ["a", "a", "b", "a"])
        assert sorted(starts) == [(0, "a"), (0, "b"), (1, "a"), (2, "a")]

    async def test_order_none_holds_nothing(self) -> None:
        assert sorted(await self._starts("none", ["a", "a", "a"])) == [(0, "a")] * 3

    async def test_retry_holds_its_key(self) -> None:
        client, seen = Client("t"), []

        async def fails_once(payload: dict[str, Any], io: IO) -> None:
            seen.append((payload["amount"], io.run.attempt))
            if payload["amount"] == 1 and io.run.attempt == 1:
                raise ValueError

        job(client, "once", fails_once)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1}, key="k")
            await jobs.send("order.placed", {"orderId": "1", "amount": 2}, key="k")
            assert seen == [(1, 1)]
            await jobs.advance(5)
            assert seen == [(1, 1), (1, 2), (2, 1)]

    async def test_no_more_run_at_once_than_the_job_allows(self) -> None:
        client, running, most = Client("t"), 0, 0

        async def slow(payload: dict[str, Any], io: IO) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await jobs.clock.sleep(1)
            running -= 1

        job(client, "slow", slow, concurrency=3)
        async with JobHarness(client) as jobs:
            for n in range(12):
                await jobs._client.send_event("order.placed", {"orderId": str(n), "amount": 1})
            await jobs.clock.advance(10)
            assert most == 3
            assert len(await jobs.runs()) == 12


class TestRetries:
    async def test_last_failure_is_a_failed_run_and_a_dead_letter_with_the_bytes(self) -> None:
        client, attempts = Client("t"), []

        async def fail(payload: dict[str, Any], io: IO) -> None:
            attempts.append(jobs.clock.monotonic())
            raise ValueError("never")

        job(client, "fail", fail, retry=RetryPolicy(max_attempts=3, initial_seconds=2, jitter=0))
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            await jobs.advance(100)
            assert [round(b - a, 3) for a, b in itertools.pairwise(attempts)] == [2, 4]
            run = await jobs.run_of("fail")
            assert (run.state, run.attempt) == (RunState.FAILED, 3)
            (dead,) = await jobs.payloads("dead-letter.created")
            assert b64decode(dead["value"]) == b'{"orderId":"1","amount":1}'
            assert dead["reason"] == "ValueError: never"
            assert "test_jobs.py" in dead["error"]["traceback"]

    async def test_non_retriable_error_fails_at_once(self) -> None:
        client = Client("t")

        async def fail(payload: dict[str, Any], io: IO) -> None:
            raise NonRetriableError("no use")

        job(client, "fail", fail)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            assert (await jobs.run_of("fail")).state is RunState.FAILED

    async def test_retry_after_says_when(self) -> None:
        client = Client("t")

        async def later(payload: dict[str, Any], io: IO) -> None:
            if io.run.attempt == 1:
                raise RetryAfter(30)

        job(client, "later", later)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            await jobs.advance(29)
            assert (await jobs.run_of("later")).state is RunState.RETRYING
            await jobs.advance(2)
            assert (await jobs.run_of("later")).state is RunState.SUCCEEDED

    async def test_attempt_that_takes_too_long_is_cancelled(self) -> None:
        client, cancelled = Client("t"), []

        async def hang(payload: dict[str, Any], io: IO) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        job(client, "hang", hang, timeout=60, retry=NO_RETRY)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1}, settle=False)
            await jobs.clock.advance(60)
            run = await jobs.run_of("hang")
            assert run.error is not None
            assert run.error.type == "TimeoutError"
            assert cancelled == [True]

    async def test_sys_exit_in_a_job_fails_the_run_and_not_the_worker(self) -> None:
        client = Client("t")

        async def leave(payload: dict[str, Any], io: IO) -> None:
            raise SystemExit(3)

        job(client, "leave", leave, retry=NO_RETRY)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            assert (await jobs.run_of("leave")).state is RunState.FAILED
            await jobs.send("order.placed", {"orderId": "2", "amount": 1})
            assert len(await jobs.runs()) == 2


class TestBadRecords:
    @pytest.mark.parametrize(
        ("value", "headers", "why"),
        [
            (b"{not json", FOREIGN, "Invalid JSON"),
            (b"{}", [], "CloudEvent"),
            (b"{}", [("ce_type", b"order.placed")], "CloudEvent"),
            (None, FOREIGN, "no value"),
            (b'{"orderId": "1"}', FOREIGN, "amount"),
        ],
    )
    async def test_unreadable_record_is_a_dead_letter_and_the_partition_goes_on(
        self, value: bytes | None, headers: list[tuple[str, bytes]], why: str
    ) -> None:
        client, seen = Client("t"), []

        async def note(payload: OrderPlaced, io: IO) -> None:
            seen.append(payload.amount)

        job(client, "note", note, event_trigger(OrderPlaced))
        async with JobHarness(client) as jobs:
            if why != "amount":
                await put(jobs, value, headers)
            else:
                await put(jobs, value, headers, key=b"other")
            await put(jobs, b'{"orderId": "2", "amount": 7}', [*FOREIGN[:1], ("ce_id", b"foreign-2")])
            assert seen == [7]
            (dead,) = await jobs.payloads("dead-letter.created")
            assert why in dead["reason"]
            assert (dead["topic"], dead["partition"], dead["offset"]) == ("order", 0, 0)
            assert len(await jobs.runs()) == 1

    async def test_record_of_another_name_costs_no_parsing(self) -> None:
        client = Client("t")

        async def note(payload: dict[str, Any], io: IO) -> None: ...

        job(client, "note", note)
        async with JobHarness(client) as jobs:
            await put(jobs, b"{not json", [("ce_type", b"order.shipped"), ("ce_id", b"x")])
            assert await jobs.payloads("dead-letter.created") == []
            await jobs.advance(2)
            info = await jobs.broker.describe_group("note")
            assert {p.partition: mark.offset for p, mark in info.checkpoints.items()}[0] == 1


class TestFilters:
    @pytest.mark.parametrize("condition", [{"amount": [5, 6]}, {"amount": 5}, lambda payload: payload["amount"] > 4])
    async def test_only_what_passes_starts_a_run(self, condition: Any) -> None:
        client, seen = Client("t"), []

        async def note(payload: dict[str, Any], io: IO) -> None:
            seen.append(payload["amount"])

        job(client, "note", note, event_trigger("order.placed", filter=condition))
        async with JobHarness(client) as jobs:
            for amount in (1, 5):
                await jobs.send("order.placed", {"orderId": "1", "amount": amount}, key="k")
            assert seen == [5]

    async def test_filter_that_raises_fails_the_run(self) -> None:
        client = Client("t")

        async def note(payload: dict[str, Any], io: IO) -> None: ...

        job(client, "note", note, event_trigger("order.placed", filter=lambda payload: payload["missing"]))
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            run = await jobs.run_of("note")
            assert run.state is RunState.FAILED
            assert run.error is not None
            assert "filter" in run.error.message


PROCESS_JOB = """
import os

def double(payload, io):
    if payload["amount"] == 13:
        os._exit(1)
    return payload["amount"] * 2
"""


class TestFunctionsAndOutput:
    async def test_plain_function_runs_in_a_thread_and_sends_with_its_run(self) -> None:
        client = Client("t")

        def plain(payload: dict[str, Any], io: SyncIO) -> str:
            time.sleep(0.01)  # the blocking itself is under test
            io.send_event("parcel.packed", {"order": payload["orderId"]})
            return "done"

        job(client, "plain", plain)
        async with JobHarness(client, entities=["parcel"]) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            assert (await jobs.run_of("plain")).output == "done"
            assert await jobs.payloads("parcel.packed") == [{"order": "1"}]

    async def test_function_runs_in_a_process_and_one_that_dies_fails_its_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "process_job.py").write_text(PROCESS_JOB)  # a new process has to be able to import it
        monkeypatch.syspath_prepend(tmp_path)
        client = Client("t")
        function = import_module("process_job").double
        job(client, "double", function, executor="process", concurrency=1, retry=NO_RETRY)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 13})
            await jobs.send("order.placed", {"orderId": "2", "amount": 21})
            assert {run.state: run.output for run in await jobs.runs()} == {
                RunState.FAILED: None,
                RunState.SUCCEEDED: 42,
            }

    @pytest.mark.parametrize(("output", "why"), [(object(), "no JSON form"), ("x" * 300_000, "are kept with a run")])
    async def test_output_that_can_not_be_kept_fails_the_run(self, output: object, why: str) -> None:
        client = Client("t")

        async def give(payload: dict[str, Any], io: IO) -> object:
            return output

        job(client, "give", give)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            run = await jobs.run_of("give")
            assert run.error is not None
            assert why in run.error.message

    async def test_log_lines_are_kept_with_the_run(self) -> None:
        client = Client("t")

        async def talk(payload: dict[str, Any], io: IO) -> None:
            io.logger.info("hello", order=payload["orderId"])
            io.logger.bind(step=2).warning("careful")

        job(client, "talk", talk)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            (told,) = await jobs.payloads("run.succeeded")
            lines = [(line["level"], line["event"]) for line in told["logs"]]
            assert lines == [("info", "hello"), ("warning", "careful")]
            assert told["logs"][0]["order"] == "1"

    async def test_event_without_topic_fails_the_send_inside_the_run(self) -> None:
        client = Client("t")

        async def lost(payload: dict[str, Any], io: IO) -> None:
            await io.send_event("nowhere.sent", {})

        job(client, "lost", lost)
        async with JobHarness(client) as jobs:
            await jobs.send("order.placed", {"orderId": "1", "amount": 1})
            run = await jobs.run_of("lost")
            assert run.error is not None
            assert run.error.type == "playhead.errors.UnknownTopic"


class TestDuplicates:
    async def test_second_event_with_a_chosen_id_starts_no_second_run_within_the_window(self) -> None:
        client = Client("t")

        async def note(payload: dict[str, Any], io: IO) -> None: ...

        job(client, "note", note, dedupe_window=100)
        async with JobHarness(client) as jobs:
            for _ in range(3):
                await jobs.send("order.placed", {"orderId": "1", "amount": 1}, id="mine", key="k")
            assert len(await jobs.runs()) == 1
            await jobs.advance(101)
            await jobs.send("order.placed", {"orderId": "1", "amount": 1}, id="mine", key="k")
            assert len(await jobs.payloads("run.succeeded")) == 2

    async def test_foreign_id_is_remembered_over_a_takeover(self) -> None:
        client = Client("t")

        async def note(payload: dict[str, Any], io: IO) -> None: ...

        job(client, "note", note)
        async with JobHarness(client) as jobs:
            await put(jobs, b"{}", FOREIGN)
            jobs.broker.expel(jobs.worker.consumers[0].member.membership)  # type: ignore[arg-type]
            await jobs.advance(15)
            assert jobs.worker.ready
            await put(jobs, b"{}", FOREIGN)
            await jobs.advance(1)
            assert len(await jobs.payloads("run.succeeded")) == 1

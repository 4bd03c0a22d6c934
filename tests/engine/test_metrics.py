"""What a worker counts of its jobs."""

from __future__ import annotations

from typing import Any

import pytest

from playhead import IO, RetryPolicy
from playhead.job import event_trigger
from playhead.retry import NonRetriableError
from playhead.serde import CE_ID, CE_TYPE
from tests.engine.scene import Scene
from tests.exposition import Exposition, exposed
from tests.simulator.process import Process

SUCCEEDED, FAILED = {"job_id": "j", "state": "succeeded"}, {"job_id": "j", "state": "failed"}


def seen(process: Process) -> Exposition:
    return exposed(process.worker.samples)


async def nothing(payload: Any, io: IO) -> None:
    pass


async def sends_and_fails_at_two(payload: Any, io: IO) -> None:
    await io.send_event("echo.made", {"of": payload["n"]})
    if payload["n"] == 2:
        raise NonRetriableError("no")


class TestRuns:
    async def test_are_counted_by_how_they_ended_once_that_is_committed(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(sends_and_fails_at_two)
        scene.broker.commit_latency_seconds = 1.0
        await scene.send(1, 2, 3)
        before = seen(worker)
        assert (before.sum("playhead_runs_total"), before.sum("playhead_dead_letters_total")) == (0, 0)
        assert before.value("playhead_runs_held", state="ended") == 3
        await scene.clock.advance(5)
        after = seen(worker)
        assert after.value("playhead_runs_total", **SUCCEEDED) == 2
        assert after.value("playhead_runs_total", **FAILED) == 1
        assert after.value("playhead_dead_letters_total", job_id="j") == 1
        assert after.sum("playhead_runs_held") == 0
        assert after.value("playhead_run_duration_seconds_count", job_id="j") == 3

    async def test_what_a_run_sends_counts_with_its_commit_and_not_where_it_failed(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(sends_and_fails_at_two)
        await scene.send(1, 2, 3)
        assert seen(worker).value("playhead_events_sent_total", topic="echo") == len(scene.events("echo")) == 2

    async def test_retry_is_counted_and_its_run_is_in_backoff_until_then(self, scene: Scene) -> None:
        async def fails_once(payload: Any, io: IO) -> None:
            if io.run.attempt == 1:
                raise RuntimeError("again")

        await scene.open()
        worker = await scene.work(fails_once, retry=RetryPolicy(initial_seconds=10, jitter=0))
        await scene.send(1)
        await scene.clock.advance(1)
        between = seen(worker)
        assert between.value("playhead_retries_total", job_id="j") == 1
        assert between.value("playhead_runs_held", state="backoff") == 1
        assert between.value("playhead_oldest_uncommitted_run_seconds") == pytest.approx(1, abs=0.01)
        await scene.clock.advance(20)
        after = seen(worker)
        assert after.value("playhead_runs_total", **SUCCEEDED) == 1
        assert after.value("playhead_retries_total", job_id="j") == 1
        assert after.value("playhead_oldest_uncommitted_run_seconds") == 0
        assert after.value("playhead_run_duration_seconds_count") == 2
        assert after.value("playhead_run_start_latency_seconds_count") == 1  # of the first attempt alone

    async def test_record_that_can_not_be_read_is_a_dead_letter_and_no_run(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        await scene.put(b"{", [(CE_TYPE, b"thing.made"), (CE_ID, b"1")])
        assert seen(worker).sum("playhead_runs_total") == 0
        assert seen(worker).value("playhead_dead_letters_total") == len(scene.dead_letters()) == 1

    async def test_run_whose_commit_is_refused_has_failed(self, scene: Scene) -> None:
        async def returns_much(payload: Any, io: IO) -> str:
            return "x" * 20_000

        await scene.open(run=5_000)
        worker = await scene.work(returns_much)
        await scene.send(1)
        await scene.clock.advance(1)
        now = seen(worker)
        assert (now.value("playhead_runs_total", **SUCCEEDED), now.value("playhead_runs_total", **FAILED)) == (0, 1)
        assert now.value("playhead_dead_letters_total") == len(scene.dead_letters()) == 1
        assert now.value("playhead_commits_total", outcome="refused") == 1

    async def test_start_latency_is_from_the_events_time(self, scene: Scene) -> None:
        await scene.open()
        await scene.send(1)
        await scene.clock.advance(120)
        worker = await scene.work(nothing)
        assert seen(worker).value("playhead_run_start_latency_seconds_sum") == pytest.approx(120, abs=2)
        assert seen(worker).value("playhead_run_start_latency_seconds_bucket", le="60.0") == 0
        assert seen(worker).value("playhead_run_start_latency_seconds_bucket", le="600.0") == 1


async def test_skipped_records_have_their_reasons(scene: Scene) -> None:
    await scene.open()
    worker = await scene.work(nothing, on=event_trigger("thing.made", filter=lambda payload: payload["n"] % 2 == 1))
    await scene.send(1, 2, 4)
    await scene.send(7, name="thing.lost")
    for _ in range(2):
        await scene.put(b'{"n": 9}', [(CE_TYPE, b"thing.made"), (CE_ID, b"chosen")])
    now = seen(worker)
    reasons = {
        reason: now.value("playhead_records_skipped_total", reason=reason) for reason in ("name", "seen", "filter")
    }
    assert reasons == {"name": 1, "seen": 1, "filter": 2}
    assert now.value("playhead_records_read_total", group="j") == 6
    assert now.value("playhead_run_start_latency_seconds_count") == 2


class TestCommits:
    async def test_have_their_time_and_size(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        before = seen(worker)
        scene.broker.commit_latency_seconds = 0.25
        await scene.send(1)
        await scene.clock.advance(0.125)
        assert seen(worker).value("playhead_commit_open_seconds") == pytest.approx(0.125, abs=0.01)
        await scene.clock.advance(0.5)
        after = seen(worker)
        assert after.value("playhead_commit_open_seconds") == 0

        def grew(name: str, **labels: str) -> float:
            return after.value(name, **labels) - before.value(name, **labels)

        assert grew("playhead_commits_total", outcome="committed") == 1
        assert grew("playhead_commit_duration_seconds_count") == 1
        assert grew("playhead_commit_duration_seconds_sum") == pytest.approx(0.25, abs=0.01)
        assert grew("playhead_commit_records_sum") == 1

    async def test_unknown_outcome_is_one_and_counts_no_run_before_the_log_has_told(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        taken = seen(worker).value("playhead_takeovers_total")
        scene.broker.faults.next_commit = "unknown_aborted"
        await scene.send(1)
        await scene.clock.advance(30)
        now = seen(worker)
        assert now.value("playhead_commits_total", outcome="unknown") == 1
        assert now.value("playhead_runs_total", **SUCCEEDED) == len(scene.ends()) == 1
        assert now.value("playhead_takeovers_total") == taken + 1


class TestGroup:
    async def test_member_is_ready_with_its_tasks_and_counts_how_its_group_moves(self, scene: Scene) -> None:
        await scene.open(partitions=2)
        worker = await scene.work(nothing)
        alone = seen(worker)
        assert (alone.value("playhead_group_ready", group="j"), alone.value("playhead_tasks")) == (1, 2)
        assert alone.value("playhead_takeovers_total") == 2
        other = await scene.work(nothing)
        await scene.clock.advance(10)
        assert seen(worker).value("playhead_tasks") + seen(other).value("playhead_tasks") == 2
        assert seen(worker).value("playhead_rebalances_total") > alone.value("playhead_rebalances_total")

    async def test_broker_that_is_away_is_counted(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing)
        assert seen(worker).value("playhead_broker_unavailable_total") == 0
        scene.broker.faults.unavailable = True
        await scene.clock.advance(30)
        away = seen(worker)
        assert away.value("playhead_broker_unavailable_total") > 0
        assert away.value("playhead_isolations_total") == 1
        assert away.value("playhead_group_ready") == 0
        scene.broker.faults.unavailable = False


class TestLag:
    async def test_is_what_is_not_finished_as_of_the_last_look(self, scene: Scene) -> None:
        await scene.open()
        worker = await scene.work(nothing, concurrency=1)
        assert "playhead_lag_records" not in seen(worker).names  # nobody has looked
        scene.broker.commit_latency_seconds = 60.0
        await scene.send(1, 2, 3)
        await worker.worker.look()
        assert seen(worker).value("playhead_lag_records", group="j", topic="thing", partition="0") == 3
        await scene.clock.advance(200)
        assert seen(worker).value("playhead_lag_records") == 0
        await worker.worker.look()
        scene.broker.commit_latency_seconds = 0.0
        await scene.send(4)
        assert seen(worker).value("playhead_lag_records") == 0  # never below nothing, though the end is an old one

    async def test_open_transaction_of_another_shows_its_age(self, scene: Scene) -> None:
        await scene.open()
        sender = scene.job(sends_and_fails_at_two)
        worker = scene.launch(sender, scene.job(nothing, id="follows", on="echo.made"))
        await scene.clock.advance(1)
        scene.broker.faults.next_commit = "hang"
        await scene.send(1)
        ages = []
        for _ in range(2):
            await worker.worker.look()
            ages.append(seen(worker).value("playhead_transaction_age_seconds", group="follows"))
            await scene.clock.advance(5)
        assert ages == [0, pytest.approx(5)]
        await scene.clock.advance(60)
        await worker.worker.look()
        assert seen(worker).value("playhead_transaction_age_seconds", group="follows") == 0

    async def test_one_after_the_other_is_no_old_one(self, scene: Scene) -> None:
        await scene.open()
        sender = scene.job(sends_and_fails_at_two)
        worker = scene.launch(sender, scene.job(nothing, id="follows", on="echo.made"))
        await scene.clock.advance(1)
        scene.broker.commit_latency_seconds = 2.0
        for number in (1, 3):
            await scene.send(number)
            await scene.clock.advance(1)
            await worker.worker.look()  # while the commit of this one is open
            assert seen(worker).value("playhead_transaction_age_seconds", group="follows") == 0
            await scene.clock.advance(2)

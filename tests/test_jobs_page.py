"""The snippets of JOBS.md are one module: it is imported, its tests are run, and each of its jobs does what it says."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from playhead.events import _catalog
from playhead.job import MAX_DEDUPE_WINDOW_SECONDS
from playhead.retry import NO_RETRY
from playhead.run import MAX_LOG_LINES, RunView
from playhead.schedule import due_times
from playhead.testing import JobHarness

PAGE = Path(__file__).parent.parent / "runtime" / "playhead" / "JOBS.md"
NAME = "ph_jobs_page"
TESTS = re.findall(r"^async def (test_\w+)", PAGE.read_text(), re.MULTILINE)
ORDER = {"orderId": "1", "total": 50}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The page's snippets, imported: a process has to be able to import them too."""
    folder = tmp_path_factory.mktemp("page")
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (folder / f"{NAME}.py").write_text("\n\n".join(snippets))
    before = dict(_catalog)
    for event, model in before.items():  # other tests may have an `order.placed` of their own
        if not model.__module__.startswith("playhead."):
            del _catalog[event]
    sys.path.insert(0, str(folder))
    yield importlib.import_module(NAME)
    sys.path.remove(str(folder))
    del sys.modules[NAME]
    _catalog.clear()
    _catalog.update(before)


async def worked(page: ModuleType, job_id: str, payload: dict[str, Any], *, seconds: float = 0) -> Sequence[RunView]:
    """The runs of one job on one `order.placed`, after that much time."""
    async with JobHarness(page.client, jobs=[job_id], entities=["label", "pack"]) as jobs:
        await jobs.send("order.placed", payload, settle=not seconds)
        await jobs.advance(seconds)
        return await jobs.runs()


async def output(page: ModuleType, job_id: str, payload: dict[str, Any], *, seconds: float = 0) -> Any:
    (run,) = await worked(page, job_id, payload, seconds=seconds)
    assert run.state == "succeeded", run.error
    return run.output


def test_every_job_of_the_page_is_tested(page: ModuleType) -> None:
    tested = inspect.getsource(sys.modules[__name__]) + PAGE.read_text().partition("## Testing")[2]
    assert [job_id for job_id in page.client.jobs if f'"{job_id}"' not in tested] == []


@pytest.mark.parametrize("name", TESTS)
async def test_tests_of_the_page_pass(page: ModuleType, name: str) -> None:
    await getattr(page, name)()


def test_page_has_tests() -> None:
    assert len(TESTS) == 2


class TestTriggers:
    async def test_by_class_and_by_name(self, page: ModuleType) -> None:
        assert await output(page, "invoice", ORDER) == {"invoice": "I-1"}
        assert await output(page, "stock", ORDER) == "reserved for 1"

    @pytest.mark.parametrize(
        ("job_id", "wanted", "unwanted"),
        [("customs", {"country": "NO"}, {"country": "DE"}), ("thank-you", {"total": 1000}, {"total": 999})],
    )
    async def test_filter_leaves_out_what_the_job_does_not_want(
        self, page: ModuleType, job_id: str, wanted: dict[str, Any], unwanted: dict[str, Any]
    ) -> None:
        assert len(await worked(page, job_id, ORDER | wanted)) == 1
        assert await worked(page, job_id, ORDER | unwanted) == []

    async def test_interval(self, page: ModuleType) -> None:
        async with JobHarness(page.client, jobs=["sweep"]) as jobs:
            await jobs.advance(1800)
            assert len(await jobs.runs("sweep")) == 3


class TestFailures:
    async def test_policy(self, page: ModuleType) -> None:
        async with JobHarness(page.client, jobs=["warehouse"]) as jobs:
            await jobs.send("order.placed", ORDER)
            for seconds, attempt, state in [(4.9, 1, "retrying"), (0.2, 2, "retrying"), (9.7, 2, "retrying")]:
                await jobs.advance(seconds)
                run = await jobs.run_of("warehouse")
                assert (run.attempt, run.state) == (attempt, state)
            await jobs.advance(0.4)
            assert (await jobs.run_of("warehouse")).output == 3

    async def test_no_retry_fails_at_once(self, page: ModuleType) -> None:
        (run,) = await worked(page, "fraud", ORDER | {"total": 100_001})
        assert (run.state, run.attempt) == ("failed", 1)

    async def test_policy_where_none_is_given(self, page: ModuleType) -> None:
        """As the page says: 1, 2 and 4 seconds, four attempts, a fifth more or less."""
        policy = page.client.jobs["invoice"].retry
        assert [policy.delay_seconds(attempt, 0.5) for attempt in (1, 2, 3, 4)] == [1, 2, 4, None]
        assert (policy.jitter, NO_RETRY.max_attempts) == (0.2, 1)

    async def test_non_retriable_error_fails_the_run_now(self, page: ModuleType) -> None:
        (run,) = await worked(page, "payment", ORDER | {"total": -1})
        assert (run.state, run.attempt) == ("failed", 1)

    async def test_timeout_ends_an_attempt(self, page: ModuleType) -> None:
        (run,) = await worked(page, "carrier", ORDER | {"country": "AQ"}, seconds=31)
        assert run.error is not None
        assert (run.state, run.error.type) == ("failed", "TimeoutError")
        assert await worked(page, "carrier", ORDER, seconds=0)


class TestOptions:
    def test_order_and_concurrency(self, page: ModuleType) -> None:
        jobs = page.client.jobs
        assert (jobs["ledger"].order, jobs["ledger"].concurrency) == ("key", 10)
        assert (jobs["search-index"].order, jobs["search-index"].concurrency) == ("none", 100)

    async def test_start_is_a_moment(self, page: ModuleType) -> None:
        """The harness's clock begins at that very moment."""
        assert len(await worked(page, "statistics", ORDER)) == 1

    async def test_plain_function_sends_with_its_run(self, page: ModuleType) -> None:
        async with JobHarness(page.client, jobs=["label"], entities=["label"]) as jobs:
            await jobs.send("order.placed", ORDER)
            assert await jobs.payloads("label.printed") == [{"orderId": "1"}]

    async def test_process_gets_no_io(self, page: ModuleType) -> None:
        assert await output(page, "render", ORDER) == sum(number * number for number in range(50))

    async def test_chosen_id_starts_one_run_within_the_window(self, page: ModuleType) -> None:
        async with JobHarness(page.client, jobs=["voucher"]) as jobs:
            for seconds, runs in [(0, 1), (86_000, 1), (86_000, 1), (86_401, 2)]:
                await jobs.advance(seconds)
                await jobs.send("order.placed", ORDER, id="order-1")
                assert len(await jobs.events("run.succeeded")) == runs


def test_limits_on_the_page_are_those_of_the_code() -> None:
    text, caught_up = " ".join(PAGE.read_text().split()), inspect.signature(due_times).parameters["limit"].default
    assert f"up to {MAX_LOG_LINES:,} of them" in text
    assert f"{MAX_DEDUPE_WINDOW_SECONDS // 86_400} days at most" in text
    assert f"the newest {caught_up:,}" in text


async def test_io_logs_sends_and_knows_its_run(page: ModuleType) -> None:
    async with JobHarness(page.client, jobs=["welcome-pack"], entities=["pack"]) as jobs:
        await jobs.send("order.placed", ORDER)
        run = await jobs.run_of("welcome-pack")
        assert run.output == run.run_id
        assert [event.key for event in await jobs.events("pack.sent")] == ["1"]
        (told,) = await jobs.payloads("run.succeeded")
        assert [(line["event"], line["order"], line["attempt"]) for line in told["logs"]] == [("packing", "1", 1)]
        assert await jobs.events("pack.survey") == []
        await jobs.advance(14 * 86_400)
        assert len(await jobs.events("pack.survey")) == 1

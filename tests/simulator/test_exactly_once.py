"""Whatever goes wrong: each event has one end per job. `PLAYHEAD_SIMULATOR_SEEDS=500` tries more seeds."""

from __future__ import annotations

import os

import pytest
import structlog

from tests.simulator.simulation import simulate

SEEDS = int(os.environ.get("PLAYHEAD_SIMULATOR_SEEDS", "30"))
FIRST = int(os.environ.get("PLAYHEAD_SIMULATOR_FIRST", "0"))


async def check(seed: int, *, calm: bool) -> None:
    with structlog.testing.capture_logs():
        problems, history = await simulate(seed, calm=calm)
    assert not problems, f"seed {seed}:\n" + "\n".join([*problems[:20], "what was done:", *history])


class TestExactlyOnce:
    @pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
    async def test_every_event_ends_once_per_job_whatever_goes_wrong(self, seed: int) -> None:
        await check(seed, calm=False)


class TestDeployments:
    @pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS // 3))
    async def test_no_run_starts_twice_while_workers_come_and_go(self, seed: int) -> None:
        await check(seed, calm=True)

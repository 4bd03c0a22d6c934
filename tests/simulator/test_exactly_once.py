"""Whatever goes wrong: each event has one end per job. `PLAYHEAD_SIMULATOR_SEEDS=500` tries more seeds."""

from __future__ import annotations

import os

import pytest
import structlog

from tests.simulator.simulation import simulate

SEEDS = int(os.environ.get("PLAYHEAD_SIMULATOR_SEEDS", "15"))
FIRST = int(os.environ.get("PLAYHEAD_SIMULATOR_FIRST", "0"))


class TestExactlyOnce:
    @pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
    async def test_every_event_ends_once_per_job(self, seed: int) -> None:
        with structlog.testing.capture_logs():
            problems, history = await simulate(seed)
        assert not problems, f"seed {seed}:\n" + "\n".join([*problems[:20], "faults:", *history])

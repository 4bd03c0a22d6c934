"""Ids and the partitioner: numbers that other programs have to come to as well."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from playhead.ids import EventIds, run_id, task_of
from playhead.topics import murmur2, partition_for


class TestEventIds:
    def test_grow_strictly_even_within_a_millisecond(self) -> None:
        new = EventIds()
        ids = [new() for _ in range(10_000)]
        assert all(first < second for first, second in pairwise(ids))

    def test_are_uuids_of_version_7(self) -> None:
        made = uuid.UUID(EventIds()())
        assert (made.version, made.variant) == (7, uuid.RFC_4122)

    def test_repeat_in_no_thread(self) -> None:
        new = EventIds()
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda _: [new() for _ in range(5_000)], range(8)))
        assert len({event_id for ids in made for event_id in ids}) == 40_000

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    def test_forked_processes_do_not_share_their_random_bits(self) -> None:
        """Servers fork after they have imported this; where both are in one millisecond, the bits alone differ."""
        code = (
            "import os; from playhead.ids import new_event_id; new_event_id(); child = os.fork();"
            "ids = [new_event_id()[20:] for _ in range(9)]; child and os.waitpid(child, 0); print(*ids)"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert len(set(told.stdout.split())) == 18


class TestRunIds:
    def test_are_the_same_everywhere_and_always(self) -> None:
        assert run_id("welcome", "e-1", 3) == run_id("welcome", "e-1", 3)
        assert run_id("welcome", "e-1", 3) == "3f923b8099a4d6052324bdf79863e58d-3"

    def test_differ_by_job_event_and_replay(self) -> None:
        assert len({run_id("a", "e", 0), run_id("b", "e", 0), run_id("a", "f", 0), run_id("a", "e", 0, "again")}) == 4

    def test_begin_with_the_time_of_an_event_whose_id_does(self) -> None:
        event_id = "01997f3e-5b7a-7000-9c1d-6a8f5a0c1b2d"
        assert run_id("welcome", event_id, 3).startswith("01997f3e5b7a")
        assert len({run_id("welcome", event_id[:-1] + digit, 3) for digit in "0123"}) == 4
        for foreign in ("01997f3e-5b7a-4000-9c1d-6a8f5a0c1b2d", "not-hex--and-7-but-as-long-as-a-uuid", event_id[:-1]):
            assert len(run_id("welcome", foreign, 3)) == 34
            assert not run_id("welcome", foreign, 3).startswith("01997f3e5b7a")

    def test_carry_their_task(self) -> None:
        assert task_of(run_id("welcome", "e-1", 12)) == 12


class TestPartitioner:
    @pytest.mark.parametrize(
        ("key", "hashed"),
        [
            (b"21", -973932308),
            (b"foobar", -790332482),
            (b"a-little-bit-long-string", -985981536),
            (b"a-little-bit-longer-string", -1486304829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            (b"abc", 479470107),
        ],
    )
    def test_hashes_as_kafkas_own_clients_do(self, key: bytes, hashed: int) -> None:
        assert murmur2(key) == hashed & 0xFFFF_FFFF

    def test_clears_the_sign_bit(self) -> None:
        assert partition_for(b"21", 7) == (-973932308 & 0x7FFF_FFFF) % 7

"""Group commit: a lone event waits for nothing, and while one commit is in flight what ends gathers for the next."""

from __future__ import annotations

from typing import Any

from playhead import IO, event_trigger
from playhead.broker.contract import Commit
from playhead.group.committer import MAX_COMMIT_BYTES, MAX_ENDINGS_PER_COMMIT
from playhead.serde import from_json
from playhead.topics import partition_for
from tests.engine.scene import Function, Scene


async def nothing(payload: Any, io: IO) -> None: ...


async def noted(scene: Scene, run: Function = nothing, **options: Any) -> list[Commit]:
    """A worker, and every commit that it makes from now on."""
    worker = await scene.work(run, **options)
    commits: list[Commit] = []
    membership = worker.memberships[0]
    commit = membership.commit

    async def note(made: Commit) -> Any:
        commits.append(made)
        return await commit(made)

    membership.commit = note
    return commits


class TestLoneEvent:
    async def test_is_committed_at_once_and_in_one_commit(self, scene: Scene) -> None:
        await scene.open()
        commits = await noted(scene)
        await scene.send(1)  # no time passes
        assert scene.ends() == [(1, "succeeded")]
        await scene.clock.advance(60)
        assert len(commits) == 1

    async def test_quiet_job_commits_nothing(self, scene: Scene) -> None:
        await scene.open()
        commits = await noted(scene)
        await scene.clock.advance(3600)
        assert commits == []


class TestGathering:
    async def test_what_ends_during_a_commit_goes_into_the_next(self, scene: Scene) -> None:
        await scene.open()
        commits = await noted(scene)
        scene.broker.commit_latency_seconds = 1.0
        await scene.send(0)
        for n in range(1, 50):
            await scene.clock.advance(0.01)
            await scene.send(n)
        await scene.clock.advance(5)
        assert [len(commit.records) for commit in commits] == [1, 49]
        assert len(scene.ends()) == 50

    async def test_little_that_ends_right_after_a_commit_shares_the_next(self, scene: Scene) -> None:
        await scene.open()
        scene.broker.breath_seconds = 0.001
        commits = await noted(scene)
        await scene.send(0)
        assert len(commits) == 1  # what comes alone waits for nothing
        await scene.send(1)
        await scene.send(2)
        await scene.clock.advance(0.001)
        assert [len(commit.records) for commit in commits] == [1, 2]

    async def test_flood_is_committed_in_batches_of_the_limit(self, scene: Scene) -> None:
        await scene.open()
        commits = await noted(scene, concurrency=5_000)
        scene.broker.commit_latency_seconds = 0.1
        await scene.send(*range(2_500))
        await scene.clock.advance(30)
        assert len(scene.ends()) == 2_500
        assert max(len(commit.records) for commit in commits) <= MAX_ENDINGS_PER_COMMIT
        assert len(commits) <= 5

    async def test_large_ends_are_committed_in_batches_of_so_many_bytes(self, scene: Scene) -> None:
        async def talks(payload: Any, io: IO) -> str:
            return "x" * 200_000

        await scene.open()
        commits = await noted(scene, talks, concurrency=100)
        scene.broker.commit_latency_seconds = 0.1
        await scene.send(*range(60))
        await scene.clock.advance(10)
        assert len(scene.ends()) == 60
        sizes = [[len(record.value or b"") for record in commit.records] for commit in commits]
        assert max(sum(size) for size in sizes) > MAX_COMMIT_BYTES / 2, "they were gathered"
        assert all(sum(size[:-1]) < MAX_COMMIT_BYTES for size in sizes), "only the last of a commit goes beyond"


class TestFence:
    async def test_commit_has_the_checkpoint_of_every_task_that_it_tells_of(self, scene: Scene) -> None:
        """Also of one whose runs go on: their retry is told, and no offset moves."""

        async def fails_first_on_task_0(payload: Any, io: IO) -> None:
            if partition_for(str(payload["n"]).encode(), 4) == 0 and io.run.attempt == 1:
                raise ConnectionError("not yet")

        await scene.open(partitions=4)
        commits = await noted(scene, fails_first_on_task_0)
        scene.broker.commit_latency_seconds = 0.1
        await scene.send(*range(32))
        await scene.clock.advance(10)
        assert scene.ends() == [(n, "succeeded") for n in range(32)]
        told = [{from_json(record.value or b"")["task"] for record in commit.records} for commit in commits]
        fenced = [{partition.partition for partition in commit.checkpoints} for commit in commits]
        assert any(len(tasks) == 4 for tasks in told), "retries and ends in one commit"
        assert all(tasks <= marks for tasks, marks in zip(told, fenced, strict=True))


class TestSkipping:
    async def test_checkpoint_that_moved_by_skipping_alone_is_committed_within_a_second(self, scene: Scene) -> None:
        await scene.open()
        commits = await noted(scene)
        for n in range(10):
            await scene.send(n, name="thing.seen")
        assert commits == []
        await scene.clock.advance(1)
        assert [len(commit.records) for commit in commits] == [0]
        assert scene.marks()[0].offset == 10

    async def test_what_the_filter_leaves_out_moves_the_checkpoint_too(self, scene: Scene) -> None:
        await scene.open()
        await scene.work(nothing, on=event_trigger("thing.made", filter={"n": 99}))
        await scene.send(*range(10))
        await scene.clock.advance(1)
        assert (scene.ends(), scene.marks()[0].offset) == ([], 10)

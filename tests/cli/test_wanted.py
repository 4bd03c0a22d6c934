from __future__ import annotations

from dataclasses import replace

from playhead import Client, TypedEvent, event_trigger
from playhead.broker.contract import TopicInfo
from playhead.cli.wanted import entities, misfits, wanted_topics
from playhead.topics import TopicSpec


def as_found(specs: list[TopicSpec]) -> dict[str, TopicInfo]:
    return {s.name: TopicInfo(s.name, s.partitions, 1, 1_000_000, s.config) for s in specs}


def test_entities_are_those_of_events_and_triggers_without_playheads_own() -> None:
    client = Client("test")
    for number, name in enumerate(("order.placed", "run.failed")):
        client.define_job(id=f"j{number}", name="", version="", trigger=event_trigger(name), run=lambda p, io: None)
    catalog = {"user.created": TypedEvent, "user.updated": TypedEvent, "run.failed": TypedEvent}
    assert entities(catalog, client.jobs.values()) == ["order", "user"]


def test_wanted_are_playheads_own_and_the_entities() -> None:
    specs = wanted_topics(["user"], prefix="x.", partitions=8, replication=3)
    assert {s.name: (s.partitions, s.replication) for s in specs} == {
        "x.run": (8, 3),
        "x.dead-letter": (8, 3),
        "x.schedule": (8, 3),
        "x.delay": (8, 3),
        "x.playhead.jobs": (1, 3),
        "x.user": (8, 3),
    }


class TestMisfits:
    specs = wanted_topics(["user"])

    def test_what_was_created_fits(self) -> None:
        assert misfits(self.specs, as_found(self.specs)) == {}

    def test_missing_topic(self) -> None:
        found = as_found(self.specs)
        del found["user"]
        assert misfits(self.specs, found) == {"user": ["does not exist"]}

    def test_retention_and_cleanup(self) -> None:
        found = as_found(self.specs)
        found["user"] = replace(found["user"], config={"cleanup.policy": "compact", "retention.ms": "1000"})
        assert misfits(self.specs, found) == {
            "user": ["cleanup.policy is compact, should be delete", "retention.ms is 1000, should be -1"]
        }

    def test_entities_may_have_any_number_of_partitions_unless_one_is_asked_for(self) -> None:
        found = as_found(self.specs)
        found["user"] = replace(found["user"], partitions=12)
        assert misfits(self.specs, found) == {}
        assert misfits(self.specs, found, partitions=4) == {"user": ["has 12 partitions, should have 4"]}

    def test_founding_records_have_one_partition(self) -> None:
        found = as_found(self.specs)
        found["playhead.jobs"] = replace(found["playhead.jobs"], partitions=4)
        assert misfits(self.specs, found) == {"playhead.jobs": ["has 4 partitions, should have 1"]}

    def test_run_and_dead_letter_have_the_same_number(self) -> None:
        found = as_found(self.specs)
        found["run"] = replace(found["run"], partitions=12)
        assert list(misfits(self.specs, found)) == ["dead-letter"]

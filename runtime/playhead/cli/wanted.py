"""The topics that a project needs, and how far the broker's topics fit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from playhead.broker.contract import TopicInfo
from playhead.events import TypedEvent, entity_of
from playhead.job import Job
from playhead.topics import (
    DEAD_LETTER,
    DEFAULT_PARTITIONS,
    RESERVED_ENTITIES,
    RUN,
    TopicSpec,
    entity_topic,
    system_topics,
)

MISSING = "does not exist"


def entities(catalog: Mapping[str, type[TypedEvent]], jobs: Iterable[Job]) -> list[str]:
    """The entities of a catalog's events and of jobs' triggers, without Playhead's own."""
    names = {entity_of(name) for name in catalog} | {job.trigger.entity for job in jobs}
    return sorted(names - RESERVED_ENTITIES)


def wanted_topics(
    names: Iterable[str], *, prefix: str = "", partitions: int = DEFAULT_PARTITIONS, replication: int = -1
) -> list[TopicSpec]:
    """Playhead's own topics, and one for each entity named."""
    specs = system_topics(prefix=prefix, partitions=partitions)
    specs += [entity_topic(name, prefix=prefix, partitions=partitions) for name in names]
    return [TopicSpec(s.name, s.partitions, replication, s.config) for s in specs]


def misfits(
    wanted: Sequence[TopicSpec], found: Mapping[str, TopicInfo], *, prefix: str = "", partitions: int | None = None
) -> dict[str, list[str]]:
    """What does not fit, by topic; empty when all is well.

    Checked: it exists; its cleanup policy and retention; that topics with a fixed number of partitions have it, that
    `run` and `dead-letter` have the same number, and with `partitions` that every other topic has that many. Entity
    topics may differ: a job has as many tasks as its topic has partitions.
    """
    problems: dict[str, list[str]] = {}
    fixed = {spec.name for spec in system_topics(prefix=prefix, partitions=0) if spec.partitions}
    for spec in wanted:
        info = found.get(spec.name)
        if info is None:
            problems[spec.name] = [MISSING]
            continue
        wrong = [
            f"{name} is {info.config[name]}, should be {value}"
            for name, value in spec.config.items()
            if info.config.get(name, value) != value
        ]
        right = spec.partitions if spec.name in fixed else partitions
        if right is not None and info.partitions != right:
            wrong.append(f"has {info.partitions} partitions, should have {right}")
        if wrong:
            problems[spec.name] = wrong
    run, dead = found.get(prefix + RUN), found.get(prefix + DEAD_LETTER)
    if run and dead and run.partitions != dead.partitions:
        problems.setdefault(dead.name, []).append(
            f"has {dead.partitions} partitions, {run.name} has {run.partitions}; they should be equal"
        )
    return problems

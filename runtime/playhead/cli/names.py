"""Which events and jobs a project knows: for a word about a name that nobody knows, and for the shell's completion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from difflib import get_close_matches
from io import StringIO
from typing import TYPE_CHECKING

from playhead.errors import PlayheadError

if TYPE_CHECKING:
    from playhead.cli.project import Project
    from playhead.cli.targets import FoundJob


def doubt(name: str, project: Project) -> str | None:
    """What speaks against an event's name, as a sentence; None where the catalog or a job knows it.

    The catalog has been imported; the jobs are imported here, and only for a name that is not in it.
    """
    from playhead.events import catalog

    events = {known for known in catalog() if not _is_own(known)}
    if name in events:
        return None
    if not project.catalog and not project.consumers:
        return f"Nothing is known of {name!r}: no pyproject.toml here names a catalog or jobs."
    why = ""
    try:
        with redirect_stdout(sys.stderr):  # what a module prints when it is imported is not this command's data
            triggers = {found.job.trigger.name for found in _jobs(project)}
    except PlayheadError as error:
        triggers, why = set(), f" The jobs can't be loaded: {error.message}"
    if name in triggers:
        return None
    near = get_close_matches(name, sorted(events | triggers), n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return f"No event of the catalog is named {name!r}, and no job waits for it.{meant}{why}"


def complete_event(incomplete: str) -> list[str]:
    """The names that can be sent, for the shell."""
    return [name for name in _events(incomplete) if not _is_own(name)]


def complete_shown_event(incomplete: str) -> list[str]:
    """The names that can be shown, Playhead's own too."""
    import playhead.run  # noqa: F401 -- its events are in the catalog then

    return _events(incomplete)


def complete_entity(incomplete: str) -> list[str]:
    """The parts before the first dot."""
    return sorted({name.partition(".")[0] for name in complete_event(incomplete)})


def complete_job(incomplete: str) -> list[tuple[str, str]]:
    """(id, name) of the project's jobs."""
    return [(found.job.id, found.job.name) for found in _found() if found.job.id.startswith(incomplete)]


def complete_scheduled_job(incomplete: str) -> list[tuple[str, str]]:
    """(id, name) of those that run by the clock."""
    return [(f.job.id, f.job.name) for f in _found() if f.job.schedule and f.job.id.startswith(incomplete)]


def _events(incomplete: str) -> list[str]:
    from playhead.events import catalog

    triggers = {found.job.trigger.name for found in _found()}
    return sorted(name for name in {*catalog(), *triggers} if name.startswith(incomplete))


def _found() -> list[FoundJob]:
    """The jobs of the project here, and its catalog imported; as far as that goes."""
    from playhead.cli.project import find_project

    with _quietly():
        project = find_project()
        project.import_catalog()
        return _jobs(project)
    return []


def _jobs(project: Project) -> list[FoundJob]:
    from playhead.cli.targets import find_jobs

    return find_jobs((), project) if project.consumers else []


@contextmanager
def _quietly() -> Iterator[None]:
    """A key that completes a word must not answer with an error, or with what modules print."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            yield
        except (Exception, SystemExit):  # noqa: BLE001 -- whatever a project's modules raise
            return


def _is_own(name: str) -> bool:
    from playhead.topics import RESERVED_ENTITIES

    return name.partition(".")[0] in RESERVED_ENTITIES

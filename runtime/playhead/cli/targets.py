"""From what was typed to jobs: every `Client` in the modules named, and the jobs declared on it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from playhead import Client, Job
from playhead.cli.project import Project
from playhead.cli.sources import files_in, import_file, import_module, import_package
from playhead.errors import InvalidJob, NoJobs


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job and where it is declared."""

    job: Job
    client: Client
    file: Path
    line: int


def find_jobs(targets: Sequence[str], project: Project, *, only: Sequence[str] = ()) -> list[FoundJob]:
    """The jobs of the targets, or of the project where none are named, in the order of their files.

    Args:
        targets: paths of files or folders, `package.module`, or `package.module:client`.
        only: ids; empty takes all.

    Raises:
        NoJobs: nothing was found.
        InvalidJob: a file can't be imported, an id is there twice, or an id of `only` is not there.
    """
    project.make_importable()
    named = list(targets) or list(project.consumers)
    if not named:
        raise NoJobs(
            "no jobs were named, and no pyproject.toml here names any.",
            remedy='Name a file or folder, or set consumers = ["…"] in [tool.playhead] of pyproject.toml.',
        )
    found: dict[str, FoundJob] = {}
    for client, module in _clients(named, project):
        for job in client.jobs.values():
            new = FoundJob(job, client, *_place(job, module))
            known = found.setdefault(job.id, new)
            if known.client is not client:
                raise InvalidJob(
                    f"job id {job.id!r} is defined in two files: {_said(known, project)} and {_said(new, project)}.",
                    remedy="The id names the consumer group: give one of them another.",
                )
    if not found:
        raise NoJobs(
            f"no jobs in {', '.join(named)}.",
            remedy='A job is declared with @client.job(...) on a module-level client = Client("…").',
        )
    unknown = [job_id for job_id in only if job_id not in found]
    if unknown:
        raise InvalidJob(
            f"there is no job {', '.join(map(repr, unknown))} in {', '.join(named)}.",
            remedy=f"There are: {', '.join(sorted(found))}.",
        )
    return [item for job_id, item in found.items() if not only or job_id in only]


def _clients(named: Sequence[str], project: Project) -> list[tuple[Client, ModuleType]]:
    """Each client once, with the module it was made in as far as that can be told: the first that has it."""
    clients: dict[int, tuple[Client, ModuleType]] = {}
    for target in named:
        for value, module in _values(target, project):
            if isinstance(value, Client):
                clients.setdefault(id(value), (value, module))
    return list(clients.values())


def _values(target: str, project: Project) -> list[tuple[object, ModuleType]]:
    modules: list[ModuleType]
    path = _existing_path(target, project)
    if path is not None and path.is_dir():
        modules = [import_file(file, project_root=project.root) for file in files_in(path)]
    elif path is not None:
        modules = [import_file(path, project_root=project.root)]
    elif ":" in target:
        name, _, attribute = target.partition(":")
        module = import_module(name)
        value = getattr(module, attribute, None)
        if not isinstance(value, Client):
            clients = sorted(other for other, found in vars(module).items() if isinstance(found, Client))
            remedy = f"There is: {', '.join(clients)}." if clients else f'Declare one there: {attribute} = Client("…").'
            raise InvalidJob(f"{target!r}: {attribute!r} is no Client in {name}.", remedy=remedy)
        return [(value, module)]
    elif Path(target).is_file():
        raise NoJobs(f"{target!r} is no Python file.", remedy="Name a .py file, a folder, or a module.")
    elif target.endswith(".py") or "/" in target:
        raise NoJobs(f"there is no file or folder {target!r}.", remedy="Check the path.")
    else:
        modules = import_package(target)
    return [(value, module) for module in modules for value in list(vars(module).values())]


def _existing_path(target: str, project: Project) -> Path | None:
    for path in (Path(target), project.root / target):
        if path.is_dir() or (path.is_file() and path.suffix == ".py"):
            return path
    return None


def _place(job: Job, module: ModuleType) -> tuple[Path, int]:
    """File and line of the job's function; of the module where the function has none."""
    code = getattr(inspect.unwrap(job.function), "__code__", None)
    if code is not None:
        return Path(code.co_filename), code.co_firstlineno
    return Path(module.__file__ or "?"), 1


def _said(found: FoundJob, project: Project) -> str:
    return f"{project.relative(found.file)}:{found.line}"

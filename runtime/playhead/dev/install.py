"""Bringing the broker's jars to this machine, once: from Maven, else from the Apache project's archive.

    <home>/libs/*.jar      the broker
    <home>/verified.json   each jar's SHA-256, size and time, written after all were verified; later starts compare
                           sizes and times only
    <home>.lock            one process installs, others wait
    <home>.part            the archive, as far as it has come

A new installation is built beside `home` and moved there whole.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from playhead.dev import archive, maven
from playhead.dev.artifacts import KAFKA_VERSION, pinned_sums, sha256_of, verify
from playhead.dev.lock import FileLock, LockedElsewhere
from playhead.errors import NoBroker

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, bytes done, and bytes in total where known."""

_WAIT_FOR_OTHER_SECONDS = 1800.0
_STAMP = "verified.json"


def silent(_message: str, _done_bytes: int, _total_bytes: int | None) -> None:
    """Progress that nobody watches."""


def default_home(data_dir: Path, env: Mapping[str, str] = os.environ) -> Path:
    """Where the jars are kept: $PLAYHEAD_KAFKA_HOME, else a folder in `data_dir`."""
    named = env.get("PLAYHEAD_KAFKA_HOME")
    return Path(named).expanduser() if named else data_dir / f"kafka-{KAFKA_VERSION}"


def install(home: Path, *, progress: Progress = silent, env: Mapping[str, str] = os.environ) -> Path:
    """The folder of verified jars; fetches them into `home` when they are not there.

    Raises:
        BrokenDownload: a file is not what is pinned, is missing, or should not be there.
        NoBroker: they could not be fetched; the message says what was tried.
    """
    home = home.absolute()
    libs = home / "libs"
    if _is_stamped(home):
        return libs
    try:
        lock = FileLock.take(home.with_name(home.name + ".lock"))
    except LockedElsewhere:
        progress("waiting for another process that installs Kafka", 0, None)
        lock = _take_after_other(home)
    try:
        if _is_stamped(home):
            return libs
        if libs.exists():
            _verify_installed(home)
        else:
            _fetch(home, progress, env)
        return libs
    finally:
        lock.close()


def _take_after_other(home: Path) -> FileLock:
    try:
        return FileLock.take(home.with_name(home.name + ".lock"), wait_seconds=_WAIT_FOR_OTHER_SECONDS)
    except LockedElsewhere as error:
        raise NoBroker(f"another process has been installing Kafka into {home} for too long.") from error


def _fetch(home: Path, progress: Progress, env: Mapping[str, str]) -> None:
    """Build an installation beside `home`, then move it there."""
    home.mkdir(parents=True, exist_ok=True)
    work_dir = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
    try:
        new = work_dir / "libs"
        why_not_maven = _from_maven(new, work_dir, progress, env)
        if why_not_maven is None:
            verify(new, pinned_sums(), remedy="Delete the file from Maven's local repository (~/.m2) and start again.")
            sums = pinned_sums()
        else:
            source = archive.Source.from_env(env)
            try:
                archive.fetch(source, new, part=home.with_name(home.name + ".part"), progress=progress)
            except archive.ArchiveFailed as error:
                raise NoBroker(
                    f"Kafka {KAFKA_VERSION} could not be fetched; Maven: {why_not_maven}; archive: {error}.",
                    remedy="Start once with a network that reaches Maven's repository (with mvn) or Apache's archive, "
                    "or name a copy of the archive in PLAYHEAD_KAFKA_MIRROR and its checksum in PLAYHEAD_KAFKA_SHA512.",
                ) from error
            sums = {path.name: sha256_of(path) for path in new.iterdir()}
        new.rename(home / "libs")
        _write_stamp(home, sums)
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)


def _from_maven(target: Path, work_dir: Path, progress: Progress, env: Mapping[str, str]) -> str | None:
    """Try Maven; None when it brought the jars, else why not."""
    try:
        mvn = maven.find_maven(env)
        progress(f"fetching Kafka {KAFKA_VERSION} with {mvn}", 0, None)
        maven.fetch(mvn, target, work_dir=work_dir, env=env)
    except maven.MavenFailed as error:
        shutil.rmtree(target, ignore_errors=True)
        return str(error)
    return None


def _is_stamped(home: Path) -> bool:
    """Whether all jars are as they were when they were verified, by size and time."""
    stamp = _read_stamp(home)
    if stamp is None:
        return False
    try:
        with os.scandir(home / "libs") as entries:
            found = {entry.name: _size_and_time(entry.stat()) for entry in entries}
    except OSError:
        return False
    return found == {name: facts[1:] for name, facts in stamp.items()}


def _verify_installed(home: Path) -> None:
    """The stamp is gone or no longer fits: look at every byte, and stamp anew."""
    stamp = _read_stamp(home)
    sums = pinned_sums() if stamp is None else {name: str(facts[0]) for name, facts in stamp.items()}
    verify(home / "libs", sums, remedy=f"Delete {home} and start again.")
    _write_stamp(home, sums)


def _read_stamp(home: Path) -> dict[str, list[object]] | None:
    """name -> [sha256, size in bytes, time in ns]; None where there is nothing that can be used."""
    try:
        stamp = json.loads((home / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(stamp, dict) or not all(isinstance(facts, list) and len(facts) == 3 for facts in stamp.values()):
        return None
    return stamp or None


def _write_stamp(home: Path, sums: Mapping[str, str]) -> None:
    libs = home / "libs"
    stamp = {name: [digest, *_size_and_time((libs / name).stat())] for name, digest in sums.items()}
    draft = home / (_STAMP + ".new")
    draft.write_text(json.dumps(stamp, indent=0), encoding="utf-8")
    draft.replace(home / _STAMP)


def _size_and_time(facts: os.stat_result) -> list[object]:
    return [facts.st_size, facts.st_mtime_ns]

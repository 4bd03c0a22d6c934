"""Fetching the broker from the Apache project's own archive, for machines without Maven.

The archive comes from a mirror where one is set; its SHA-512 always from the project's own server, over HTTPS, or from
PLAYHEAD_KAFKA_SHA512, so that a mirror need not be trusted. A download that was cut goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from playhead.dev.artifacts import ARCHIVE_NAME, KAFKA_VERSION
from playhead.errors import BrokenDownload

PROJECT_FOLDER_URL = f"https://archive.apache.org/dist/kafka/{KAFKA_VERSION}"
_SOCKET_SECONDS = 30.0
_CHUNK_BYTES = 256 * 1024
_ARCHIVE_MAX_BYTES = 1024**3
_CHECKSUM_FILE_MAX_BYTES = 4096
_FRUITLESS_TRIES_MAX = 3
_SHA512_HEX_DIGITS = 128
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


class ArchiveFailed(Exception):
    """The archive or its checksum could not be fetched; the message is the reason."""


@dataclass(frozen=True)
class Source:
    """Where the archive and its checksum come from."""

    archive_url: str
    checksum_url: str
    sha512: str | None = None
    """The checksum itself, where someone has named it; then `checksum_url` is not read."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Source:
        """PLAYHEAD_KAFKA_MIRROR is the URL of the folder that holds the archive; else the project's own server."""
        folder = env.get("PLAYHEAD_KAFKA_MIRROR") or PROJECT_FOLDER_URL
        return cls(
            archive_url=f"{folder.rstrip('/')}/{ARCHIVE_NAME}.tgz",
            checksum_url=f"{PROJECT_FOLDER_URL}/{ARCHIVE_NAME}.tgz.sha512",
            sha512=env.get("PLAYHEAD_KAFKA_SHA512"),
        )


def fetch(source: Source, target: Path, *, part: Path, progress: Callable[[str, int, int | None], None]) -> None:
    """Download, check, and unpack the archive's jars into the new folder `target`; `part` goes at the end.

    Raises:
        ArchiveFailed: a server can't be reached or does not have it; what has come is kept in `part`.
        BrokenDownload: the checksum differs, or the archive can't be read; `part` is deleted.
    """
    expected = _expected_sha512(source)
    _download(source.archive_url, part, progress)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha512").hexdigest()
    if found != expected:
        part.unlink()
        raise BrokenDownload(
            f"{source.archive_url} has SHA-512 {found[:16]}…; {expected[:16]}… is published for it.",
            remedy="Start again; if it happens twice, set PLAYHEAD_KAFKA_MIRROR to another mirror.",
        )
    progress(f"unpacking Kafka {KAFKA_VERSION}", 0, None)
    try:
        _unpack_jars(part, target)
    except (tarfile.TarError, EOFError) as error:
        raise BrokenDownload(f"{source.archive_url} can't be unpacked: {error}.", remedy="Start again.") from error
    finally:
        part.unlink()


def parse_sha512(text: str) -> str:
    """The sum in a checksum file, lower-case: `FILE: AAAA BBBB ...` over several lines (gpg), or `sum  FILE`.

    Raises:
        ValueError: it holds no SHA-512.
    """
    words = re.split(r"[:=]", text)[-1].split()
    digits = "".join(word for word in words if re.fullmatch(r"[0-9A-Fa-f]+", word)).lower()
    if len(digits) != _SHA512_HEX_DIGITS:
        raise ValueError(f"no SHA-512 in {text[:80]!r}")
    return digits


def _expected_sha512(source: Source) -> str:
    try:
        if source.sha512 is not None:
            return parse_sha512(source.sha512)
        with urllib.request.urlopen(source.checksum_url, timeout=_SOCKET_SECONDS) as answer:
            return parse_sha512(answer.read(_CHECKSUM_FILE_MAX_BYTES).decode("ascii", "replace"))
    except (OSError, http.client.HTTPException, ValueError) as error:
        where = "PLAYHEAD_KAFKA_SHA512" if source.sha512 is not None else source.checksum_url
        raise ArchiveFailed(f"no checksum from {where} ({error})") from error


def _download(url: str, part: Path, progress: Callable[[str, int, int | None], None]) -> None:
    """Bring `part` to its full length; go on where an earlier try stopped."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            complete = _download_some(url, part, progress)
            why = "the connection ended early"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise ArchiveFailed(f"{url} ({error})") from error
            complete, why = False, str(error)
        if complete:
            return
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless >= _FRUITLESS_TRIES_MAX:
            raise ArchiveFailed(f"{url} ({why})")


def _download_some(url: str, part: Path, progress: Callable[[str, int, int | None], None]) -> bool:
    """One request; whether `part` is complete after it."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_SOCKET_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE or not have:
            raise
        total = _total_bytes(error.headers.get("Content-Range"))
        if total == have:
            return True
        part.unlink()  # longer than the file: it is something else's beginning
        return False
    with answer:
        resumes = answer.status == _PARTIAL_CONTENT
        start = have if resumes else 0
        length = answer.headers.get("Content-Length")
        total_bytes = start + int(length) if length else None
        if total_bytes is not None and total_bytes > _ARCHIVE_MAX_BYTES:
            raise ArchiveFailed(f"{url} is {total_bytes:,} bytes; at most {_ARCHIVE_MAX_BYTES:,} are taken")
        done = start
        with part.open("ab" if resumes else "wb") as file:
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress(f"downloading {url}", done, total_bytes)
                if done > _ARCHIVE_MAX_BYTES:
                    raise ArchiveFailed(f"{url} is longer than {_ARCHIVE_MAX_BYTES:,} bytes")
    return total_bytes is None or done >= total_bytes


def _total_bytes(content_range: str | None) -> int | None:
    found = re.fullmatch(r"bytes .*/(\d+)", content_range or "")
    return int(found[1]) if found else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _unpack_jars(archive: Path, target: Path) -> None:
    target.mkdir()
    wanted = PurePosixPath(ARCHIVE_NAME, "libs")
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            # Only plain files directly in libs/ are written, by their last name: nothing can leave `target`.
            if path.parent == wanted and path.suffix == ".jar" and member.isfile():
                source = tar.extractfile(member)
                if source is not None:
                    with source, (target / path.name).open("wb") as file:
                        shutil.copyfileobj(source, file)
    if not any(target.iterdir()):
        raise tarfile.TarError(f"no jars in {wanted}")

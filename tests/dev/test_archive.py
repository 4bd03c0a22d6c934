"""The Apache project's archive: resumed, checked, and unpacked."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from playhead.dev.archive import PROJECT_FOLDER_URL, ArchiveFailed, Source, fetch, parse_sha512
from playhead.dev.artifacts import ARCHIVE_NAME
from playhead.dev.install import silent
from playhead.errors import BrokenDownload
from tests.dev.mirror import Mirror, serving

JARS = {"kafka.jar": random.Random(1).randbytes(300_000), "other.jar": b"two"}


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def gpg_style(content: bytes) -> str:
    """As the project publishes it: upper-case groups over several lines."""
    digits = hashlib.sha512(content).hexdigest().upper()
    groups = [digits[i : i + 8] for i in range(0, len(digits), 8)]
    return f"{ARCHIVE_NAME}.tgz:\n " + " ".join(groups[:8]) + "\n    " + " ".join(groups[8:]) + "\n"


@pytest.fixture
def archive() -> bytes:
    return archive_of(
        {f"{ARCHIVE_NAME}/libs/{name}": content for name, content in JARS.items()}
        | {
            f"{ARCHIVE_NAME}/LICENSE": b"text",
            f"{ARCHIVE_NAME}/libs/notes.asc": b"text",
            "libs/../../evil.jar": b"text",
        }
    )


@pytest.fixture
def mirror(archive: bytes) -> Iterator[Mirror]:
    with serving() as mirror:
        mirror.files = {"/kafka.tgz": archive, "/kafka.tgz.sha512": gpg_style(archive).encode()}
        yield mirror


def source_at(mirror: Mirror) -> Source:
    return Source(f"{mirror.url}/kafka.tgz", f"{mirror.url}/kafka.tgz.sha512")


def ranges(mirror: Mirror) -> list[str | None]:
    return [asked for path, asked in mirror.requests if path == "/kafka.tgz"]


def test_only_the_jars_are_unpacked(mirror: Mirror, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch(
        source_at(mirror),
        tmp_path / "libs",
        part=tmp_path / "part",
        progress=lambda _message, done, total: seen.append((done, total)),
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "libs").iterdir()} == JARS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["libs"]
    size = len(mirror.files["/kafka.tgz"])
    assert (size, size) in seen


def test_a_connection_that_is_cut_is_resumed_where_it_ended(mirror: Mirror, tmp_path: Path) -> None:
    mirror.cuts = [100_000, 50_000]
    # The first answer is the checksum's, which is read whole.
    mirror.cuts.insert(0, 10_000)
    fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert ranges(mirror) == [None, "bytes=100000-", "bytes=150000-"]
    assert (tmp_path / "libs" / "kafka.jar").read_bytes() == JARS["kafka.jar"]


def test_a_download_that_was_given_up_is_resumed_by_the_next_process(
    mirror: Mirror, archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "part").write_bytes(archive[:123_456])
    fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert ranges(mirror) == ["bytes=123456-"]


def test_a_complete_part_is_not_downloaded_again(mirror: Mirror, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(archive)
    fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert ranges(mirror) == [f"bytes={len(archive)}-"]


def test_a_part_longer_than_the_file_is_started_anew(mirror: Mirror, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(archive + b"more")
    fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert ranges(mirror) == [f"bytes={len(archive) + 4}-", None]


def test_a_server_without_ranges_starts_the_file_anew(mirror: Mirror, archive: bytes, tmp_path: Path) -> None:
    mirror.knows_ranges = False
    (tmp_path / "part").write_bytes(archive[:1000])
    fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert (tmp_path / "libs" / "kafka.jar").exists()


def test_a_connection_that_brings_nothing_is_given_up_and_the_part_kept(
    mirror: Mirror, archive: bytes, tmp_path: Path
) -> None:
    mirror.cuts = [10_000, 5000, 0, 0, 0]
    with pytest.raises(ArchiveFailed, match=r"kafka\.tgz"):
        fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert (tmp_path / "part").read_bytes() == archive[:5000]
    assert not (tmp_path / "libs").exists()


def test_another_checksum_is_a_broken_download_and_the_part_goes(
    mirror: Mirror, archive: bytes, tmp_path: Path
) -> None:
    mirror.files["/kafka.tgz"] = archive[:-1] + b"x"
    with pytest.raises(BrokenDownload, match="SHA-512") as broken:
        fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    assert "PLAYHEAD_KAFKA_MIRROR" in broken.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_an_archive_without_jars_is_a_broken_download(mirror: Mirror, tmp_path: Path) -> None:
    content = archive_of({"elsewhere/libs/kafka.jar": b"text"})
    mirror.files = {"/kafka.tgz": content, "/kafka.tgz.sha512": gpg_style(content).encode()}
    with pytest.raises(BrokenDownload, match="no jars"):
        fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)


def test_a_file_that_is_not_there_is_named(mirror: Mirror, tmp_path: Path) -> None:
    del mirror.files["/kafka.tgz"]
    with pytest.raises(ArchiveFailed, match=r"kafka\.tgz .*404"):
        fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)
    del mirror.files["/kafka.tgz.sha512"]
    with pytest.raises(ArchiveFailed, match=r"no checksum from .*sha512"):
        fetch(source_at(mirror), tmp_path / "libs", part=tmp_path / "part", progress=silent)


class TestChecksumFile:
    """Its formats differ from tool to tool."""

    DIGITS = hashlib.sha512(b"x").hexdigest()

    @pytest.mark.parametrize(
        "text",
        [
            gpg_style(b"x"),
            f"{DIGITS}  kafka.tgz\n",
            DIGITS,
            f"SHA512 (kafka.tgz) = {DIGITS}\n",
            f"{ARCHIVE_NAME}.tgz: {DIGITS.upper()}",
        ],
    )
    def test_is_read(self, text: str) -> None:
        assert parse_sha512(text) == self.DIGITS

    @pytest.mark.parametrize("text", ["", "<html>not found</html>", DIGITS[:-1], DIGITS + "00"])
    def test_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="no SHA-512"):
            parse_sha512(text)


class TestSource:
    """A mirror brings the archive; what it must be is said by the project, or by the user."""

    def test_is_the_project_by_default(self) -> None:
        source = Source.from_env({})
        assert source.archive_url == f"{PROJECT_FOLDER_URL}/{ARCHIVE_NAME}.tgz"
        assert source.checksum_url == source.archive_url + ".sha512"

    def test_checksum_does_not_come_from_the_mirror(self) -> None:
        source = Source.from_env({"PLAYHEAD_KAFKA_MIRROR": "http://mirror.test/kafka/", "PLAYHEAD_KAFKA_SHA512": "ab"})
        assert source.archive_url == f"http://mirror.test/kafka/{ARCHIVE_NAME}.tgz"
        assert source.checksum_url.startswith("https://")
        assert source.sha512 == "ab"

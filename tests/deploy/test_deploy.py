"""What is in deploy/ fits together, and fits the command line that it calls. None of it needs Docker or a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

import playhead_consumers
from playhead.cli.app import app
from playhead.cli.dev import _commands
from playhead.cli.http import HTTP_PORT
from playhead.cli.project import Project
from playhead.cli.targets import find_jobs
from playhead.cli.worker import DEFAULT_GRACE_SECONDS

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"
CONSUMERS = "consumers/playhead_consumers"
KUBERNETES_VERSIONS = ("1.30", "1.37")
"""The first with `preStop.sleep` in general use, and the last that the validator knows."""
PROJECT = Project(CHECKOUT, consumers=("playhead_consumers",))

Manifest = dict[str, Any]


class Process(NamedTuple):
    """A container as its file describes it."""

    where: str
    arguments: list[str]
    stop_seconds: int

    def option(self, name: str) -> str | None:
        return self.arguments[self.arguments.index(name) + 1] if name in self.arguments else None


@cache
def compose() -> Manifest:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@cache
def manifests() -> dict[str, list[Manifest]]:
    """The documents of each file that kustomization.yaml names, by the file's path."""
    folder = DEPLOY / "kubernetes"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.yaml")} - {"kustomization.yaml"}
    assert set(named) == there
    return {name: list(yaml.safe_load_all((folder / name).read_text())) for name in named}


def pods() -> Iterator[tuple[str, Manifest]]:
    """(file, pod's spec) of everything that runs."""
    for file, documents in manifests().items():
        for document in documents:
            if document["kind"] in ("Deployment", "Job"):
                yield file, document["spec"]["template"]["spec"]


def processes() -> list[Process]:
    """Every `playhead` that compose and Kubernetes start."""
    found = [
        Process(f"compose {name}", service["command"], int(service.get("stop_grace_period", "10s").removesuffix("s")))
        for name, service in compose()["services"].items()
        if "kafka" not in name
    ]
    for file, pod in pods():
        seconds = pod.get("terminationGracePeriodSeconds", 30)
        found += [Process(file, container["args"], seconds) for container in pod["containers"]]
    return found


def targets() -> list[str]:
    """The files of consumers/ that have a job."""
    jobs = find_jobs(("playhead_consumers",), PROJECT)
    home = Path(str(playhead_consumers.__file__)).parent
    return sorted({f"{CONSUMERS}/{job.file.relative_to(home)}" for job in jobs})


def data_folder() -> str:
    """Where the image keeps data; its root file system is read-only."""
    folder = re.search(r"PLAYHEAD_DATA_DIR=(\S+)", (DEPLOY / "Containerfile").read_text())
    assert folder
    return folder.group(1)


def accepted(arguments: list[str]) -> bool:
    """Whether the command line knows the command and its options. Nothing is run: --help follows them."""
    return CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0


class TestCommandLines:
    @pytest.mark.parametrize("process", processes(), ids=lambda process: process.where)
    def test_command_line_knows_it(self, process: Process) -> None:
        assert accepted(process.arguments)

    @pytest.mark.parametrize("wrong", [["worker", "--graze", "30"], ["schedule"], ["topics", "make"]])
    def test_what_it_does_not_know_is_found(self, wrong: list[str]) -> None:
        assert not accepted(wrong)

    @pytest.mark.parametrize("under", ["compose", "workers/"])
    def test_each_file_with_a_job_has_a_worker(self, under: str) -> None:
        workers = [p for p in processes() if p.where.startswith(under) and p.arguments[0] == "worker"]
        assert sorted(process.arguments[1] for process in workers) == targets()

    @pytest.mark.parametrize("orchestrator", ["compose", "kubernetes"])
    def test_what_dev_runs_is_run(self, orchestrator: str) -> None:
        """`playhead dev` is the whole product: each of its processes, and HTTP, which it serves itself."""
        of_it = [p for p in processes() if p.where.startswith("compose ") == (orchestrator == "compose")]
        needed = {*_commands((), 1.0, HTTP_PORT, worker=True), "http"}
        assert needed == {"worker", "scheduler", "history", "http"}
        assert {process.arguments[0] for process in of_it} - {"topics"} == needed

    @pytest.mark.parametrize("process", processes(), ids=lambda process: process.where)
    def test_orchestrator_waits_longer_than_the_worker(self, process: Process) -> None:
        if process.arguments[0] == "worker":
            assert process.stop_seconds >= float(process.option("--grace") or DEFAULT_GRACE_SECONDS) + 10


class TestCompose:
    def test_three_brokers_are_one_cluster(self) -> None:
        brokers = {name: service for name, service in compose()["services"].items() if name.startswith("kafka-")}
        voters = {f"{b['environment']['KAFKA_NODE_ID']}@{name}:9093" for name, b in brokers.items()}
        assert len(voters) == 3
        own = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"}
        for name, broker in brokers.items():
            environment = broker["environment"]
            assert set(environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")) == voters
            assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
            shared = {key: value for key, value in environment.items() if key not in own}
            assert shared == compose()["x-broker-settings"]
            assert f"{name}:{environment['KAFKA_LOG_DIRS']}" in broker["volumes"]
            assert name in compose()["services"]["topics"]["depends_on"]
        named = compose()["services"]["http"]["environment"]["PLAYHEAD_BOOTSTRAP_SERVERS"]
        assert set(named.split(",")) == {f"{name}:9092" for name in brokers}

    def test_every_log_is_on_three_brokers_and_acknowledged_by_two(self) -> None:
        settings = compose()["x-broker-settings"]
        assert {value for name, value in settings.items() if name.endswith("REPLICATION_FACTOR")} == {3}
        assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == settings["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == 2
        topics = [process for process in processes() if process.arguments[0] == "topics"]
        assert {process.option("--replication") for process in topics} == {"3"}

    def test_health_is_asked_at_the_port_that_is_served(self) -> None:
        for name, service in compose()["services"].items():
            if "--port" in service.get("command", ()):
                port = service["command"][service["command"].index("--port") + 1]
                assert f"127.0.0.1:{port}/readyz" in service["healthcheck"]["test"][-1], name

    def test_who_keeps_data_may_write_to_it(self) -> None:
        volumes = {name: compose()["services"][name].get("volumes") for name in ("scheduler", "history", "http")}
        folder = data_folder()
        assert volumes == {
            "scheduler": [f"timers:{folder}"],
            "history": [f"history:{folder}"],
            "http": [f"history:{folder}"],  # which it answers from
        }
        assert {"timers", "history"} < set(compose()["volumes"])

    def test_prometheus_finds_every_process(self) -> None:
        services = {
            name: service for name, service in compose()["services"].items() if "--port" in service.get("command", ())
        }
        page = (DEPLOY / "README.md").read_text()
        named = re.search(r"names: \[(.*)\], type: A, port: 8080", page)
        assert named
        assert {*named.group(1).split(", "), "http"} == set(services)


class TestKubernetes:
    @pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
    @pytest.mark.parametrize("file", manifests())
    def test_fits_the_schema(self, file: str, version: str) -> None:
        for document in manifests()[file]:
            kubernetes_validate.validate(document, version, strict=True)

    def test_schema_refuses_a_field_that_is_none(self) -> None:
        (document,) = manifests()["settings.yaml"]
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**document, "dato": {}}, KUBERNETES_VERSIONS[0], strict=True)

    def test_namespace_is_whoever_applies_them(self) -> None:
        assert not [file for file, found in manifests().items() for one in found if "namespace" in one["metadata"]]

    def test_labels_lead_to_the_pods(self) -> None:
        for file, documents in manifests().items():
            names = {document["metadata"]["name"] for document in documents}
            assert len(names) == 1, f"{file}: {names}"
            labels = [document["metadata"]["labels"] for document in documents]
            for document in documents:
                spec = document.get("spec", {})
                selector = spec.get("selector", {})
                if document["kind"] != "Job" and selector:
                    labels.append(selector.get("matchLabels", selector))
                if "template" in spec:
                    labels.append(spec["template"]["metadata"]["labels"])
            assert all(label == labels[0] for label in labels), file

    def test_pods_have_no_rights_and_serve_what_is_probed(self) -> None:
        for file, pod in pods():
            (container,) = pod["containers"]
            security = container["securityContext"]
            assert pod["securityContext"]["runAsNonRoot"], file
            assert security["readOnlyRootFilesystem"], file
            assert not security["allowPrivilegeEscalation"], file
            assert {"memory"} == set(container["resources"]["limits"]), file
            sources = {
                one["name"]: one.get("optional", False) for source in container["envFrom"] for one in source.values()
            }
            history = {"history.yaml": {"playhead-history": False}, "http.yaml": {"playhead-history": True}}
            assert sources == {"playhead": False, "playhead-sasl": True, **history.get(file, {})}, file
            if "--port" in container["args"]:
                (port,) = container["ports"]
                assert str(port["containerPort"]) == container["args"][container["args"].index("--port") + 1], file
                paths = {p: container[p]["httpGet"]["path"] for p in ("readinessProbe", "livenessProbe")}
                assert paths == {"readinessProbe": "/readyz", "livenessProbe": "/healthz"}, file
                assert container["args"][container["args"].index("--host") + 1] == "0.0.0.0", file

    @pytest.mark.parametrize("wanted", ["scheduler.yaml", "http.yaml"])
    def test_who_has_a_cache_may_write_to_it(self, wanted: str) -> None:
        (pod,) = (pod for file, pod in pods() if file == wanted)
        mounted = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted[data_folder()] in {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}

    def test_workers_differ_in_names_alone(self) -> None:
        """What is changed in one has to be changed in all."""
        alike = set()
        for path in (DEPLOY / "kubernetes" / "workers").iterdir():
            text = path.read_text()
            assert f"{CONSUMERS}/{path.stem.replace('-', '_')}.py" in text, path
            alike.add(text.replace(path.stem.replace("-", "_") + ".py", "FILE").replace(path.stem, "NAME"))
        assert len(alike) == 1


class TestImage:
    def test_what_is_copied_is_there_and_let_in(self) -> None:
        copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
        sources = {source for line in copied for source in line.split()}
        let_in = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        assert sources == let_in
        assert all((CHECKOUT / source).exists() for source in sources)

    def test_installer_is_the_one_of_the_makefile(self) -> None:
        pattern = r"UV_VERSION ?:?= ?(\S+)"
        versions = {
            match.group(1)
            for file in (CHECKOUT / "Makefile", DEPLOY / "Containerfile")
            if (match := re.search(pattern, file.read_text()))
        }
        assert len(versions) == 1

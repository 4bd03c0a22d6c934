"""The broker's settings and the files that say them."""

from __future__ import annotations

from playhead.dev.folder import cause_in
from playhead.dev.properties import as_image_environment, as_properties, server_settings


def test_overrides_win_and_add() -> None:
    settings = server_settings(
        log_dir="/d", port=1, controller_port=2, overrides={"node.id": 7, "group.min.session.timeout.ms": 100}
    )
    assert settings["node.id"] == 7
    assert settings["group.min.session.timeout.ms"] == 100
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"


def test_backslashes_are_escaped() -> None:
    assert as_properties({"log.dirs": "C:\\data"}) == "log.dirs=C:\\\\data\n"


def test_the_image_takes_the_same_settings_as_variables() -> None:
    assert as_image_environment({"log.retention.ms": -1}) == {"KAFKA_LOG_RETENTION_MS": "-1"}


def test_the_innermost_cause_is_told() -> None:
    said = (
        "ERROR Exiting\njava.lang.RuntimeException: outer\n\tat x\nCaused by: java.io.IOException: disk full.\n\tat y\n"
    )
    assert cause_in(said) == "java.io.IOException: disk full"


def test_without_an_exception_the_last_error_is_told() -> None:
    assert cause_in("2026 INFO fine\n2026 ERROR Kafka$ bad\n2026 INFO bye\n") == "2026 ERROR Kafka$ bad"
    assert cause_in("just this\n") == "just this"
    assert cause_in("") == ""

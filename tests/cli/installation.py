"""An installation of a test's own on the shared broker."""

from __future__ import annotations

import subprocess
from pathlib import Path
from uuid import uuid4

from tests.cli.shell import Done, playhead_command, start_playhead

ADA = '{"email": "ada@example.com", "userId": "7"}'


class Installation:
    """An installation of the test's own on the shared broker, with a project of one job."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.prefix = f"t{uuid4().hex[:8]}."
        self.folder = folder
        self.env = {
            "PLAYHEAD_BOOTSTRAP_SERVERS": bootstrap,
            "PLAYHEAD_TOPIC_PREFIX": self.prefix,
            "PLAYHEAD_DATA_DIR": str(folder / ".playhead"),
        }

    def run(self, *arguments: str, stdin: str = "") -> Done:
        return playhead_command(*arguments, cwd=self.folder, env=self.env, stdin=stdin)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return start_playhead(
            *arguments, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

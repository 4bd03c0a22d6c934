"""The `playhead` command. One file per command; README.md here shows each. Heavy imports happen inside commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: runs the command line and ends the process with one of the codes of `playhead.cli.exits`."""
    try:
        from playhead.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"The command line needs {error.name}: pip install 'playhead[cli]'")
    run()

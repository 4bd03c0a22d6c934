"""Commands as they are to be typed, so that what is shown works where it is pasted: with the Python that runs this."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

OWN_NAME = "playhead"


def own(program: str | None = None) -> str:
    """This command.

    Args:
        program: how it was started; else as `sys.argv[0]` has it.
    """
    started = Path(sys.argv[0] if program is None else program)
    script = started if started.name == OWN_NAME else Path(sys.executable).parent / OWN_NAME
    return typed(script, ["-P", "-m", "playhead.cli"])


def typed(script: Path, otherwise: Sequence[str]) -> str:
    """A script as it is to be typed from any folder: by its name where PATH finds it, else by its place.

    Args:
        otherwise: what the interpreter is given where the script does not exist.
    """
    script = script.absolute()
    if not script.exists():
        return shlex.join([sys.executable, *otherwise])
    found = shutil.which(script.name)
    return script.name if found is not None and Path(found).absolute() == script else shlex.quote(str(script))

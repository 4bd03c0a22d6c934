"""What type checkers say of job definitions: nothing of right ones, and the line of wrong ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

_HEAD = """
from datetime import timedelta
from typing import Any
from playhead import IO, Client, Occurrence, SyncIO, cron_trigger, event_trigger, interval_trigger
from playhead_schemas.file import FileUploaded
from playhead_schemas.user import UserCreated

client = Client("types")
user: Any = {"id": "j", "name": "J", "version": "1"}
"""

RIGHT = """
@client.job(id="a", name="A", version="1", trigger=event_trigger(UserCreated, filter=lambda user: user.email != ""))
async def typed(payload: UserCreated, io: IO) -> dict[str, bool]:
    return {"ok": True}

@client.job(id="b", name="B", version="1", trigger=event_trigger("user.created", filter={"plan": "pro"}), start="now")
async def named(payload: dict[str, str], io: IO) -> None: ...

@client.job(id="c", name="C", version="1", trigger=event_trigger(UserCreated), timeout=timedelta(seconds=3))
def plain(payload: UserCreated, io: SyncIO) -> int:
    return 1

@client.job(id="d", name="D", version="1", trigger=event_trigger(UserCreated), executor="process")
def heavy(payload: UserCreated, io: None) -> int:
    return 1

@client.job(id="e", name="E", version="1", trigger=cron_trigger("0 9 * * *"), concurrency=1, order="none")
async def daily(payload: Occurrence, io: IO) -> None: ...

client.define_job(id="f", name="F", version="1", trigger=interval_trigger(60), run=daily)
client.define_job(id="g", name="G", version="1", trigger=event_trigger(UserCreated), run=typed, dedupe_window=60)
result: int = plain(UserCreated(email="a@example.com", user_id="7"), SyncIO.__new__(SyncIO))
"""

WRONG = {
    "a misspelt option": """
@client.job(id="a", name="A", version="1", trigger=event_trigger(UserCreated), concurency=3)
async def job(payload: UserCreated, io: IO) -> None: ...
""",
    "an option of another type": """
@client.job(id="a", name="A", version="1", trigger=event_trigger(UserCreated), order="keys")
async def job(payload: UserCreated, io: IO) -> None: ...
""",
    "another event's payload": """
@client.job(id="a", name="A", version="1", trigger=event_trigger(FileUploaded))
async def job(payload: UserCreated, io: IO) -> None: ...
""",
    "an event's payload for a cron job": """
@client.job(id="a", name="A", version="1", trigger=cron_trigger("* * * * *"))
async def job(payload: UserCreated, io: IO) -> None: ...
""",
    "a function without io": """
@client.job(id="a", name="A", version="1", trigger=event_trigger(UserCreated))
async def job(payload: UserCreated) -> None: ...
""",
    "a filter on a field that is not there": """
@client.job(id="a", name="A", version="1", trigger=event_trigger(UserCreated, filter=lambda user: user.mail == ""))
async def job(payload: UserCreated, io: IO) -> None: ...
""",
    "another event's payload in define_job": """
async def job(payload: UserCreated, io: IO) -> None: ...
client.define_job(id="a", name="A", version="1", trigger=event_trigger(FileUploaded), run=job)
""",
    "no trigger": """
@client.job(id="a", name="A", version="1")
async def job(payload: UserCreated, io: IO) -> None: ...
""",
}


@pytest.fixture(scope="module")
def snippets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snippets")
    (folder / "right.py").write_text(_HEAD + RIGHT)
    for number, text in enumerate(WRONG.values()):
        (folder / f"wrong{number}.py").write_text(_HEAD + text)
    return folder


def _run(*command: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def complaints_of_mypy(snippets: Path) -> set[str]:
    """The files that mypy --strict complains about."""
    config = ("--strict", "--config-file", str(CHECKOUT / "pyproject.toml"), "--no-incremental")
    told = _run("mypy", *config, *(path.name for path in sorted(snippets.glob("*.py"))), folder=snippets)
    return {line.partition(":")[0] for line in told.splitlines() if ": error:" in line}


@pytest.fixture(scope="module")
def complaints_of_pyright(snippets: Path) -> set[str]:
    """The files that pyright complains about."""
    told = json.loads(_run("pyright", "--outputjson", "--pythonpath", sys.executable, str(snippets), folder=snippets))
    return {Path(found["file"]).name for found in told["generalDiagnostics"] if found["severity"] == "error"}


@pytest.fixture(params=["mypy", "pyright"])
def complaints(request: pytest.FixtureRequest) -> set[str]:
    found: set[str] = request.getfixturevalue(f"complaints_of_{request.param}")
    return found


def test_right_definitions_pass(complaints: set[str]) -> None:
    assert "right.py" not in complaints


@pytest.mark.parametrize("number", range(len(WRONG)), ids=list(WRONG))
def test_wrong_definition_is_told(complaints: set[str], number: int) -> None:
    assert f"wrong{number}.py" in complaints

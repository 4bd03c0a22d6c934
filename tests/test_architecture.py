"""The import arrows of ARCHITECTURE.md, and the limits of the style page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PACKAGE = CHECKOUT / "runtime" / "playhead"
SOURCES = ("runtime", "schemas", "consumers", "tests")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70


def layers() -> list[set[str]]:
    """The table of ARCHITECTURE.md, from top to bottom."""
    text = (CHECKOUT / "ARCHITECTURE.md").read_text()
    block = re.search(r"```layers\n(.*?)```", text, re.DOTALL)
    assert block, "ARCHITECTURE.md has no ```layers block"
    return [{part.strip() for part in line.split("|")} for line in block.group(1).splitlines()]


def part_of(module: str) -> str:
    """The part that a module belongs to, as the table names it."""
    names = module.split(".")[1:]
    if not names:
        return "playhead"
    return ".".join(names[:2]) if names[:2] in (["broker", "kafka"], ["broker", "memory"]) else names[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(module, line) of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def wrong_arrows(package: Path, table: list[set[str]]) -> list[str]:
    """Every import that the table does not allow, as a sentence."""
    level = {part: number for number, parts in enumerate(table) for part in parts}
    wrong = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] == "scaffold":
            continue  # templates of somebody else's project
        part = part_of(".".join(["playhead", *relative.with_suffix("").parts]).removesuffix(".__init__"))
        for module, line in imports(path):
            if module.split(".")[0] == "aiokafka" and part != "broker.kafka":
                wrong.append(f"{relative}:{line}: only broker.kafka imports aiokafka")
            if module.split(".")[0] != "playhead":
                continue
            target = part_of(module)
            assert part in level, f"{part} is not in ARCHITECTURE.md's table"
            assert target in level, f"{target} is not in ARCHITECTURE.md's table"
            if part not in (target, "playhead") and level[target] <= level[part]:
                wrong.append(f"{relative}:{line}: {part} imports {target}, which is not below it")
    return wrong


def python_files() -> list[Path]:
    return sorted(path for root in SOURCES for path in (CHECKOUT / root).rglob("*.py"))


class TestArrows:
    def test_every_import_goes_down_the_table(self) -> None:
        assert wrong_arrows(PACKAGE, layers()) == []

    @pytest.mark.parametrize(
        ("file", "line"),
        [
            ("events.py", "from playhead.engine import Worker"),
            ("engine/task.py", "import aiokafka"),
            ("broker/memory/log.py", "from playhead.broker.kafka import KafkaBroker"),
            ("cli/tail.py", "from playhead.cli import app\nfrom playhead import Client"),
            ("http/app.py", "from playhead.testing import JobHarness"),
        ],
    )
    def test_planted_arrow_is_found_unless_it_goes_down(self, tmp_path: Path, file: str, line: str) -> None:
        planted = tmp_path / file
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text(line)
        found = wrong_arrows(tmp_path, layers())
        assert bool(found) is not file.startswith("cli/"), found

    def test_nothing_imports_the_tests_or_the_folder_names(self) -> None:
        for path in python_files():
            for module, line in imports(path):
                root = module.split(".")[0]
                assert root not in ("runtime", "schemas", "consumers"), f"{path}:{line}"
                if "tests" not in path.relative_to(CHECKOUT).parts:
                    assert root != "tests", f"{path}:{line}"

    def test_runtime_knows_neither_schemas_nor_consumers(self) -> None:
        for root, forbidden in (
            ("runtime", {"playhead_schemas", "playhead_consumers"}),
            ("schemas", {"playhead_consumers"}),
        ):
            for path in (CHECKOUT / root).rglob("*.py"):
                assert not {module.split(".")[0] for module, _ in imports(path)} & forbidden, path


class TestLimits:
    def test_files_and_functions_stay_short(self) -> None:
        for path in python_files():
            text = path.read_text()
            assert text.count("\n") <= MAX_FILE_LINES, f"{path} has more than {MAX_FILE_LINES} lines"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno
                    assert length <= MAX_FUNCTION_LINES, f"{path}:{node.lineno} {node.name} has {length} lines"

    def test_no_test_sleeps(self) -> None:
        for path in (CHECKOUT / "tests").rglob("*.py"):
            if path.name == "waiting.py" or "bench" in path.parts:
                continue
            lines = path.read_text().splitlines()
            for node in ast.walk(ast.parse("\n".join(lines))):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("time.sleep", "asyncio.sleep"):
                    continue
                stands = "itself is under test" in lines[node.lineno - 1] or ast.unparse(node.args[0]) == "0"
                assert stands, f"{path}:{node.lineno} sleeps: wait for a condition, or move the virtual clock"

    def test_nothing_is_left_for_later(self) -> None:
        for path in python_files():
            if path.name != "test_architecture.py":
                assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text()), path

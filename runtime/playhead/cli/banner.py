"""What `playhead dev` says when everything runs: where things are, and something to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from playhead.cli.program import own
from playhead.events import TypedEvent
from playhead.job import Job

_GUIDES_EXAMPLE = "user.created"
_QUIET_ENTITIES = ("run.", "dead-letter.")


def ready_banner(*, url: str, broker: str, jobs: Sequence[Job], seconds: float) -> Text:
    """The banner, of lines that a terminal may wrap and a user may copy."""
    text = Text.assemble("\n", (f"Playhead is ready after {seconds:.1f} s", "bold green"), "\n\n")
    names = ", ".join(sorted(job.id for job in jobs))
    running = f"{len(jobs)}: {names}" if jobs else "none run here"
    served = f"{url}  the dashboard, and the API under /api"
    for what, value in (("HTTP", served), ("Broker", broker), ("Jobs", running)):
        text.append(f"  {what:<8}", style="dim").append(f"{value}\n")
    example = example_event(jobs)
    if example is not None:
        name, payload = example
        started = sorted(job.id for job in jobs if job.trigger.name == name)
        text.append(f"\nTry it, to start {_listed(started)}:\n")
        text.append(f"  {curl(url, name, payload)}\n  {own()} tail 'run.*' --from earliest\n", style="cyan")
    return text


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def curl(url: str, name: str, payload: Any) -> str:
    """The command that sends an event over HTTP."""
    body = json.dumps({"event": name, "payload": payload}, ensure_ascii=False)
    return f"curl -X POST {url}/trigger -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def example_event(jobs: Sequence[Job]) -> tuple[str, Any] | None:
    """An event that starts the most of these jobs, with a payload that its schema takes."""
    names = [job.trigger.name for job in jobs if not job.trigger.name.startswith(_QUIET_ENTITIES)]
    if not names:
        return None
    name = max(names, key=lambda name: (names.count(name), name == _GUIDES_EXAMPLE))
    model = next((job.trigger.model for job in jobs if job.trigger.name == name and job.trigger.model), None)
    return name, {"message": "hello"} if model is None else example_payload(model)


def example_payload(model: type[TypedEvent]) -> dict[str, Any]:
    """A payload with every required field: the schema's first example for it, else something of its type."""
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    return {
        name: _example(field, name)
        for name, field in schema.get("properties", {}).items()
        if name in required or "examples" in field
    }


def _example(field: dict[str, Any], name: str) -> Any:
    for keyword in ("examples", "enum"):
        if field.get(keyword):
            return field[keyword][0]
    if "const" in field:
        return field["const"]
    kind = field.get("type")
    if kind == "array":
        return [_example(field.get("items", {}), name)] if field.get("minItems") else []
    return {"integer": 1, "number": 1, "boolean": True, "object": {}}.get(str(kind), name)

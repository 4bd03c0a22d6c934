"""`playhead events`: what was sent, and what caused what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli import asking
from playhead.cli.asking import Cursor, Database, Limit, Since, Until, cell, time_cell
from playhead.cli.output import AsJson, print_data, print_json
from playhead.errors import NotInHistory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text
    from rich.tree import Tree

    from playhead.history.reading import Snapshot

app = typer.Typer(name="events", help="Show what was sent, from the history.", no_args_is_help=True)

EventId = Annotated[str, typer.Argument(metavar="ID", help="The event's id.")]


@app.command("list")
def list_(
    name: Annotated[str, typer.Option(help="Only of this name, or of this entity: user.created, or user.")] = "",
    key: Annotated[str, typer.Option(help="Only with this key.")] = "",
    since: Since = "",
    until: Until = "",
    payload: Annotated[
        list[str] | None, typer.Option(help="Only where a field is that: address.city=Rome. May be given again.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Show events, newest first."""
    since_ms, until_ms, fields = asking.moment_ms(since), asking.moment_ms(until), asking.payload_filter(payload or ())

    def events(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        page = now.events(
            name=name,
            key=key,
            since_ms=since_ms,
            until_ms=until_ms,
            payload=fields,
            cursor=cursor or None,
            limit=limit,
        )
        return {"items": [wire.event_item(event) for event in page.items], "next": page.next}

    asking.print_page(asking.ask(events, database), ["time", "name", "key", "id"], _row, as_json=json)


def _row(event: Mapping[str, Any]) -> list[Text]:
    key = None if event["key"] == event["id"] else event["key"]
    return [time_cell(event["time"]), cell(event["name"], "cyan"), cell(key), cell(event["id"])]


@app.command()
def show(event_id: EventId, database: Database = None, json: AsJson = False) -> None:
    """Show one event, with its payload, headers and the runs that it started."""

    def shown(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        event = now.event(event_id)
        if event is None:
            raise NotInHistory("event", event_id)
        return wire.event_shown(now, event)

    event = asking.ask(shown, database)
    if json:
        print_json(event)
        return
    place = f"{event['topic']}[{event['partition']}] @ {event['offset']}"
    asking.print_facts(
        {
            "id": event["id"],
            "name": cell(event["name"], "cyan"),
            "time": event["time"],
            "key": event["key"],
            "source": event["source"],
            "caused by": event["causationId"],
            "sent by run": event["sentBy"],
            "place": place,
            "dead letters": ", ".join(event["deadLetters"]),
            **{f"header {one['name']}": one["value"] for one in event["headers"]},
        }
    )
    asking.print_value("PAYLOAD", event, "payload")
    if event["runs"]:
        from playhead.cli.runs import print_runs

        asking.print_block("RUNS", "")
        print_runs(event["runs"])


@app.command()
def chain(event_id: EventId, database: Database = None, json: AsJson = False) -> None:
    """Show what caused an event and all that it caused, as a tree."""

    def shown(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire
        from playhead.history.chain import chain_of

        if now.event(event_id) is None:
            raise NotInHistory("event", event_id)
        return wire.chain_shown(chain_of(now, event_id))

    found = asking.ask(shown, database)
    if json:
        print_json(found)
        return
    print_data(_tree(found["root"], event_id))
    if found["isCut"]:
        from playhead.cli.output import say

        say("There is more below than is shown.")


def _tree(node: Mapping[str, Any], wanted: str) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    mark = "bold" if node["id"] == wanted else ""
    label = Text.assemble(cell(node["name"] or "(not in history)", "cyan" if node["kind"] == "event" else "bold"), "  ")
    if node["kind"] == "run":
        label.append_text(asking.state_cell(node["state"])).append("  ")
    tree = Tree(label.append_text(cell(node["id"], mark or "dim")))
    for child in node["children"]:
        tree.add(_tree(child, wanted))
    return tree

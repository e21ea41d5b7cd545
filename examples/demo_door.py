"""The demo's first part: seven events for a door, and what a worker did about them."""

from rich.table import Table

from examples.demo_scene import DemoError, Scene
from examples.door import SEVEN, Locked, door
from fsm_core import ActionStatus, HistoryEntry

ACTIONS = 8
"""One for each event, as all of them are heard on IRC, and one for the door's beginning."""


def drive_door(scene: Scene) -> None:
    """Drive the door through its seven events. Raises DemoError, if it does not end as it should."""
    console, store, key = scene.console, scene.store, f"front{scene.tag}"
    console.print(f"\nA door. store.advance(door, {key!r}, event):", style="bold")
    store.start(door, key)
    for event in SEVEN:
        console.print(f"  {event!r:18} -> {store.advance(door, key, event).state!r}")
    scene.watch.until(lambda: len(done(store.history(door, key))), ACTIONS, "actions of the door")
    state, history = store.get(door, key).state, store.history(door, key)
    console.print("\nWhat the worker process wrote to IRC:", style="bold")
    for line in (scene.directory / "irc.txt").read_text().splitlines():
        console.print(f"  {line}", soft_wrap=True)
    console.print(f"\nfsm history door/{key}", style="bold")
    console.print(as_table(history))
    if state != Locked(code=4567, attempts=2) or len(history) != 1 + len(SEVEN):
        raise DemoError(f"the door is {state!r} after {len(history) - 1} events")


def done(history: list[HistoryEntry]) -> list[str]:
    """The door's completed actions."""
    return [a.name for entry in history for a in entry.actions if a.status is ActionStatus.COMPLETED]


def as_table(history: list[HistoryEntry]) -> Table:
    """The log of a machine: its events, the actions they caused, and how often each was attempted."""
    table = Table("seq", "event", "action", "status", "attempts", box=None, padding=(0, 1))
    for entry in history:
        event = entry.name if entry.seq else f"(starts as {entry.name})"
        for action in entry.actions:
            what = f"{action.name} {action.payload.get('message', '')}"
            table.add_row(str(entry.seq), event, what, str(action.status), str(action.attempt))
    return table

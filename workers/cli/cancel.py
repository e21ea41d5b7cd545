"""`fsm cancel`: end a machine or one action from outside."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.cli import output
from workers.cli.address import action_id, machine_address
from workers.cli.session import opened


def cancel(
    target: Annotated[str, typer.Argument(metavar="ACTION_ID|NAME/KEY", help="What to end.")],
    *,
    as_json: output.AsJson = False,
) -> None:
    """Cancel an action or a machine. The open actions of a machine go with it; a later result is recorded, not applied."""
    if "/" in target:
        _machine(target, as_json=as_json)
        return
    wanted = action_id(target)
    with opened() as store:
        store.cancel_action(wanted)
    if as_json:
        output.document({"action": str(wanted), "status": "cancelled"})
    else:
        output.line(f"action {wanted} is cancelled")


def _machine(target: str, *, as_json: bool) -> None:
    name, key = machine_address(target)
    with opened() as store:
        count = store.cancel(name, key)
    if as_json:
        output.document({"machine": name, "key": key, "status": "cancelled", "cancelled_actions": count})
    else:
        output.line(f"machine {name}/{key} is cancelled, and {count} of its actions with it")

"""`fsm retry`: put failed actions back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fsm_core.errors import NotRetried, WrongStatus
from fsm_core.records import ActionRecord
from fsm_core.types import ActionId, ActionStatus, Spawn
from workers.cli import output
from workers.cli.actions import ActionName, KeyName, QueueName
from workers.cli.address import BadArgument, action_id
from workers.cli.machines import Limit, MachineName
from workers.cli.session import opened

if TYPE_CHECKING:
    from fsm_core.postgres import PostgresStore


def retry(
    action_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ACTION_ID", help="Those to put back.")
    ] = None,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="All failed ones that the filters leave.")] = False,
    machine: MachineName = None,
    key: KeyName = None,
    action: ActionName = None,
    queue: QueueName = None,
    limit: Limit = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be put back.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Put failed actions back. Some by id, or with --failed all that the filters leave; their attempts are counted anew."""
    filters = {"machine": machine, "key": key, "action": action, "queue": queue}
    named = [action_id(text) for text in action_ids or ()]
    if named and (failed or any(filters.values())):
        raise BadArgument("give action ids or a filter, not both")
    if not named and not failed:
        raise BadArgument(
            "which actions? Give ids, or --failed with or without --machine, --key, --action, --queue"
        )
    with opened() as store:
        if named:
            found = every = [_failed(store, wanted) for wanted in named]
        else:
            every = store.actions(status=ActionStatus.FAILED.value, **filters, limit=limit)
            found = [record for record in every if record.name != Spawn.__name__]
        wanted = [record.id for record in found]
        done = wanted if dry_run or not wanted else store.retry(wanted)
    more = not named and len(every) == limit
    if as_json:
        output.document({"dry_run": dry_run, "actions": [str(one) for one in done], "more": more})
        return
    _tell(found, done, dry_run=dry_run)
    if more:
        output.line(f"there may be more: --limit is {limit}")


def _failed(store: PostgresStore, wanted: ActionId) -> ActionRecord:
    """The action, which has failed. Raises ActionNotFound, WrongStatus, NotRetried: one bad id, and none is put back."""
    record = store.action(wanted)
    if record.status is not ActionStatus.FAILED:
        raise WrongStatus(str(wanted), record.status, (ActionStatus.FAILED,))
    if record.name == Spawn.__name__:
        raise NotRetried(str(wanted))
    return record


def _tell(found: list[ActionRecord], done: list[ActionId], *, dry_run: bool) -> None:
    if not found:
        output.line("no failed actions")
        return
    if dry_run:
        output.actions(found)
    else:
        for one in done:
            output.line(str(one))
    output.line(f"{'would put back' if dry_run else 'put back'} {len(done)} action{'s' * (len(done) != 1)}")

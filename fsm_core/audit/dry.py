"""A dry run of one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsm_core.births import context
from fsm_core.decide import advance
from fsm_core.draft import Draft
from fsm_core.inputs import check
from fsm_core.payload import DEFAULT_LIMITS, Limits
from fsm_core.types import Decision

if TYPE_CHECKING:
    from fsm_core.registry import AnyMachine
    from fsm_core.unit import Seen


def preview(
    machine: AnyMachine, seen: Seen, event: object, limits: Limits = DEFAULT_LIMITS
) -> Decision[Any, Any]:
    """What `event` would do to the machine whose row is `seen`: the decision, which nobody writes.

    One that would be held (`unhandled="defer"`) does nothing now: the state as it is, and no actions. So does an ignored one.
    Raises what a store's `advance` raises of a decision: UnknownType (also for events that only the engine makes), InvalidPayload,
    Rejected, UnhandledEvent, MachineEnded, InboxFull, TransitionError, and what the transition raises.
    """
    check(machine, event, None)
    draft = Draft(machine, seen, limits)
    before = draft.state
    draft.apply(event, "call")
    if draft.unit.held:
        return Decision(before, [])
    return advance(machine, before, event, context(seen, seen.seq + 1))

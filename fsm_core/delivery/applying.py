"""A result as a unit of the machine that it concerns: its events through the transitions, and the end of its action. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_core.codec import decode_named, encode
from fsm_core.delivery.outcome import Completed, GaveUp, describe, error_json, from_json, to_json
from fsm_core.draft import REFUSALS, Draft
from fsm_core.errors import UnknownMachine
from fsm_core.types import ActionId, ActionStatus, Failed
from fsm_core.unit import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.births import Address
    from fsm_core.delivery.outcome import Result, Target
    from fsm_core.delivery.ports import Claimed
    from fsm_core.registry import AnyMachine, Registry
    from fsm_core.unit import Held, Seen

NO_ADDRESSES: frozenset[Address] = frozenset()


def drafted(
    registry: Registry,
    seen: Seen,
    results: Sequence[Result],
    broken: dict[ActionId, BaseException],
    taken: frozenset[Address] = NO_ADDRESSES,
    *,
    refused: BaseException | None = None,
) -> Draft:
    """The unit of one machine from its results; what raises anything but a refusal goes to `broken`, and the rest anew.

    refused: what the database had against their events: then the actions end without them.
    Raises UnknownMachine: nobody here reads the machine's version.
    """
    machine = registry.reader(seen.machine, seen.version)
    while True:
        draft = Draft(machine, seen, taken=taken)
        for result in results:
            if result.claimed.id in broken:
                continue
            try:
                _apply(registry, draft, result, refused)
            except Exception as bug:  # noqa: BLE001 - the user's transition; only its own action may fail by it
                broken[result.claimed.id] = bug
                break
        else:
            return draft


def offered(draft: Draft, held: Sequence[Held]) -> None:
    """Offer what is held, if the state has changed."""
    if draft.changed:
        draft.offer(held)


def target_of(claimed: Claimed) -> Target | None:
    """Whom a known outcome is for; None: the action's own machine. Raises InvalidPayload."""
    return None if claimed.outcome is None else from_json(claimed.outcome).target


def want(claimed: Claimed) -> ActionStatus:
    """The status in which a claimed action waits for its end."""
    return ActionStatus.RUNNING if claimed.outcome is None else ActionStatus.PUBLISHED


def failed_event(registry: Registry, claimed: Claimed, outcome: GaveUp) -> Failed[object] | None:
    """What the machine is told of a failure, if it declares that event and its class is known here."""
    try:
        machine: AnyMachine = registry.reader(claimed.machine, claimed.version)
    except UnknownMachine:
        return None
    action = decode_named(machine, "action", claimed.action, claimed.payload, claimed.version)
    event = Failed(action, outcome.error, claimed.used if outcome.started else claimed.used - 1)
    return event if machine.has_edge(event) else None


def kept(registry: Registry, result: Result) -> str | None:
    """A result as its action keeps it until it is applied. Raises what encoding raises."""
    claimed, outcome = result.claimed, result.outcome
    if claimed.outcome is not None or not isinstance(outcome, Completed | GaveUp):
        return claimed.outcome
    failed = failed_event(registry, claimed, outcome) if isinstance(outcome, GaveUp) else None
    return to_json(registry.reader(claimed.machine, claimed.version), outcome, failed)


def _apply(registry: Registry, draft: Draft, result: Result, refused: BaseException | None) -> None:
    claimed, outcome = result.claimed, result.outcome
    to, error, note, events, step = ActionStatus.COMPLETED, None, None, list[object](), 0
    source = "result"
    if claimed.outcome is not None:
        known = from_json(claimed.outcome)
        to, error, source = known.to, known.error, known.source
        if known.told_to_the_deaf(draft.machine):
            note = f"ignored: {draft.machine.name} declares no {known.events[0]['name']}"
        else:
            events = known.read(draft.machine, claimed.version)
    elif isinstance(outcome, Completed):
        events, note = [_upcast(registry, draft, claimed, event) for event in outcome.events], outcome.note
    elif isinstance(outcome, GaveUp):
        failed = failed_event(registry, claimed, outcome)
        to, error, step = ActionStatus.FAILED, outcome.error, 0 if outcome.started else -1
        events = [] if failed is None else [_upcast(registry, draft, claimed, failed)]
    for event in events:
        if refused is not None:
            note = f"ignored: {describe(refused)}"
            break
        try:
            draft.apply(event, source, cause=str(claimed.id))
            draft.follow()
        except REFUSALS as refusal:
            note = f"ignored: {describe(refusal)}"
    ending = Ending(
        claimed.id, want(claimed), claimed.token, to, error=None if error is None else error_json(error), note=note,
        attempt=step,
    )  # fmt: skip
    draft.finish(ending)


def _upcast(registry: Registry, draft: Draft, claimed: Claimed, event: object) -> object:
    """The event of an effect of the action's version, as the machine's present version knows it."""
    effects_of = registry.reader(claimed.machine, claimed.version)
    if effects_of.version >= draft.machine.version:
        return event
    name = effects_of.event_name(event)
    return decode_named(draft.machine, "event", name, encode(event, f"event {name}"), effects_of.version)

"""Actions as rows of the outbox: the machine's own, and the built-in ones, whose outcome is known when they are written.

A known outcome is only applied: a timer's to its own machine, a message's to the machine that its `target` names.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsm_core.codec import encode
from fsm_core.errors import InvalidPayload, TransitionError, UnknownType
from fsm_core.types import (
    ENGINE_EVENTS,
    TIMERS,
    ActionId,
    ActionStatus,
    After,
    At,
    Cancel,
    CancelChildren,
    ChildEnded,
    Internal,
    Route,
    Send,
    Spawn,
    Timeout,
    key_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.machine import Machine
    from fsm_core.payload import Limits

MAX_ACTIONS = 1000
"""How many actions one event may emit; more is a runaway, refused before the database."""

MAX_DELAY = timedelta(days=366 * 100)
MAX_TIMER = 200

STATE_TIMER = "state:"
UNNAMED = "#"
"""What begins the names of timers that nobody named: one of a state, and one by its own id."""

NOW = timedelta(0)


class Claim(NamedTuple):
    """Who runs an action: the token of its attempt, and the worker's id."""

    token: UUID
    worker: UUID


class NewAction(NamedTuple):
    """A row of the outbox. timer: its name, where it is one. outcome: what is known of it already, as JSON.

    claim: whose it is from the start: the worker that writes it goes on with it.

    limit_key: "" where there is a limit and no key, so that a limit without keys is one of a single key.
    """

    seq: int
    idx: int
    name: str
    version: int
    payload: str
    tracked: bool
    status: str
    queue: str
    priority: int
    lane: str | None
    delay: timedelta
    timer: str | None = None
    outcome: str | None = None
    limit_name: str | None = None
    limit_key: str | None = None
    claim: Claim | None = None


class Written(NamedTuple):
    """What one event writes to the outbox: new rows, and the names of timers that end with it."""

    rows: list[NewAction]
    cancelled: list[str]


class Origin(NamedTuple):
    """What a row of the engine's own needs of its machine: the row's id, the version that writes it, the queue."""

    id: ActionId
    version: int
    queue: str


class Moment(NamedTuple):
    """The event that the rows belong to: its machine's id, its seq and its time; what the machine was started with.

    partition_key, priority: for actions whose route says nothing else.
    """

    machine_id: UUID
    seq: int
    at: datetime
    partition_key: str | None = None
    priority: int | None = None


def written(
    machine: Machine[Any, Any, Any], moment: Moment, actions: Sequence[object], limits: Limits
) -> Written:
    """The rows of one event's actions, in order; a timer that is set again ends the one of its name.

    Raises InvalidPayload, TransitionError (too many), UnknownType (a timer's event), and what `route` raises.
    """
    if len(actions) > MAX_ACTIONS:
        raise TransitionError(f"event {moment.seq} emits {len(actions)} actions, the limit is {MAX_ACTIONS}")
    rows: dict[object, NewAction] = {}
    cancelled: list[str] = []
    for idx, action in enumerate(actions):
        made = ActionId(moment.machine_id, moment.seq, idx)
        if isinstance(action, Cancel):
            cancelled.append(_timer_name(action.name))
            rows.pop(action.name, None)
        elif isinstance(action, TIMERS):
            row = _timer(machine, made, moment.at, action, limits)
            cancelled += [] if action.name is None else [action.name]
            rows[row.timer] = row
        elif isinstance(action, Send):
            rows[idx] = _send(machine, made, action, limits)
        elif isinstance(action, CancelChildren):
            rows[idx] = cancel_children(_from(machine, made))
        elif not isinstance(action, Spawn):  # a child is no row of its parent's: births.py
            rows[idx] = _own(machine, moment, made, action, limits)
    return Written(list(rows.values()), cancelled)


def state_timer(machine: Machine[Any, Any, Any], made: ActionId, state: object) -> NewAction | None:
    """The row of the timeout that begins when `state` is entered, if it declares one. Raises what its `after` raises."""
    span = machine.state_timeout(state)
    if span is None:
        return None
    name = machine.state_name(state)
    outcome = known([("Timeout", encode(Timeout(name), "event Timeout"))], "timer")
    payload, timer = text({"state": name}), f"{STATE_TIMER}{name}"
    return _built_in(_from(machine, made), Timeout.__name__, payload, outcome, delay=span, timer=timer)


def told(origin: Origin, parent: UUID, event: tuple[str, str]) -> NewAction:
    """The row by which a child tells its parent of its end: an event by name and payload."""
    shown = text({"event": event[0], "payload": msgspec.Raw(event[1].encode())})
    outcome = known([event], "machine", {"id": str(parent)})
    return _built_in(origin, ChildEnded.__name__, shown, outcome)


def cancel_children(origin: Origin) -> NewAction:
    """The row by which the living children of a machine are cancelled. Any worker can: it takes no code of theirs."""
    return _built_in(origin, CancelChildren.__name__, "{}", known([], "machine", {"children": True}))


def known(
    events: Sequence[tuple[str, str]],
    source: str,
    target: dict[str, object] | None = None,
    version: int | None = None,
) -> str:
    """The JSON of an outcome that is known before anything ran: these events, by name and payload.

    target: whom they are for; None: the action's own machine. version: of that machine, in whose shape they are; None: not known.
    """
    entries = [{"name": name, "payload": msgspec.Raw(payload.encode())} for name, payload in events]
    tree: dict[str, object] = {"to": ActionStatus.COMPLETED.value, "events": entries, "source": source}
    tree |= {} if target is None else {"target": target}
    return text(tree if version is None else {**tree, "version": version})


def text(tree: dict[str, object]) -> str:
    """`tree` as JSON."""
    return msgspec.json.encode(tree).decode()


def _own(
    machine: Machine[Any, Any, Any], moment: Moment, made: ActionId, action: object, limits: Limits
) -> NewAction:
    name, route = machine.action_name(action), machine.routed(action)
    partition, lane, priority = route.partition_key or moment.partition_key, None, route.priority
    if moment.priority is not None and priority == Route().priority:
        priority = moment.priority
    if partition is not None:
        lane = f"key:{partition}"
    elif route.ordered or machine.ordered:
        lane = f"machine:{made.machine_id}"
    status = ActionStatus.PENDING if lane is None and route.limit is None else ActionStatus.BLOCKED
    payload = encode(action, f"action {name}", limits)
    return NewAction(
        made.seq, made.idx, name, machine.version, payload, machine.tracked(action), status, route.queue or machine.queue,
        priority, lane, route.delay, limit_name=route.limit, limit_key=None if route.limit is None else route.limit_key or "",
    )  # fmt: skip


def _timer(
    machine: Machine[Any, Any, Any],
    made: ActionId,
    at: datetime,
    action: After[Any] | At[Any],
    limits: Limits,
) -> NewAction:
    if isinstance(action.event, ENGINE_EVENTS):
        raise UnknownType(
            machine.name, "event that a timer may bring", type(action.event).__name__, tuple(machine.events)
        )
    event = machine.event_name(action.event)
    payload = encode(action.event, f"event {event}", limits)
    shown = text({"event": event, "payload": msgspec.Raw(payload.encode()), "name": action.name})
    name = f"{UNNAMED}{made.seq}.{made.idx}" if action.name is None else _timer_name(action.name)
    outcome = known([(event, payload)], "timer")
    delay = _delay(action, at)
    return _built_in(_from(machine, made), type(action).__name__, shown, outcome, delay=delay, timer=name)


def _send(machine: Machine[Any, Any, Any], made: ActionId, action: Send, limits: Limits) -> NewAction:
    target, key = action.machine, key_text(action.key)
    if isinstance(action.event, (*ENGINE_EVENTS, Internal)):
        raise UnknownType(
            machine.name, "event that may be sent", type(action.event).__name__, tuple(machine.events)
        )
    event = type(action.event).__name__ if isinstance(target, str) else target.event_name(action.event)
    payload = encode(action.event, f"event {event}", limits)
    address = {"machine": target if isinstance(target, str) else target.name, "key": key}
    shown = text({**address, "event": event, "payload": msgspec.Raw(payload.encode())})
    written_by = None if isinstance(target, str) else target.version
    outcome = known([(event, payload)], "machine", {**address}, written_by)
    lane = f"machine:{made.machine_id}" if machine.ordered else None
    # Whoever serves the target's queue knows the target; of a name alone, nobody here knows the queue.
    origin = _from(machine if isinstance(target, str) else target, made)._replace(version=machine.version)
    return _built_in(origin, Send.__name__, shown, outcome, lane=lane)


def _delay(action: After[Any] | At[Any], at: datetime) -> timedelta:
    if isinstance(action, After):
        delay = action.delay if isinstance(action.delay, timedelta) else timedelta(seconds=action.delay)
    elif action.time.tzinfo is None:
        raise InvalidPayload("At takes an aware datetime")
    else:
        delay = action.time - at
    if delay > MAX_DELAY:
        raise InvalidPayload(f"a timer of {delay} is longer than {MAX_DELAY.days} days")
    return max(delay, timedelta(0))


def _timer_name(name: str) -> str:
    if not 0 < len(name) <= MAX_TIMER or not name.isprintable() or name.startswith((STATE_TIMER, UNNAMED)):
        raise InvalidPayload(
            f"{name!r:.80} is no timer's name: 1 to {MAX_TIMER} printable characters, not beginning with "
            f"{STATE_TIMER!r} or {UNNAMED!r}"
        )
    return name


def _from(machine: Machine[Any, Any, Any], made: ActionId) -> Origin:
    return Origin(made, machine.version, machine.queue)


def _built_in(
    origin: Origin,
    name: str,
    payload: str,
    outcome: str,
    *,
    delay: timedelta = NOW,
    timer: str | None = None,
    lane: str | None = None,
) -> NewAction:
    return NewAction(
        seq=origin.id.seq, idx=origin.id.idx, name=name, version=origin.version, payload=payload, tracked=True,
        status=ActionStatus.PENDING if lane is None else ActionStatus.BLOCKED, queue=origin.queue,
        priority=Route().priority, lane=lane, delay=delay, timer=timer, outcome=outcome,
    )  # fmt: skip

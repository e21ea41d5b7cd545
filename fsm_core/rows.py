"""Actions as rows of the outbox: the machine's own, and the built-in timers, whose outcome is known when they are set."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsm_core.codec import Limits, encode
from fsm_core.errors import InvalidPayload, TransitionError, UnknownType
from fsm_core.types import ENGINE_EVENTS, ActionId, ActionStatus, After, At, Cancel, Route, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fsm_core.machine import Machine

MAX_ACTIONS = 1000
"""How many actions one event may emit; more is a runaway, refused before the database."""

MAX_DELAY = timedelta(days=366 * 100)
MAX_TIMER = 200

STATE_TIMER = "state:"
UNNAMED = "#"
"""What begins the names of timers that nobody named: one of a state, and one by its own id."""


class NewAction(NamedTuple):
    """A row of the outbox. timer: its name, where it is one. outcome: what is known of it already, as JSON."""

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


class Written(NamedTuple):
    """What one event writes to the outbox: new rows, and the names of timers that end with it."""

    rows: list[NewAction]
    cancelled: list[str]


class Moment(NamedTuple):
    """The event that the rows belong to: its machine's id, its seq and its time."""

    machine_id: UUID
    seq: int
    at: datetime


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
        elif isinstance(action, After | At):
            row = _timer(machine, made, moment.at, action, limits)
            cancelled += [] if action.name is None else [action.name]
            rows[row.timer] = row
        else:
            rows[idx] = _own(machine, made, action, limits)
    return Written(list(rows.values()), cancelled)


def state_timer(machine: Machine[Any, Any, Any], made: ActionId, state: object) -> NewAction | None:
    """The row of the timeout that begins when `state` is entered, if it declares one. Raises what its `after` raises."""
    span = machine.state_timeout(state)
    if span is None:
        return None
    name = machine.state_name(state)
    outcome = known([("Timeout", encode(Timeout(name), "event Timeout"))])
    payload = msgspec.json.encode({"state": name}).decode()
    timer = f"{STATE_TIMER}{name}"
    return _built_in(
        machine, made, name=Timeout.__name__, payload=payload, delay=span, timer=timer, outcome=outcome
    )


def known(events: Sequence[tuple[str, str]]) -> str:
    """The JSON of an outcome that is known before anything ran: these events, by name and payload."""
    entries = [{"name": name, "payload": msgspec.Raw(payload.encode())} for name, payload in events]
    return msgspec.json.encode(
        {"to": ActionStatus.COMPLETED.value, "events": entries, "source": "timer"}
    ).decode()


def _own(machine: Machine[Any, Any, Any], made: ActionId, action: object, limits: Limits) -> NewAction:
    name, route = machine.action_name(action), machine.routed(action)
    lane = None
    if route.partition_key is not None:
        lane = f"key:{route.partition_key}"
    elif route.ordered or machine.ordered:
        lane = f"machine:{made.machine_id}"
    status = ActionStatus.PENDING if lane is None else ActionStatus.BLOCKED
    payload = encode(action, f"action {name}", limits)
    return NewAction(
        made.seq, made.idx, name, machine.version, payload, machine.tracked(action), status, route.queue or machine.queue,
        route.priority, lane, timedelta(0),
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
    shown = msgspec.json.encode(
        {"event": event, "payload": msgspec.Raw(payload.encode()), "name": action.name}
    ).decode()
    name = f"{UNNAMED}{made.seq}.{made.idx}" if action.name is None else _timer_name(action.name)
    outcome = known([(event, payload)])
    return _built_in(
        machine,
        made,
        name=type(action).__name__,
        payload=shown,
        delay=_delay(action, at),
        timer=name,
        outcome=outcome,
    )


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


def _built_in(
    machine: Machine[Any, Any, Any],
    made: ActionId,
    *,
    name: str,
    payload: str,
    delay: timedelta,
    timer: str,
    outcome: str,
) -> NewAction:
    return NewAction(
        seq=made.seq, idx=made.idx, name=name, version=machine.version, payload=payload, tracked=True,
        status=ActionStatus.PENDING, queue=machine.queue, priority=Route().priority, lane=None, delay=delay, timer=timer,
        outcome=outcome,
    )  # fmt: skip

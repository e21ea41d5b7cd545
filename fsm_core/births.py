"""Children: what a `Spawn` becomes. Ids and keys are derived, never random: deciding again, or replaying, bears the same child."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec

from fsm_core.codec import encode
from fsm_core.context import Context
from fsm_core.decide import begin
from fsm_core.errors import ChildExists, TransitionError
from fsm_core.payload import DEFAULT_LIMITS, Limits
from fsm_core.records import Snapshot
from fsm_core.rows import Moment, Origin, cancel_children, state_timer, text, told, written
from fsm_core.types import MAX_KEY, ActionId, At, Change, ChildEnded, Failed, MachineStatus, Spawn, key_text
from fsm_core.unit import Birth, Seen, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from fsm_core.machine import Machine
    from fsm_core.rows import NewAction

MAX_GENERATIONS = 16
MAX_CHILDREN = 1000
"""How deep and how many: a machine that bears itself would never end."""

DEFAULT_QUEUE = "default"

AMPLE = Limits(size=10**7, depth=DEFAULT_LIMITS.depth + 8, items=10**6)
"""For an event that the engine wraps around a value: that one has kept to its limits."""

Address = tuple[str, str]
"""Name of a machine and key."""


class Bounds(NamedTuple):
    """What a birth must keep to: limits of payloads, addresses known to be in use, and how many generations came before.

    at: when its actions and its timers begin; None: at once.
    """

    limits: Limits = DEFAULT_LIMITS
    taken: frozenset[Address] = frozenset()
    generation: int = 0
    at: datetime | None = None


def birth(
    machine: Machine[Any, Any, Any], state: object, seen: Seen, bounds: Bounds | None = None
) -> tuple[Unit, Snapshot[Any]]:
    """The unit of a new machine in `state` (`seen` carries its id, key and time), and its snapshot.

    Raises UnknownType, InvalidPayload, Rejected (by `enter`), TransitionError, ChildExists.
    """
    bounds = bounds or Bounds()
    limits = bounds.limits
    form = machine.form_of(state)
    name, json = machine.state_name(state), encode(state, "state", limits, form=form)
    decision = begin(machine, state, context(seen, 0))
    status = machine.ended_as(state) if machine.is_final(state) else MachineStatus.LIVE
    unit = Unit(seen, machine.version, status, name, json, 0)
    moment = Moment(seen.id, 0, seen.at, seen.partition_key, seen.priority)
    unit.actions += written(machine, moment, decision.actions, limits).rows
    own = bounds._replace(taken=bounds.taken | {(seen.machine, seen.key)})
    unit.births += births(machine, seen, moment, decision.actions, own)
    if refused := [each for each in unit.births if each.child is None]:
        raise ChildExists(*address_of(refused[0]))
    last = ActionId(seen.id, 0, len(decision.actions))
    if (timer := state_timer(machine, last, state)) is not None:
        unit.actions.append(timer)
    if bounds.at is not None and bounds.at > seen.at:
        unit.actions = [_later(row, bounds.at - seen.at) for row in unit.actions]
    if unit.ended:
        unit.actions = [row for row in unit.actions if row.timer is None]
        told_parent = farewell(machine, seen, last, state)
        unit.actions += [] if told_parent is None else [told_parent]
    if machine.projects:
        unit.projected += machine.projected(Change(seen.key, 0, seen.at, None, None, state))
    snapshot: Snapshot[Any] = Snapshot(
        seen.machine, seen.key, seen.id, machine.version, state, 0, status, seen.at, seen.at,
        seen.at if unit.ended else None,
    )  # fmt: skip
    return unit, snapshot


def births(
    machine: Machine[Any, Any, Any], parent: Seen, moment: Moment, actions: Sequence[object], bounds: Bounds
) -> list[Birth]:
    """One birth for each `Spawn` among an event's actions; those whose key is taken, or stands twice, have no child.

    Raises what the child's own birth raises, and TransitionError: no machine to be born, or too many generations.
    """
    found: list[Birth] = []
    used = set(bounds.taken)
    for idx, action in enumerate(actions):
        if not isinstance(action, Spawn):
            continue
        if isinstance(action.machine, str):
            raise TransitionError(f"Spawn takes the machine itself, not its name {action.machine!r}")
        if bounds.generation >= MAX_GENERATIONS or len(used) - len(bounds.taken) >= MAX_CHILDREN:
            raise TransitionError(
                f"event {moment.seq} of {parent.machine}/{parent.key} bears more than {MAX_GENERATIONS} generations or "
                f"{MAX_CHILDREN} children"
            )
        made = ActionId(moment.machine_id, moment.seq, idx)
        address = action.machine.name, _key(parent, made, action)
        child = None
        if address not in used:
            used.add(address)
            within = Bounds(bounds.limits, frozenset(used), bounds.generation + 1)
            blank = _blank(address, made, moment.at)
            if not action.detached:
                blank = blank._replace(parent=made.machine_id, parent_queue=machine.queue)
            child = _child(action, blank, within)
            used |= {(unit.seen.machine, unit.seen.key) for unit in child.born}
        shown = text({"machine": address[0], "key": address[1]})
        found.append(Birth(moment.seq, idx, shown, machine.version, machine.queue, child))
    return found


def farewell(machine: Machine[Any, Any, Any], child: Seen, made: ActionId, state: object) -> NewAction | None:
    """The row by which a machine that reached its final state tells its parent, if it has one."""
    if child.parent is None:
        return None
    ended = ChildEnded(child.machine, child.key, state)
    name = f"{ChildEnded.__name__}[{machine.state_name(state)}]"
    payload = encode(ended, f"event {name}", AMPLE)
    origin = Origin(made, machine.version, child.parent_queue or machine.queue)
    return told(origin, child.parent, (name, payload))


def cancelled(seen: Seen, idx: int, why: str, children: str | None) -> list[NewAction]:
    """The rows that a machine leaves when it is cancelled: its parent is told, its children go with it.

    idx: the next free one of its last event. children: the queue to cancel them by; None, if none lives.
    """
    rows: list[NewAction] = []
    if seen.parent is not None:
        event = Failed(Spawn(seen.machine, seen.key), f"cancelled: {why}")
        name = f"{Failed.__name__}[{Spawn.__name__}]"
        made = Origin(ActionId(seen.id, seen.seq, idx), seen.version, seen.parent_queue or DEFAULT_QUEUE)
        rows.append(told(made, seen.parent, (name, encode(event, f"event {name}"))))
    if children is not None:
        made = Origin(ActionId(seen.id, seen.seq, idx + len(rows)), seen.version, children)
        rows.append(cancel_children(made))
    return rows


def address_of(given: Birth) -> Address:
    """The address of a birth, whether or not there is a child."""
    shown = msgspec.json.decode(given.payload)
    return shown["machine"], shown["key"]


def context(seen: Seen, seq: int) -> Context:
    """What the transition of event `seq` may know."""
    return Context(seen.at, seen.id, seen.key, seq)


def child_id(made: ActionId, at: datetime) -> UUID:
    """The id of the child that the action `made` bears: a UUID of version 7, its random bits a hash of the action's id."""
    stamp = int(at.timestamp() * 1000)
    bits = int.from_bytes(sha256(f"child {made}".encode()).digest()[:10])
    return uuid7(stamp, bits)


def uuid7(stamp: int, bits: int) -> UUID:
    """The UUID of version 7 of `stamp` (milliseconds since 1970, 48 bits) and 80 random `bits`. Source: RFC 9562, 5.7."""
    return UUID(
        int=(stamp & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (bits >> 68 & 0xFFF) << 64
        | 0b10 << 62
        | bits & (1 << 62) - 1
    )


def _later(row: NewAction, span: timedelta) -> NewAction:
    """A row of a machine that begins later; a timer for a time of its own keeps that."""
    return row if row.name == At.__name__ else row._replace(delay=row.delay + span)


def _key(parent: Seen, made: ActionId, action: Spawn) -> str:
    if action.key is not None:
        return key_text(action.key)
    key = f"{parent.key}/{made.seq}.{made.idx}"
    return key if len(key) <= MAX_KEY else str(made)


def _blank(address: Address, made: ActionId, at: datetime) -> Seen:
    return Seen(
        id=child_id(made, at), machine=address[0], key=address[1], version=0, status=MachineStatus.UNBORN, state_name="",
        state="", seq=0, rev=0, inbox=0, at=at, created_at=at, updated_at=at, ended_at=None,
    )  # fmt: skip


def _child(action: Spawn, blank: Seen, bounds: Bounds) -> Unit:
    machine: Any = action.machine
    state = machine.initial if action.state is None else action.state
    if state is None:
        raise TransitionError(f"machine {machine.name!r} has no initial=; Spawn it with a state")
    return birth(machine, state, blank._replace(version=machine.version), bounds)[0]

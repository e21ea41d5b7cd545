"""What older versions left, in the present shape, for many machines at a time: what would be written, and what cannot be read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.codec import decode_named
from fsm_core.delivery.outcome import from_json
from fsm_core.draft import Draft
from fsm_core.errors import FsmError, InvariantViolated, UnknownMachine
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.payload import Limits
    from fsm_core.registry import AnyMachine, Registry
    from fsm_core.unit import Held, Seen, Unit

MOST_UNREAD = 1000
"""How many findings an answer lists; whoever has more has one bug in many rows."""


class OpenAction(NamedTuple):
    """What matters here of an action that has not finished."""

    name: str
    version: int
    payload: str
    outcome: str | None


class Unread(NamedTuple):
    """Something of a machine that the present version cannot read. role: "state", "event" (a held one) or "action"."""

    machine: str
    key: str
    role: str
    name: str
    version: int
    error: str


@dataclass(frozen=True, slots=True)
class Upcast:
    """What an upcast of all machines of one name did.

    looked: machines that were looked at. older: live ones that an older version wrote and that are to be upcast. written: those
    that now are in the present shape (in a dry run: would be). busy: those that somebody else held for too long; nothing is
    wrong with them. unreadable: those of which something cannot be read, and that were left as they were. unread: what, and
    why; the first thousand.
    """

    looked: int = 0
    older: int = 0
    written: int = 0
    busy: int = 0
    unreadable: int = 0
    unread: tuple[Unread, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is left to be done."""
        return not (self.busy or self.unreadable)

    def plus(self, other: Upcast) -> Upcast:
        """Both together."""
        return Upcast(
            self.looked + other.looked, self.older + other.older, self.written + other.written, self.busy + other.busy,
            self.unreadable + other.unreadable, (self.unread + other.unread)[:MOST_UNREAD],
        )  # fmt: skip


def is_due(registry: Registry, machine: AnyMachine, status: str, version: int, *, every: bool) -> bool:
    """Whether a row is to be upcast to `machine`: it is live and older, and its own version does not run here.

    every: also if it does.
    """
    if version >= machine.version or status != MachineStatus.LIVE:
        return False
    try:
        registry.machine(machine.name, version)
    except UnknownMachine:
        return True
    return every


def may_hold_older(machine: AnyMachine, status: str, version: int) -> bool:
    """Whether a row that needs no upcast itself may have older events or actions: it is in the present shape, or not born."""
    return status == MachineStatus.UNBORN or (status == MachineStatus.LIVE and version == machine.version)


def upcast(registry: Registry, machine: AnyMachine, seen: Seen, limits: Limits) -> Unit:
    """The unit that writes a machine's state in the shape of `machine`, without an event.

    Raises InvalidPayload, UnknownType, UnknownMachine (`machine` does not reach back so far), InvariantViolated.
    """
    if not machine.reads(seen.version):
        raise UnknownMachine(seen.machine, seen.version, registry.names())
    draft = Draft(machine, seen, limits)
    draft.rebase()
    if (broken := machine.violated(draft.state)) is not None:
        raise InvariantViolated(machine.name, draft.unit.state_name, broken)
    return draft.unit


def judged(
    registry: Registry,
    machine: AnyMachine,
    seen: Seen,
    held: Sequence[Held],
    actions: Sequence[OpenAction],
    *,
    limits: Limits,
) -> tuple[Unit | None, list[Unread]]:
    """The unit that upcasts a machine, if it is older; or what of it cannot be read, also where it is not.

    It is all or nothing: of a machine that would be stuck later, nothing is written now. What other machines send to it is in
    their own outboxes, and not looked at.
    """
    unread: list[Unread] = []
    unit: Unit | None = None

    def wrong(role: str, name: str, version: int, error: object) -> None:
        unread.append(Unread(seen.machine, seen.key, role, name, version, str(error)))

    if seen.version < machine.version and seen.status is MachineStatus.LIVE:
        try:
            unit = upcast(registry, machine, seen, limits)
        except FsmError as error:
            wrong("state", seen.state_name, seen.version, error)
    for event in held:
        try:
            decode_named(machine, "event", event.name, event.payload, event.version)
        except FsmError as error:
            wrong("event", event.name, event.version, error)
    for action in actions:
        try:
            _read(registry, machine, action)
        except FsmError as error:
            wrong("action", action.name, action.version, error)
    return (None if unread else unit), unread


def _read(registry: Registry, machine: AnyMachine, action: OpenAction) -> None:
    """Raises InvalidPayload, UnknownType, UnknownMachine: the action, or what its outcome brings, is nothing that is known here."""
    if action.outcome is None:
        runs = registry.reader(machine.name, action.version)
        decode_named(runs, "action", action.name, action.payload, action.version)
        return
    known = from_json(action.outcome)
    if known.target is None:
        known.read(machine, action.version)

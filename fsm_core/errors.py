"""Every error that fsm-core raises.

FsmError
├── DefinitionError              a machine, its handlers or its effects are declared wrongly
│   └── DuplicateMachine         two machines of one name and version in one process
├── TransitionError              a transition gave what its own signature does not name
│   └── InvariantViolated        it gave a state of which an invariant does not hold
├── Impure                       under the purity guard: a transition did what only an effect may
├── ConfigurationError           a setting is missing or wrong
├── Refused                      the call was refused before anything was written
│   ├── InvalidPayload           a value that has no faithful JSON form, or JSON that fits no type
│   │   ├── PayloadTooLarge      over the size limit
│   │   └── Sealed               it is encrypted, and no key here opens it
│   ├── InvalidKey               not a machine key, or not a name that any row could have
│   ├── UnknownMachine           no machine of that name (and version) is registered here
│   ├── UnknownType              not a state, event or action of that machine
│   ├── Rejected                 raised by a transition: "no", and nothing changes
│   │   └── ConstraintViolated   a projection broke a constraint of the application's tables
│   ├── UnhandledEvent           no edge takes this event in this state
│   ├── MachineEnded             the machine has ended; no event reaches it
│   ├── WrongSeq                 `expected_seq` is not the machine's seq
│   ├── DedupMismatch            the dedup key was used before, with other content
│   ├── InboxFull                too many events are held already
│   ├── Overloaded               the machine has had, or has open, as much as the store's limits allow
│   ├── ChildExists              a machine to be spawned is there already, and its parent has no edge to be told by
│   ├── WrongStatus              the action is not in a status that allows this
│   └── NotRetried               the action is a Spawn that failed: nobody runs it again
├── NotFound
│   ├── MachineNotFound          no such row
│   ├── ActionNotFound           no such row
│   └── EventNotFound            the machine's log has no event of that number
├── WaitTimeout                  a machine had not ended when the caller's time to wait was over; a TimeoutError, too
├── ReplayFailed                 a recorded event does not replay on this code
├── StoreError                   the database, with what was being done in `context`
│   ├── DatabaseError            it answered with an error
│   │   ├── SchemaError          the tables are missing, or older than this code
│   │   ├── SerializationConflict  the caller's transaction reads a past in which the machine was other
│   │   ├── Deadlock             the caller's transaction was chosen to die
│   │   └── Busy                 the machine's row stayed locked
│   ├── DatabaseUnavailable      it could not be reached, or the connection broke
│   ├── PoolExhausted            no connection came free in time
│   └── UnsupportedConnection    `session=` is not a psycopg connection in a transaction
├── BrokerUnavailable            the broker could not be reached
├── Permanent                    raised by an effect: do not try again
└── InDoubt                      raised by an effect: it may have happened; the probe is asked before it is tried again

All data is in attributes; the message is made of them. `context`, where set, says what was being done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm_core.records import Snapshot


class FsmError(Exception):
    """The root. `context` is what was being done, or None."""

    context: str | None = None

    def during(self, context: str) -> FsmError:
        """Note what was being done, once; the innermost note stays. Returns the error itself."""
        if self.context is None:
            self.context = context
        return self

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.context is None else f"{self.context}: {text}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own would call the class with the message alone: no process boundary could be crossed.
        return _revived, (type(self), self.args, self.__dict__)


def _revived(cls: type[FsmError], args: tuple[object, ...], attributes: dict[str, object]) -> FsmError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(attributes)
    return error


class DefinitionError(FsmError):
    """A machine, its handlers or its effects are declared wrongly; the message names the places."""


class DuplicateMachine(DefinitionError):
    """Two machines of one name and version are registered in one process."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"two machines are called {name!r}, version {version}; no row could tell which")
        self.name = name
        self.version = version


class TransitionError(FsmError):
    """A transition or `enter` gave a state or an action that its signature or its machine does not name: a bug in it."""


class Impure(FsmError):
    """Under `fsm_core.purity.guarded`: a machine's `function`, as `name (file:line)`, did what only an effect may.

    call: what it called ("open"), or what it did in words. place: of the machine's own code, `file:line`; None: no single line.
    """

    def __init__(self, function: str, call: str, place: str | None = None, *, detail: str = "") -> None:
        at = "" if place is None else f" at {place}"
        super().__init__(f"{function} is impure: {call}{at}" + (f" ({detail:.1000})" if detail else ""))
        self.function, self.call, self.place, self.detail = function, call, place, detail


class InvariantViolated(TransitionError):
    """A state of `machine` breaks an invariant, `message` says which. Raised by MemoryStore: nothing changed."""

    def __init__(self, machine: str, state: str, message: str) -> None:
        super().__init__(f"{machine}: state {state} breaks an invariant: {message}")
        self.machine, self.state, self.message = machine, state, message


class ConfigurationError(FsmError):
    """A setting is missing or wrong."""


class Refused(FsmError):
    """The call was refused before anything was written."""


class InvalidPayload(Refused):
    """A value that has no faithful JSON form, or JSON that fits no type. `path` leads to the place."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"{reason} (at {path})" if path else reason)
        self.reason = reason
        self.path = path


class PayloadTooLarge(InvalidPayload):
    """The encoded payload has `size` bytes, more than `limit`."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(f"{what} has {size} bytes, the limit is {limit}")
        self.size = size
        self.limit = limit


class Sealed(InvalidPayload):
    """The row's payload is encrypted, and no key of this process opens it; `reason` says which is missing."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(f"sealed: {reason}", path)


class InvalidKey(Refused):
    """Not a machine key (a str of 1 to 255 printable characters, an int or a UUID), or not a `what`: no row has it."""

    def __init__(self, key: object, reason: str, what: str = "machine key") -> None:
        try:
            shown = repr(str(key)[:80])
        except ValueError:  # an int of thousands of digits has no text
            shown = f"this {type(key).__name__}"
        super().__init__(f"{shown} is no {what}: {reason}")
        self.key, self.reason, self.what = key, reason, what


class UnknownMachine(Refused):
    """No machine of that name (and version) is registered in this process; `known` are those that are."""

    def __init__(self, name: str, version: int | None = None, known: tuple[str, ...] = ()) -> None:
        which = f"{name!r}" if version is None else f"{name!r} version {version}"
        among = ", ".join(known) or "none at all"
        super().__init__(f"no machine {which} is registered here (registered: {among})")
        self.name, self.version, self.known = name, version, known


class UnknownType(Refused):
    """`got` is not one of the machine's states, events or actions (`role` says which)."""

    def __init__(self, machine: str, role: str, got: str, known: tuple[str, ...]) -> None:
        declared = ", ".join(known) or "none"
        super().__init__(f"{got} is no {role} of machine {machine!r} (declared: {declared})")
        self.machine, self.role, self.got, self.known = machine, role, got, known


class Rejected(Refused):
    """Raised by a transition (or a subclass of it): the event is refused and nothing changes.

    Source: PHASM's fallible transition, `Err` leaves the state unchanged.
    """

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason


class ConstraintViolated(Rejected):
    """A projection broke `constraint` of the application's own tables: the event is refused, as by its transition."""

    def __init__(self, constraint: str, message: str) -> None:
        super().__init__(f"{constraint}: {message}")
        self.constraint = constraint


class UnhandledEvent(Refused):
    """No edge takes this event in this state."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"machine {machine!r} has no edge for {event} in state {state}")
        self.machine, self.state, self.event = machine, state, event


class MachineEnded(Refused):
    """The machine has ended (`status`): nothing reaches it. An event in its own final state is one without an edge."""

    def __init__(self, name: str, key: str, status: str) -> None:
        super().__init__(f"machine {name}/{key} has ended: {status}")
        self.name, self.key, self.status = name, key, status


class WrongSeq(Refused):
    """The caller meant the state after event `expected`; the machine is at `actual`."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected seq {expected}, the machine is at {actual}")
        self.expected = expected
        self.actual = actual


class DedupMismatch(Refused):
    """`dedup_key` was used before (at `seq`, None while the event is held) for an event with other content."""

    def __init__(self, dedup_key: str, seq: int | None) -> None:
        super().__init__(f"dedup key {dedup_key!r} was used for another event (seq {seq})")
        self.dedup_key = dedup_key
        self.seq = seq


class InboxFull(Refused):
    """`limit` events are held for this machine already."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the inbox holds {limit} events already")
        self.limit = limit


class Overloaded(Refused):
    """Machine `name`/`key` has had as many events, or has as many open actions, as the store's `Limits` allow: `why` says which."""

    def __init__(self, name: str, key: str, why: str) -> None:
        super().__init__(f"machine {name}/{key} takes no more for now: {why}")
        self.name, self.key, self.why = name, key, why


class ChildExists(Refused):
    """`Spawn` names a machine that is there already, and its parent declares no `Failed[Spawn]` to be told by."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f"machine {name}/{key} exists already; a child needs a key of its own")
        self.name = name
        self.key = key


class WrongStatus(Refused):
    """The action stands as `status`; the operation needs one of `wanted`."""

    def __init__(self, action_id: str, status: str, wanted: tuple[str, ...]) -> None:
        super().__init__(f"action {action_id} is {status}, not {' or '.join(wanted)}")
        self.action_id, self.status, self.wanted = action_id, status, wanted


class NotRetried(Refused):
    """The action is a `Spawn` whose child's key was taken: its machine was told, and nobody runs it."""

    def __init__(self, action_id: str) -> None:
        super().__init__(f"action {action_id} is a Spawn: its key was taken, and its machine has been told")
        self.action_id = action_id


class NotFound(FsmError):
    """A row was asked for that does not exist."""


class MachineNotFound(NotFound):
    """There is no machine `name`/`key`. Source: finito's `FSMNotFound`."""

    def __init__(self, name: str, key: str) -> None:
        super().__init__(f"there is no machine {name}/{key}")
        self.name = name
        self.key = key


class ActionNotFound(NotFound):
    """There is no action of that id. Source: finito's `ActionNotFound`."""

    def __init__(self, action_id: str) -> None:
        super().__init__(f"there is no action {action_id}")
        self.action_id = action_id


class EventNotFound(NotFound):
    """The log of machine `name`/`key` has no event `seq`; its last one is `last`."""

    def __init__(self, name: str, key: str, seq: int, last: int) -> None:
        super().__init__(f"machine {name}/{key} has no event {seq} in its log (the last one is {last})")
        self.name, self.key, self.seq, self.last = name, key, seq, last


class WaitTimeout(FsmError, TimeoutError):
    """The machine of `snapshot`, as it was last seen, had not ended after `seconds`. It may end at any moment."""

    def __init__(self, snapshot: Snapshot[object], seconds: float) -> None:
        super().__init__(f"machine {snapshot.machine}/{snapshot.key} has not ended within {seconds:g} s")
        self.snapshot = snapshot
        self.seconds = seconds


class ReplayFailed(FsmError):
    """Event `seq` of machine `name`/`key`, called `event`, does not replay on this code as it was recorded; `reason` says why."""

    def __init__(self, name: str, key: str, seq: int, event: str, reason: str) -> None:
        super().__init__(f"{name}/{key} does not replay on this code: event {seq}, {event}: {reason}")
        self.name, self.key, self.seq, self.event, self.reason = name, key, seq, event, reason


class StoreError(FsmError):
    """The store could not do it. `where` is the database that was asked, its password masked."""

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(message)
        self.where = where

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.where is None else f"{text} ({self.where})"


class DatabaseError(StoreError):
    """The database answered with an error; `sqlstate` is its five-character code. Source: finito's `Database`."""

    def __init__(self, message: str, *, sqlstate: str | None = None, where: str | None = None) -> None:
        super().__init__(message, where=where)
        self.sqlstate = sqlstate


class SchemaError(DatabaseError):
    """The tables are missing or older than this code: run `fsm migrate`."""


class SerializationConflict(DatabaseError):
    """The machine changed since the snapshot of the caller's REPEATABLE READ or SERIALIZABLE transaction."""


class Deadlock(DatabaseError):
    """The database broke a deadlock by ending the caller's transaction."""


class Busy(DatabaseError):
    """The machine's row stayed locked longer than `lock_timeout`."""


class DatabaseUnavailable(StoreError):
    """The database could not be reached, or the connection broke in mid-call."""


class PoolExhausted(StoreError):
    """No connection of the pool came free in time. Source: finito's `DBPool`."""


class UnsupportedConnection(StoreError):
    """What was given as `session=` (or as engine) does not end at psycopg, or is in no transaction."""


class BrokerUnavailable(FsmError):
    """The broker at `where` (password masked) could not be reached."""

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"the broker at {where} does not answer: {reason}")
        self.reason = reason
        self.where = where


class Permanent(FsmError):
    """Raised by an effect: this will not succeed later either, do not try again."""


class InDoubt(FsmError):
    """Raised by an effect: it may have happened all the same. Its probe is asked before it is tried again."""

"""Messages (`Send`) to machines of other databases: the worker that has one takes it to its machine's shard, then ends it in its own.

The two are not one transaction. What dies between them is delivered again; the shard knows the action by its id, a dedup key of the
machine, and applies it once.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_type

from fsm_core.delivery.finish import is_its_fault
from fsm_core.delivery.outcome import Completed, Delivered, describe, unknown
from fsm_core.draft import REFUSALS
from fsm_core.errors import (
    DatabaseError,
    DatabaseUnavailable,
    Deadlock,
    DedupMismatch,
    FsmError,
    MachineNotFound,
    Sealed,
    SerializationConflict,
    StoreError,
    UnknownMachine,
)
from fsm_core.postgres.flows.advance import Call, Conflict, decided, read
from fsm_core.postgres.sync.store import PostgresStore
from fsm_core.types import MachineStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsm_core.births import Address
    from fsm_core.delivery.outcome import Known, Outcome
    from fsm_core.delivery.ports import Claimed, WorkerStore
    from fsm_core.postgres.sharded.placing import Places
    from fsm_core.records import Snapshot

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds for which a shard that could not be reached is left alone: a try may keep a slot of the worker for as long."""


class Letterbox(PostgresStore):
    """One shard, as workers of others write to it."""

    def take(self, claimed: Claimed, letter: Known, name: str, key: str) -> Snapshot[Any]:
        """Apply what `claimed` brings to machine `name`/`key`, as a worker of this shard would; a second time, nothing.

        Raises what `advance` raises, and UnknownMachine.
        """
        try:
            machine, action = self.registry.newest(name), str(claimed.id)
        except UnknownMachine:
            self.record(name, key)  # a name that nothing has is no version that somebody else may know
            raise
        call = Call(
            self.registry, machine, key, None, self._limits, action, source=letter.source, cause=action
        )
        for attempt in Retrying(**self._policy()):
            with attempt:
                return self._decide_own(call, partial(_taken, call, letter))
        raise AssertionError  # pragma: no cover - Retrying returns or raises

    @staticmethod
    def _policy() -> dict[str, Any]:
        # A shard that is away keeps no slot of the worker for several tries: the message's row is tried again.
        passing = (SerializationConflict, Deadlock, Conflict)
        return {**PostgresStore._policy(), "retry": retry_if_exception_type(passing)}  # noqa: SLF001 - ours


class Post:
    """What a worker does with messages. home: its own shard, which is called `here`. boxes: the others, by name.

    clock: seconds that do not go back.
    """

    def __init__(
        self,
        home: WorkerStore,
        here: str,
        places: Places,
        boxes: Mapping[str, Letterbox],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home, self._here = home, here
        self._places, self._boxes = places, boxes
        self._clock = clock
        self._away: dict[str, float] = {}

    def deliver(self, claimed: Claimed, letter: Known) -> Outcome:
        """Take it to its machine, if that lives elsewhere. Completed: it does not, or nowhere: then it waits here.

        Raises StoreError, of its own shard.
        """
        target = letter.target
        if target is None or target.machine is None or target.key is None:
            return Completed()
        may = self._places.candidates(target.key)
        for name in may if set(may) != {self._here} else ():
            if name == self._here:
                found = bool(self._home.locate([(target.machine, target.key)]))
                outcome: Outcome | None = Completed() if found else None
            else:
                outcome = self._taken_to(name, claimed, letter, (target.machine, target.key))
            if outcome is not None:
                return outcome
        return Completed()

    def _taken_to(self, name: str, claimed: Claimed, letter: Known, address: Address) -> Outcome | None:
        """What came of it there; None: there is no such machine."""
        if (until := self._away.get(name)) is not None:
            if self._clock() < until:
                return unknown(claimed, f"shard {name} is away")
            self._away[name] = self._clock() + PAUSE  # one slot at a time finds out whether it is back
        try:
            outcome = self._answer(name, claimed, letter, address)
        except DatabaseUnavailable as error:
            self._away[name] = self._clock() + PAUSE
            return unknown(claimed, f"shard {name} did not take it: {describe(error)}")
        self._away.pop(name, None)
        return outcome

    def _answer(self, name: str, claimed: Claimed, letter: Known, address: Address) -> Outcome | None:
        try:
            self._boxes[name].take(claimed, letter, *address)
        except MachineNotFound:
            return None
        except DedupMismatch:
            return Delivered()  # it was here, in the words of another version of the code
        except REFUSALS as refusal:
            return Delivered(note=f"ignored: {describe(refusal)}")
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the transition of a user
            return self._failed(name, claimed, error)
        return Delivered()

    @staticmethod
    def _failed(name: str, claimed: Claimed, error: Exception) -> Outcome:
        if isinstance(error, UnknownMachine | Sealed):
            return unknown(claimed, f"no worker here can apply it: {describe(error)}")
        if isinstance(error, StoreError) and not (isinstance(error, DatabaseError) and is_its_fault(error)):
            return unknown(claimed, f"shard {name} did not take it: {describe(error)}")
        if not isinstance(error, FsmError):
            log.error("message %s to %s could not be applied", claimed.id, claimed.key, exc_info=error)
        return Delivered(error=f"its result could not be applied: {describe(error)}")

    def close(self) -> None:
        """Close the connections to the other shards."""
        for box in self._boxes.values():
            box._own.close()  # noqa: SLF001 - ours


async def _taken(call: Call, letter: Known, *, locked: bool) -> Snapshot[Any]:
    """As `advance`, of an event that is read as the version of the machine's row knows it."""
    row = await read(call, locked=locked)
    if row is None or row[4] == MachineStatus.UNBORN:
        raise MachineNotFound(call.machine.name, call.key)
    call.machine = call.registry.reader(row[1], row[3])
    (call.event,) = letter.read(call.machine, call.machine.version)
    return await decided(call, row, locked=locked, own=True)

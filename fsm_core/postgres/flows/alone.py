"""Units of more than one statement: written under their machine's lock, behind a savepoint, all or nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg

from fsm_core.births import Address, address_of
from fsm_core.errors import ConstraintViolated, DatabaseError, StoreError
from fsm_core.postgres import params, projections
from fsm_core.postgres.ask import Ask, Row
from fsm_core.postgres.statements import family
from fsm_core.postgres.statements.machines import CONSTRAINTS_NOW

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fsm_core.unit import Unit

T = TypeVar("T")

log = logging.getLogger(__name__)

TRIES = 5
"""How many births that cross ours are borne."""

_TAKEN = "23505"
_INTEGRITY = "23"


class Alone(Exception):
    """The unit takes more than one statement: run the flow again, in a transaction and under the lock."""


class Decide(Protocol):
    """Decides anew, knowing which addresses are in use, and whether held events may be offered."""

    def __call__(self, taken: frozenset[Address], *, offer: bool) -> Unit:
        """The unit. Raises what a decision raises."""


class Write(Protocol):
    """Writes the unit's own rows; the answer is whether its guard held."""

    def __call__(self, unit: Unit, /) -> Coroutine[Ask[Any], Any, bool]:
        """Whether it was written."""


async def alone(decide: Decide, write: Write, *, own: bool) -> bool:
    """Decide and write, until no child's address is in use. Returns whether the guard held.

    own: the transaction is ours, so deferred constraints are asked at once. Raises what `decide` raises, and
    ConstraintViolated by a projection; then nothing is written, and the transaction goes on.
    """
    taken: frozenset[Address] = frozenset()
    offer, crossed = True, 0
    while True:  # each time around an address more is known to be in use, or a try less is left
        unit = decide(taken, offer=offer)
        more = await _in_use(unit) - taken
        if more:
            taken |= more
            continue
        try:
            return await _whole(unit, write, own=own)
        except ConstraintViolated:
            if not (unit.taken and offer):
                raise
            log.warning("held events are left out of a unit, as one may break a constraint")
            offer = False  # it may have been a held event: that one waits on, and the present one is tried without it
        except DatabaseError as error:
            crossed += 1
            if error.sqlstate != _TAKEN or crossed == TRIES:
                raise


async def whole(flow: Coroutine[Ask[Any], Any, T]) -> T:
    """Run a flow that writes more than once in the caller's transaction: what it raises takes back what it wrote before.

    Raises what the flow raises.
    """
    await Ask(family.CALL, {}, len)
    try:
        done = await flow
    except Exception as error:
        if _goes_on(error):
            await Ask(family.CALL_BACK, {}, len)
        raise
    await Ask(family.CALL_DONE, {}, len)
    return done


async def extras(unit: Unit, *, own: bool) -> None:
    """What follows the unit's own rows. Raises ConstraintViolated, DatabaseError."""
    if unit.rebased is not None:
        await params.rebase(unit)
    if unit.births:
        await params.spawn(unit)
    for each in (unit, *unit.born):
        for statement in each.projected:
            await _projected(projections.ask(statement))
    if own and any(each.projected for each in (unit, *unit.born)):
        await _projected(Ask(CONSTRAINTS_NOW, {}, len))


async def _whole(unit: Unit, write: Write, *, own: bool) -> bool:
    await Ask(family.SAVEPOINT, {}, len)
    try:
        written = await write(unit)
        if written:
            await extras(unit, own=own)
    except Exception as error:
        if _goes_on(error):
            await Ask(family.BACK, {}, len)
        raise
    await Ask(family.RELEASE, {}, len)
    return written


def _goes_on(error: Exception) -> bool:
    """Whether there is a transaction left to go on with: it was a constraint, or nothing that the server was asked."""
    if isinstance(error, DatabaseError):
        return (error.sqlstate or _INTEGRITY).startswith(_INTEGRITY)
    return not isinstance(error, StoreError)


async def _in_use(unit: Unit) -> frozenset[Address]:
    wanted = [
        address_of(birth) for each in (unit, *unit.born) for birth in each.births if birth.child is not None
    ]
    if not wanted:
        return frozenset()
    parameters = {"fsm": [fsm for fsm, _ in wanted], "key": [key for _, key in wanted]}
    used: list[Row] = await Ask(family.IN_USE, parameters, list)
    return frozenset((row[0], row[1]) for row in used)


async def _projected(ask: Ask[int]) -> None:
    try:
        await ask
    except DatabaseError as error:
        if not (error.sqlstate or "").startswith(_INTEGRITY):
            raise
        cause = error.__cause__
        name = cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None
        raise ConstraintViolated(name or "not null", str(error)) from error

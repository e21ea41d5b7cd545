"""The order of one attempt: the probe if the outcome is in doubt, then the cap, then the effect. Worker and MemoryStore share it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fsm_core.codec import decode_named, encode
from fsm_core.delivery.outcome import Outcome, raised, returned, used_up
from fsm_core.effects import NotDone, results

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsm_core.delivery.ports import Claimed
    from fsm_core.effects import Effect
    from fsm_core.registry import AnyEffects, AnyMachine


class Overdue(Exception):
    """The attempt's own timeout, told apart from a TimeoutError of the effect's."""


def present(machine: AnyMachine, claimed: Claimed) -> tuple[Claimed, object]:
    """The action of a claim, and the claim as `machine` would have written it: an older version's is upcast.

    Raises UnknownType, InvalidPayload: nobody here can read it.
    """
    action = decode_named(machine, "action", claimed.action, claimed.payload, claimed.version)
    if claimed.version == machine.version:
        return claimed, action
    name = machine.action_name(action)
    payload = encode(action, f"action {name}")
    return claimed._replace(action=name, payload=payload, version=machine.version), action


def attempted(
    machine: AnyMachine,
    effects: AnyEffects,
    effect: Effect,
    claimed: Claimed,
    call: Callable[[Effect], object],
) -> Outcome:
    """What came of one attempt. `call` runs an effect or a probe and returns what it gave.

    Raises what the effect raises, and Overdue: judging that is the caller's, who knows what may end a process.
    """
    probe = effects.prober(claimed.action) if claimed.in_doubt else None
    if probe is not None:
        try:
            answer = call(probe)
        except Exception as error:  # noqa: BLE001 - a probe that raises cannot tell yet
            return raised(effect.retry, claimed, error, by_probe=True)
        if not isinstance(answer, NotDone):
            return returned(machine, results(answer))
    spent = used_up(effect.retry, claimed)
    return spent or returned(machine, results(call(effect)))


async def within(effect: Effect, given: tuple[object, ...]) -> object:
    """Await an async effect, at most for its timeout. Raises Overdue, and what the effect raises."""
    scope = asyncio.timeout(effect.timeout.total_seconds())
    try:
        async with scope:
            return await effect.function(*given)
    except TimeoutError:
        if scope.expired():
            raise Overdue from None
        raise

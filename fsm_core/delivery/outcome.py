"""What came of an attempt, and what that means for its action. Pure: judging is apart from writing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID  # noqa: TC003 - msgspec reads the annotation

import msgspec

from fsm_core.codec import decode_named, encode
from fsm_core.errors import FsmError, InDoubt, InvalidPayload, Permanent, UnknownType
from fsm_core.payload import refuse_sealed
from fsm_core.types import ENGINE_EVENTS, ActionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsm_core.delivery.ahead import Ahead
    from fsm_core.delivery.ports import Claimed
    from fsm_core.registry import AnyMachine
    from fsm_core.retry import Retry

ERROR_TEXT = 2000
_PASSWORD = re.compile(r"(://[^:/@\s]{0,200}:)[^@\s]{1,200}@")
RELEASE_FIRST, RELEASE_MOST = timedelta(seconds=1), timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Completed:
    """The effect returned; its events go to the machine together with the action's completion."""

    events: tuple[object, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The attempt failed; the next one is due after `delay`. `kind` is what the attempt is recorded as.

    in_doubt: whether its effect may have happened all the same; None: nothing new is known of that.
    """

    error: str
    delay: timedelta
    kind: str = "error"
    in_doubt: bool | None = False


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The action failed for good. `started`: False if this attempt was not, because the budget was used up before."""

    error: str
    started: bool = True


@dataclass(frozen=True, slots=True)
class Released:
    """This worker cannot run it; another may. No attempt was made."""

    note: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message was taken by a machine of another database, or refused (`note`), or cannot be applied there (`error`)."""

    note: str | None = None
    error: str | None = None


Outcome: TypeAlias = Completed | Again | GaveUp | Released | Delivered


@dataclass(frozen=True, slots=True)
class Result:
    """An attempt's outcome with the claim it belongs to, on its way into the store."""

    claimed: Claimed
    outcome: Outcome
    late: bool = False
    """Whether the clock has ended this attempt before its effect returned."""
    ahead: Ahead | None = None
    """The slot that would go on with what this result causes."""


def returned(machine: AnyMachine, events: Sequence[object]) -> Outcome:
    """What an effect's events mean.

    An event that the machine does not declare, or that JSON cannot hold, fails for good: again would give the same.
    """
    try:
        for event in events:
            if isinstance(event, ENGINE_EVENTS):
                raise UnknownType(
                    machine.name,
                    "event that an effect may return",
                    type(event).__name__,
                    tuple(machine.events),
                )
            encode(event, f"event {machine.event_name(event)}")
    except FsmError as error:
        return GaveUp(f"the effect returned what cannot be applied: {describe(error)}")
    return Completed(tuple(events))


def raised(retry: Retry, claimed: Claimed, error: BaseException, *, probed: bool = False) -> Outcome:
    """What an effect's exception means by its policy. probed: whether there is a probe, which is asked where that leaves a doubt."""
    doubt = retry.doubts(error)
    if doubt and probed:
        return _doubtful(retry, claimed, error, "error")
    if retry.gives_up(error, claimed.used):
        return GaveUp(describe(error))
    # What an earlier attempt left open is settled by nothing but a probe.
    return _again(retry, claimed, error, "error", in_doubt=True if doubt else False if probed else None)


def unanswered(retry: Retry, claimed: Claimed, error: BaseException) -> Outcome:
    """What it means that a probe raised: it cannot tell yet, and is asked again by the effect's policy."""
    if isinstance(error, Permanent):
        return GaveUp(describe(error))
    return _doubtful(retry, claimed, error, "error")


def timed_out(retry: Retry, claimed: Claimed, why: str, *, probed: bool = False) -> Outcome:
    """What it means that an attempt had to be given up: its timeout is over, or its heartbeats have ended."""
    error = TimeoutError(why)
    if probed:
        return _doubtful(retry, claimed, error, "timed_out")
    if retry.gives_up(error, claimed.used):
        return GaveUp(describe(error))
    return _again(retry, claimed, error, "timed_out", in_doubt=True)


def used_up(retry: Retry, claimed: Claimed, *, undone: bool = False) -> GaveUp | None:
    """Whether the budget was used up before this attempt: attempts that were lost with their workers count.

    undone: whether a probe has just said that it did not happen.
    """
    if claimed.used <= retry.max_attempts:
        return None
    said = "have failed; the probe says that it did not happen" if undone else "were lost with their workers"
    return GaveUp(f"all {retry.max_attempts} attempts {said}", started=False)


def unknown(claimed: Claimed, note: str) -> Released:
    """Nobody here can run it: put it back, seen by whoever asks, for a worker that can; the older, the longer."""
    age = (claimed.started_at or claimed.published_at) - claimed.created_at
    return Released(note, min(max(age / 2, RELEASE_FIRST), RELEASE_MOST))


def describe(error: BaseException) -> str:
    """`Type: message`, at most 2,000 characters, whatever the exception's own str() does. Neither locals nor arguments.

    Passwords in addresses are masked: clients like to say whom they could not reach.
    """
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - an exception whose str() raises must not take the worker down
        text = "(its message cannot be shown)"
    clean = _PASSWORD.sub(r"\1***@", text.replace("\0", "").encode(errors="replace").decode())
    name = type(error).__name__
    return (
        clean if isinstance(error, Permanent | InDoubt) and clean else f"{name}: {clean}" if clean else name
    )[:ERROR_TEXT]


def error_json(message: str) -> str:
    """The JSON object that the error columns keep."""
    return msgspec.json.encode({"message": message}).decode()


def to_json(machine: AnyMachine, outcome: Completed | GaveUp, failed: object | None) -> str:
    """An outcome as the action keeps it until it is applied: its events by name, and where the action goes."""
    events = outcome.events if isinstance(outcome, Completed) else ([] if failed is None else [failed])
    tree = {
        "version": machine.version,
        "to": str(ActionStatus.COMPLETED if isinstance(outcome, Completed) else ActionStatus.FAILED),
        "error": None if isinstance(outcome, Completed) else outcome.error,
        "events": [
            {"name": machine.event_name(e), "payload": msgspec.Raw(encode(e, "event").encode())}
            for e in events
        ],
    }
    return msgspec.json.encode(tree).decode()


class Target(msgspec.Struct, frozen=True):
    """Whom a known outcome is for, if not its own machine: one by id, one by address, or all children."""

    id: UUID | None = None
    machine: str | None = None
    key: str | None = None
    children: bool = False


class Known(msgspec.Struct, frozen=True):
    """A kept outcome, read back. `version`: in whose shape its events are; None: that of the action's row, of a message's target."""

    to: ActionStatus
    events: list[dict[str, Any]]
    error: str | None = None
    source: str = "result"
    version: int | None = None
    target: Target | None = None

    def told_to_the_deaf(self, machine: AnyMachine) -> bool:
        """Whether it tells a parent what that one never asked to be told."""
        to_parent = self.target is not None and self.target.id is not None
        return to_parent and any(entry["name"] not in machine.events for entry in self.events)

    def read(self, machine: AnyMachine, version: int) -> list[object]:
        """Its events, as `machine` knows them; `version` is the row's. Raises InvalidPayload, UnknownType."""
        written = version if self.target is None else machine.version
        payloads = [msgspec.json.encode(entry["payload"]).decode() for entry in self.events]
        return [
            decode_named(machine, "event", entry["name"], payload, self.version or written)
            for entry, payload in zip(self.events, payloads, strict=True)
        ]


def from_json(text: str) -> Known:
    """A kept outcome. Raises InvalidPayload, Sealed."""
    refuse_sealed(text, "a kept outcome")
    try:
        return msgspec.json.decode(text, type=Known)
    except msgspec.MsgspecError as error:
        raise InvalidPayload(f"a kept outcome does not fit: {error}") from error


def _doubtful(retry: Retry, claimed: Claimed, error: BaseException, kind: str) -> Outcome:
    """It may have happened, and a probe can be asked: also when the effect may be started no more, and then as often again."""
    if claimed.used >= 2 * retry.max_attempts:
        return GaveUp(f"nobody can tell whether it happened: {describe(error)}")
    return _again(retry, claimed, error, kind, in_doubt=True)


def _again(
    retry: Retry, claimed: Claimed, error: BaseException, kind: str, *, in_doubt: bool | None
) -> Outcome:
    try:
        delay = retry.delay(claimed.used, error)
    except Exception as bug:  # noqa: BLE001 - a user's wait strategy
        return GaveUp(f"{describe(error)}; its wait strategy raised {describe(bug)}")
    return Again(describe(error), delay, kind, in_doubt)

"""Why is it not moving? One answer from the facts: the reasons, the most telling first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

from fsm_core.types import ActionStatus, MachineStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from fsm_core.explain.facts import Action, Facts, Limited
    from fsm_core.registry import AnyMachine

PATIENCE = timedelta(seconds=5)
"""How long a step of the protocol may take before it is worth a word."""

START_RELAY = "start a relay: fsm relay"


class Weight(IntEnum):
    """How much a reason tells: what needs somebody's hand comes first."""

    BROKEN = 0  # nothing will move until somebody does something
    STUCK = 1  # it waits for something that may never come
    WAITS = 2  # it waits, and will go on by itself
    FINE = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: what (`code`, a promise), in words, and what to do about it, where somebody can."""

    weight: Weight
    code: str
    message: str
    advice: str | None = None


def explain(facts: Facts, machine: AnyMachine | None = None) -> tuple[Reason, ...]:
    """The reasons, the most telling first; always at least one. `machine`: its code, where it is known here."""
    return tuple(sorted(_reasons(facts, machine), key=lambda reason: reason.weight))


def _reasons(facts: Facts, machine: AnyMachine | None) -> Iterator[Reason]:
    record = facts.record
    if record.status is MachineStatus.UNBORN:
        yield Reason(
            Weight.STUCK,
            "unborn",
            f"it does not exist yet; {_count(record.held, 'signal')} held for its start",
            f"fsm start {record.machine}/{record.key}",
        )
        return
    if record.status is not MachineStatus.LIVE:
        yield Reason(Weight.FINE, "ended", f"it has ended: {record.status}, {_ago(facts, record.ended_at)}")
    elif record.version not in facts.versions.get(record.machine, frozenset()):
        yield _unread(facts)
    if record.status is MachineStatus.LIVE and all(a.told or _rings(facts, a) for a in facts.actions):
        yield _outside(facts, machine)
    for action in facts.actions:
        yield from _action(facts, action)


def _rings(facts: Facts, action: Action) -> bool:
    return action.timer is not None and action.run_at > facts.now


def _unread(facts: Facts) -> Reason:
    record = facts.record
    known = sorted(facts.versions.get(record.machine, ()))
    who = f"they read {', '.join(map(str, known))}" if known else "none of them lists it"
    return Reason(
        Weight.BROKEN, "unread-version",
        f"no live worker reads version {record.version} of {record.machine}: {who}",
        "list its machine in fsm_machines of a worker, or see `fsm upcast --dry-run`",
    )  # fmt: skip


def _outside(facts: Facts, machine: AnyMachine | None) -> Reason:
    record = facts.record
    held = (
        f"; {_count(record.held, 'event')} in its inbox, which no edge of this state takes"
        if record.held
        else ""
    )
    said = ""
    if machine is not None and record.state_name in machine.states:
        state = machine.states[record.state_name].cls
        taken = [
            m.name for m in machine.events.values() if m.from_outside and (state, m.key) in machine.edges
        ]
        said = f": {', '.join(taken)}" if taken else ": no edge leads out of this state"
    rings = any(_rings(facts, action) for action in facts.actions)
    under_way, weight = ("nothing but time", Weight.WAITS) if rings else ("nothing of it", Weight.STUCK)
    return Reason(weight, "waits-for-event", f"{under_way} is under way; it waits for an event{said}{held}")


def _action(facts: Facts, action: Action) -> Iterator[Reason]:
    name = f"{action.name} ({action.id})"
    if action.told:  # an effect that runs again now may do what the machine has given up on: no advice
        said = f"{name} failed: {action.error or 'no error is recorded'}; the machine was told, and went on"
        yield Reason(Weight.FINE, "failed-told", said)
    elif action.status is ActionStatus.FAILED:
        yield Reason(
            Weight.BROKEN,
            "failed",
            f"{name} failed: {action.error or 'no error is recorded'}",
            f"fsm retry {action.id}",
        )
    elif action.status is ActionStatus.RUNNING:
        yield _running(facts, action, name)
    elif action.status is ActionStatus.BLOCKED:
        yield from _blocked(facts, action, name)
    elif action.status is ActionStatus.PUBLISHED:
        yield _published(facts, action, name)
    else:
        yield from _pending(facts, action, name)


def _running(facts: Facts, action: Action, name: str) -> Reason:
    since = _ago(facts, action.started_at)
    where = action.worker or "a worker that is gone"
    if action.lease is None or action.lease < facts.now:
        said = f"{name} was running on {where}, whose lease has run out; a relay puts it back"
        weight = Weight.WAITS if facts.relays else Weight.BROKEN
        return Reason(weight, "lost-worker", said, None if facts.relays else START_RELAY)
    return Reason(Weight.WAITS, "running", f"{name} runs on {where}, attempt {action.attempt}, since {since}")


def _blocked(facts: Facts, action: Action, name: str) -> Iterator[Reason]:
    if action.run_at > facts.now:
        yield _later(facts, action, name)
    elif action.holder is not None:
        yield Reason(Weight.WAITS, "lane", f"{name} waits for its turn: {action.holder} has {action.lane}")
    elif action.limit is not None:
        limited = facts.limits.get((action.limit, action.limit_key or ""))
        yield _unset(action.limit, name) if limited is None else _limited(action, limited, name)
    elif facts.relays == 0:
        yield _no_relay(name)
    else:
        yield Reason(Weight.WAITS, "admission", f"{name} is about to be admitted")


def _unset(limit: str, name: str) -> Reason:
    said = f"{name} is under the limit {limit!r}, which nobody has set"
    return Reason(Weight.BROKEN, "unknown-limit", said, f"fsm limits set {limit}")


def _limited(action: Action, limited: Limited, name: str) -> Reason:
    of = f" of {action.limit_key!r}" if action.limit_key else ""
    said = f"{name} is under the limit {action.limit!r}{of}: {limited.running} run, {_allowed(limited)}"
    return _held_back(limited, said)


def _held_back(limited: Limited, said: str) -> Reason:
    paused = limited.max_running == 0
    return Reason(Weight.STUCK if paused else Weight.WAITS, "limit", said, "fsm limits" if paused else None)


def _allowed(limited: Limited) -> str:
    most = "any number may" if limited.max_running is None else f"{limited.max_running} may"
    if limited.rate is None or limited.per is None:
        return most
    return f"{most}, {limited.rate:g} begin in {_span(limited.per)}"


def _published(facts: Facts, action: Action, name: str) -> Reason:
    since = _ago(facts, action.published_at)
    if action.queue not in facts.queues:
        return _no_consumer(action, name)
    ahead = facts.published.get(action.queue, 1) - 1
    said = f"{name} was sent to queue {action.queue!r} {since} ago and not started; {ahead} others wait there"
    if action.publishes:
        said += f"; its message was sent again {_count(action.publishes, 'time')}"
    return Reason(Weight.WAITS, "published", said, None if facts.relays else START_RELAY)


def _pending(facts: Facts, action: Action, name: str) -> Iterator[Reason]:
    if action.run_at > facts.now:
        yield _later(facts, action, name)
    elif facts.relays == 0:
        yield _no_relay(name)
    elif action.queue not in facts.queues:
        yield _no_consumer(action, name)
    elif facts.now - action.run_at <= PATIENCE:
        yield Reason(Weight.WAITS, "due", f"{name} is about to be sent")
    else:
        yield _overdue(facts, action, f"{name} is due since {_ago(facts, action.run_at)}")


def _overdue(facts: Facts, action: Action, said: str) -> Reason:
    limited = facts.limits.get((f"queue:{action.queue}", ""))
    if limited is not None:
        said += f"; its queue {action.queue!r} is under a limit: {_allowed(limited)}"
        return _held_back(limited, said)
    window = facts.published.get(action.queue, 0)
    said += f": {_count(window, 'row')} of queue {action.queue!r} wait before it"
    said += "" if window else "; is the broker there?"
    return Reason(Weight.WAITS, "backlog", said, "more workers, or a look at the broker")


def _later(facts: Facts, action: Action, name: str) -> Reason:
    span = _span(action.run_at - facts.now)
    if action.timer is not None:
        what = "its state times out" if action.timer.startswith("state:") else f"timer {action.timer!r} rings"
        return Reason(Weight.WAITS, "timer", f"{what} in {span}")
    if action.note and not action.attempt:
        return Reason(Weight.STUCK, "handed-back", f"{name}: {action.note}; tried again in {span}")
    if action.attempt:
        said = f"{name}: attempt {action.attempt + 1} in {span}, after {action.error or action.note or 'an attempt that was lost'}"
        return Reason(Weight.WAITS, "retry", said)
    return Reason(Weight.WAITS, "later", f"{name} begins in {span}")


def _no_relay(name: str) -> Reason:
    return Reason(Weight.BROKEN, "no-relay", f"{name} is due, and no relay is alive", START_RELAY)


def _no_consumer(action: Action, name: str) -> Reason:
    return Reason(
        Weight.BROKEN, "no-consumer", f"{name} is for queue {action.queue!r}, which no live worker serves",
        f"start one: fsm worker -- -Q {action.queue}",
    )  # fmt: skip


def _ago(facts: Facts, then: datetime | None) -> str:
    return "a while" if then is None else _span(facts.now - then)


def _span(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

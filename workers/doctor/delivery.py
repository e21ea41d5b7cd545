"""What the schema, the processes and the rows of the outbox mean. Pure: each check is a function of facts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from fsm_core.draft import MAX_INBOX
from workers.doctor.findings import Finding, counted, error, fine, span, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fsm_core.postgres.flows.doctor import Depth, Failed, Lane, Lost, Process

START_RELAY = "start one: fsm relay"


class Revision(NamedTuple):
    """Where the schema is (None: nowhere), what this code needs, and all that it knows, its own included."""

    found: str | None
    needed: str
    known: frozenset[str]


class Delivery(NamedTuple):
    """The processes that nobody has buried, and the queues. patience: what may take so long without a word."""

    processes: tuple[Process, ...]
    depths: tuple[Depth, ...]
    patience: timedelta

    @property
    def relays(self) -> int:
        """How many live."""
        return sum(process.alive and process.kind == "relay" for process in self.processes)

    def serves(self, queue: str) -> bool:
        """Whether a worker that lives consumes it."""
        return any(queue in process.queues for process in self.processes if process.alive)


def schema(revision: Revision) -> Iterator[Finding]:
    """Is the schema the one that this code was written for?"""
    if revision.found == revision.needed:
        yield fine("schema", f"the schema is at {revision.needed}")
    elif revision.found is None:
        yield error("schema", "the tables are not there", "fsm migrate")
    elif revision.found in revision.known:
        said = f"the schema is at {revision.found}, this code needs {revision.needed}"
        yield error("schema", said, "fsm migrate")
    else:
        said = f"the schema is at {revision.found}, which is newer than this code ({revision.needed})"
        yield warning("schema", said, "deploy the release that brought it, also here")


def relay(delivery: Delivery) -> Iterator[Finding]:
    """Is somebody there who publishes?"""
    if delivery.relays:
        yield fine("relay", f"{counted(delivery.relays, 'relay')} alive")
    else:
        yield error("relay", "no relay is alive: nothing is published, no timer rings", START_RELAY)


def leases(delivery: Delivery) -> Iterator[Finding]:
    """Is who died also buried? What it ran goes back only then."""
    late = [process for process in delivery.processes if process.late > delivery.patience]
    for process in late[:20]:
        said = f"the lease of {process.kind} {process.where} ran out {span(process.late)} ago, and no relay has taken it away"
        yield error("leases", said, "look at the relays' logs" if delivery.relays else START_RELAY)
    if not late:
        alive = sum(process.alive for process in delivery.processes)
        yield fine("leases", f"{alive} of {len(delivery.processes)} leases hold; none is overdue")


def consumers(delivery: Delivery) -> Iterator[Finding]:
    """Does somebody serve each queue that has rows?"""
    deserted = [depth for depth in delivery.depths if not delivery.serves(depth.queue)]
    waiting = [depth for depth in deserted if depth.due or depth.published]
    for depth in waiting:
        rows = counted(depth.due + depth.published, "row")
        said = f"queue {depth.queue!r} has {rows} that are due, and no live worker serves it"
        yield error("no-consumer", said, f"start one: fsm worker -- -Q {depth.queue}")
    if not waiting:
        yield fine("no-consumer", "every queue with rows that are due has a worker")


def published(delivery: Delivery) -> Iterator[Finding]:
    """Does what was sent get started?"""
    slow = [depth for depth in delivery.depths if _over(depth.published_for, delivery.patience)]
    for depth in slow:
        if not delivery.serves(depth.queue):
            continue  # told as no-consumer
        said = f"queue {depth.queue!r}: {counted(depth.published, 'row')} sent and not started, the oldest for {_age(depth.published_for)}"
        if depth.running:
            yield warning("not-started", f"{said}; {depth.running} run", "more workers, or more slots")
        else:
            said += "; its workers run nothing: they do not hear, or the broker loses messages"
            yield error(
                "not-started", said, "look at the workers' logs and at the broker; restart the workers"
            )
    if not slow:
        oldest = max((d.published_for for d in delivery.depths if d.published_for), default=timedelta(0))
        yield fine("not-started", f"what was sent is started; the oldest waits for {span(oldest)}")


def due(delivery: Delivery) -> Iterator[Finding]:
    """Does what is due get sent?"""
    slow = [depth for depth in delivery.depths if _over(depth.due_for, delivery.patience)]
    for depth in slow:
        said = f"queue {depth.queue!r}: {counted(depth.due, 'row')} due and not sent, the oldest for {_age(depth.due_for)}"
        if not delivery.serves(depth.queue) or not delivery.relays:
            continue  # told as no-consumer or relay
        if depth.limited:
            yield warning("not-sent", f"{said}; the queue is under a limit", "look at it: fsm limits")
        elif depth.published or depth.running:
            yield warning("not-sent", f"{said}; its workers are busy", "more workers, or more slots")
        else:
            yield error(
                "not-sent",
                f"{said}, while its workers run nothing",
                "look at the relays' logs and at the broker",
            )
    if not slow:
        oldest = max((d.due_for for d in delivery.depths if d.due_for), default=timedelta(0))
        yield fine("not-sent", f"what is due is sent; the oldest waits for {span(oldest)}")


def lost(found: Sequence[Lost], patience: timedelta) -> Iterator[Finding]:
    """Does what ran under a worker that died go back?"""
    left = [each for each in found if each.buried is None or each.buried > patience]
    for each in left:
        who = "a worker that no row knows" if each.where is None else f"{each.where}, which is dead"
        said = f"{counted(each.actions, 'action')} run under {who}, and no relay puts them back"
        yield error("lost-worker", said, "look at the relays' logs; if there is none, " + START_RELAY)
    if not left:
        yield fine("lost-worker", "nothing runs under a worker that is dead")


def lanes(found: Sequence[Lane]) -> Iterator[Finding]:
    """Are lanes held up by their heads?"""
    for lane in found:
        what = {
            "running": "runs",
            "published": "was sent and is not started",
            "pending": "waits for its next attempt",
        }
        said = f"lane {lane.name!r}: {counted(lane.behind, 'action')} wait behind one of {lane.machine}, which {what[lane.status]} since {span(lane.since)}"
        tried = f" (attempt {lane.attempt})" if lane.attempt else ""
        yield warning("lane", said + tried, f"fsm explain {lane.machine}; to let the others go on, cancel it")
    if not found:
        yield fine("lane", "no lane waits for its head for long")


def limits(unset: Sequence[str]) -> Iterator[Finding]:
    """Is every limit that actions wait for set?"""
    for name in unset:
        said = f"actions wait for the limit {name!r}, which nobody has set"
        yield error("unset-limit", said, f"fsm limits set {name} --max-running N, or --unlimited")
    if not unset:
        yield fine("unset-limit", "every limit that actions wait for is set")


def failed(found: Failed) -> Iterator[Finding]:
    """Have actions failed for good?"""
    if found.last is None:
        yield fine("failed", "no action has failed")
        return
    said = f"{counted(found.actions, 'action')} failed for good, {found.lately:,} of them in the last hour; the last one {span(found.last)} ago"
    yield warning("failed", said, "fsm actions --failed; fsm explain says which to retry")


def inboxes(found: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Does a machine hold nearly as many events as it may?"""
    for machine, held in found:
        said = f"{machine} holds {held:,} of at most {MAX_INBOX:,} events: the next ones are refused"
        yield warning("inbox", said, f"fsm explain {machine} says what it waits for")
    if not found:
        yield fine("inbox", "no inbox is nearly full")


def unread(found: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Is every live machine read by somebody?"""
    for name, version in found:
        said = f"there are live machines {name} of version {version}, which no live worker reads: their results and timers wait"
        yield error(
            "unread-version", said, "list it in fsm_machines of a worker, or see fsm upcast --dry-run"
        )
    if not found:
        yield fine(
            "unread-version", "the versions of all live machines (of a sample, if they are many) are read"
        )


def _over(age: timedelta | None, patience: timedelta) -> bool:
    return age is not None and age > patience


def _age(age: timedelta | None) -> str:
    return "a while" if age is None else span(age)

"""How the processes of a run have behaved: what they said, how soon they recovered, what they hold on to."""

from __future__ import annotations

import re
from statistics import median
from typing import TYPE_CHECKING

from chaos.plan import SLOTS, TAIL
from chaos.verdict import Verdict
from fsm_core.delivery.reconcile import PATIENCE
from workers.relay import EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from chaos.evidence import Evidence
    from chaos.plan import Plan
    from chaos.remains import Action, Remains

SLACK = 10.0
"""Seconds beyond lease and sweep, for what is to be done then."""

BY_HAND = "Doomed"
"""The action that fails until somebody has retried it: how long that takes is the operator's business."""

FEWEST_SAMPLES = 40
MOST_GROWTH = 0.05
FEW_DEAD = 25
"""Dead rows that the processes' own heartbeats make while they are counted."""

EXPECTED = tuple(
    map(
        re.compile,
        (
            r"Task handler raised error: WorkerLostError\('Worker exited prematurely: signal 9",  # a pool's child was killed
            r"Process 'ForkPoolWorker-\d+' pid:\d+ exited with 'signal 9 ",
            r"billiard\.exceptions\.WorkerLostError: Worker exited prematurely: signal 9 ",
            r"billiard\.einfo\.ExceptionWithTraceback: *$",
            r"WorkerLostError(\('|: )Could not start worker processes",  # one was killed as the pool started: the worker ends
            r"consumer: Cannot connect to redis://",  # the broker is away
            # A server, or another process, is away: whichever of its layers says so, as an error or as the context of one.
            r"redis\.exceptions\.(Connection|Timeout)Error: ",
            r"(Connection(Refused|Reset|Aborted)?|BrokenPipe|Timeout)Error: ",
            r"kombu\.exceptions\.OperationalError: ",
            r"UNABLE TO RESTORE \d+ MESSAGES: ",  # kombu; they are hints, and are sent again
            r"EMERGENCY DUMP STATE TO FILE -> ",
            r"this worker cannot start: register: the database does not answer: ",  # it ends, and is started again
            r"the relay gives up: the database does not answer: ",
            r"the lease of worker [\w-]+ was taken away; what it runs is void",  # it was stopped, or cut off
            r"psycopg\.OperationalError: the connection is lost",  # SQLAlchemy, as it resets a connection that is gone
        ),
    )
)
"""What a process may say at level ERROR, or end a traceback with."""

UNWANTED = ("a message that is none of ours", "what is no message was dropped")
"""What it may not say at any level."""

_LEVEL = re.compile(r"(?:ERROR|CRITICAL)(?:/[^\]]*)?\] (.*)")
_TRACEBACK = "Traceback (most recent call last):"


def checks(evidence: Evidence, remains: Remains) -> list[Callable[[], Verdict]]:
    """All of them."""
    plan = evidence.plan
    return [
        lambda: recovered(evidence, remains.actions),
        lambda: tails(evidence, remains.journal.ok),
        lambda: complaints(evidence.folder),
        lambda: connections(plan, evidence.connections, evidence.left),
        lambda: vacuum(evidence.dead_before, evidence.dead),
        lambda: memory(evidence.memory),
    ]


def recovered(evidence: Evidence, actions: Mapping[str, Action]) -> Verdict:
    """After the last fault: what was open then ends within lease + sweep + 10 s, everything else in the plan's patience.

    The sweep of a message that was lost is the reconciler's: it waits twice as long each time that it has sent one again.
    """
    plan, healed = evidence.plan, evidence.healed
    open_ = open_at_last(evidence, actions)
    found = []
    for action in open_:
        sweep = PATIENCE.total_seconds() * 2**action.publishes + EVERY
        took = None if action.finished is None else action.finished - healed
        if took is None or took > plan.lease + sweep + SLACK:
            said = "never" if took is None else f"{took:.1f} s after the last fault"
            found.append(f"{action.id} {action.name} ended {said}; lease + sweep is {plan.lease + sweep:g} s")
    if evidence.healed_after is None:
        found.append(f"not everything had ended {plan.patience:g} s after the last fault")
    return Verdict(
        "recovered", "G6 G11", "after the last fault everything ends in time", len(open_) + 1, found
    )


def open_at_last(evidence: Evidence, actions: Mapping[str, Action]) -> list[Action]:
    """What was in flight when the last fault was over."""
    healed = evidence.healed
    return [
        action
        for action in actions.values()
        if action.created < healed and action.name != BY_HAND and (action.finished or healed) >= healed
    ]


def tails(evidence: Evidence, acknowledged: set[str]) -> Verdict:
    """After the last fault every submitter is served."""
    plan = evidence.plan
    found = [f"{name} did not come to its end" for name in evidence.unfinished]
    wanted = {f"{plan.seed}.tail{i}.{n}" for i in range(plan.submitters) for n in range(TAIL)}
    found += [f"{id_} was not acknowledged" for id_ in sorted(wanted - acknowledged)]
    return Verdict("tails", "G6", "the last events of each submitter are taken", len(wanted), found)


def complaints(folder: Path) -> Verdict:
    """No log tells of an exception or an error but the expected ones. trials: lines."""
    lines, found = 0, []
    for log in sorted(folder.glob("*.log")):
        said = log.read_text(errors="replace").splitlines()
        lines += len(said)
        found += [f"{log.name}: {each[:300]}" for each in unexpected(said)]
    return Verdict("complaints", "errors", "no process meets what it did not expect", lines, found)


def unexpected(lines: Sequence[str]) -> Iterator[str]:
    """The errors among the lines of a log, and the ends of its tracebacks, that are not `EXPECTED`; and what is `UNWANTED`."""
    for number, line in enumerate(lines):
        said = line
        if _TRACEBACK in line:
            # The next line that is not indented; other processes write to the same file.
            after = (each for each in lines[number + 1 :] if each.strip(' "') and each[0] not in " [")
            said = next(after, "a traceback without an end")
        elif level := _LEVEL.search(line):
            said = level[1]
        elif not any(each in line for each in UNWANTED):
            continue
        if not any(each.search(said) for each in EXPECTED):
            yield said


def connections(plan: Plan, open_: Mapping[str, int], left: int) -> Verdict:
    """When all is done each process has no more connections than its settings give it; when it has ended, none."""
    found = [
        f"{name} has {count} connections open, and should have {most(plan, name)} at most"
        for name, count in open_.items()
        if count > most(plan, name)
    ]
    found += [f"{left} are open though all processes have ended"] if left else []
    return Verdict("connections", "", "connections return to what the settings give", len(open_) + 1, found)


def most(plan: Plan, name: str) -> int:
    """How many connections a process may keep open: its pools', the lease's, a relay's bell; what is not of the run, none."""
    if name.startswith("relay-"):
        return 4
    if name not in plan.workers:
        return 0
    pool = plan.workers[name]
    return 1 + SLOTS[pool] * 4 if pool == "prefork" else SLOTS[pool] + 3


def vacuum(before: Mapping[str, int], after: Mapping[str, int]) -> Verdict:
    """Nothing holds dead rows back: after a VACUUM there are less than twice as many as before the load."""
    found = [
        f"{name} has {count} dead rows that cannot be removed, {before.get(name, 0)} before the load"
        for name, count in after.items()
        if count >= 2 * max(before.get(name, 0), FEW_DEAD)
    ]
    return Verdict("vacuum", "", "dead rows can be removed", len(after), found)


def memory(samples: Mapping[tuple[str, int], Sequence[int]]) -> Verdict:
    """A process that nobody kills does not grow by 5 % from the run's second quarter to its last, and does not end.

    samples: by name and pid. Too few of them, as those of a short run, say nothing.
    """
    names = [name for name, _ in samples]
    found = [
        f"{name} has ended though nobody killed it"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    enough = {name: sizes for (name, _), sizes in samples.items() if len(sizes) >= FEWEST_SAMPLES}
    for name, sizes in enough.items():
        early, late = grown(sizes)
        if late > early * (1 + MOST_GROWTH):
            found.append(f"{name} has grown from {early / 2**20:.1f} to {late / 2**20:.1f} MiB")
    return Verdict(
        "memory", "", "a process that lives on does not grow", sum(map(len, enough.values())), found
    )


def grown(sizes: Sequence[int]) -> tuple[float, float]:
    """What was usual in the second quarter, and in the last."""
    quarter = len(sizes) // 4
    return median(sizes[quarter : 2 * quarter]), median(sizes[-quarter:])

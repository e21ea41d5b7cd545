"""The oracle: what must hold after every run, whatever was done to it. Each check has a name, and says what it found."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.engine import make_url

from chaos.machines import BUDGET, DOOMED_BUDGET, MOST_AT_ONCE, TRACKED
from chaos.plan import TAIL
from chaos.truth import Start, starts
from chaos.witnesses import Journal, audit
from fsm_core.audit import Code
from fsm_core.postgres.crash import Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.run import Evidence

MOST_SAID = 20
FORMER = ("lost", "timed_out", "ignored", "released")
"""How an attempt ends whose effect may still be running."""

EFFECTS = frozenset(kind.__name__ for kind in TRACKED.values()) | {"Go", "begin", "pay", "ship"}
TOLD = frozenset({"After", "Send", "ChildEnded"})
ACTIONS = """
SELECT a.machine_id || '.' || a.seq || '.' || a.idx, m.fsm, m.key, a.name, a.status, a.attempt, a.budget_from, a.tracked, a.note
  FROM fsm.actions a JOIN fsm.machines m ON m.id = a.machine_id
"""
ATTEMPTS = "SELECT machine_id || '.' || seq || '.' || idx, attempt, outcome, started_at FROM fsm.attempts"
CAUSES = "SELECT cause, name, source FROM fsm.events WHERE cause IS NOT NULL AND seq > 0"
BROUGHT = """
SELECT payload ->> 'id', name FROM fsm.events WHERE source = 'call' AND seq > 0 AND name IN ('Do', 'Bad', 'Odd', 'Paid')
UNION ALL SELECT payload ->> 'id', name FROM fsm.inbox WHERE name IN ('Bad', 'Odd', 'Paid')
"""
BURIED = "SELECT extract(epoch FROM dead_at)::float8, host || ':' || pid FROM fsm.workers WHERE dead_at > alive_until AND kind <> 'relay'"
NUMBERS = "SELECT (SELECT count(*) FROM fsm.machines), (SELECT count(*) FROM fsm.events), (SELECT count(*) FROM fsm.actions)"
COMPLAINTS = (
    "could not be committed", "the heartbeat failed", "could not be started", "could not be recorded", "could not be applied",
    "Unrecoverable error", "a message that is none of ours",
)  # fmt: skip
"""What no log of a worker or relay may say."""


@dataclass
class Verdict:
    """What one check says. trials: how many things it looked at. failures: what it found, in words."""

    check: str
    guarantee: str
    says: str
    trials: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def bound(self) -> float | None:
        """The 95 % upper bound of the rate of failures, if none was found: 3 / n."""
        return 3 / self.trials if self.trials and not self.failures else None


@dataclass
class Judgement:
    """All of it. invalid: why the run proves nothing, green or not. numbers: what was counted."""

    verdicts: list[Verdict]
    invalid: list[str]
    numbers: dict[str, int]

    @property
    def green(self) -> bool:
        """Whether nothing was found."""
        return not any(verdict.failures for verdict in self.verdicts)

    @property
    def red(self) -> list[str]:
        """The checks that found something."""
        return [verdict.check for verdict in self.verdicts if verdict.failures]


@dataclass(frozen=True, slots=True)
class Action:
    """A row of the outbox."""

    id: str
    machine: str
    key: str
    name: str
    status: str
    attempt: int
    budget_from: int
    tracked: bool
    note: str | None

    @property
    def ignored(self) -> bool:
        """Whether its result was not applied, and says why."""
        return (self.note or "").startswith("ignored")


def judge(evidence: Evidence) -> Judgement:
    """Look at everything that a run has left behind."""
    oracle = Oracle(evidence)
    return Judgement([check() for check in oracle.checks()], oracle.invalid(), oracle.numbers())


class Oracle:
    """The checks over one run; what they need is read once."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        url = make_url(evidence.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            self._actions = {str(row[0]): Action(*row) for row in connection.execute(ACTIONS)}
            self._attempts: dict[str, dict[int, str]] = defaultdict(dict)
            for id_, number, outcome, _ in connection.execute(ATTEMPTS):
                self._attempts[id_][number] = outcome
            self._applied: dict[str, list[tuple[str, str]]] = defaultdict(list)
            for cause, name, source in connection.execute(CAUSES):
                self._applied[cause].append((name, source))
            self._brought = Counter((str(id_), str(name)) for id_, name in connection.execute(BROUGHT))
            self._buried = list(connection.execute(BURIED))
            self._numbers = dict(
                zip(
                    ("machines", "events", "actions"),
                    connection.execute(NUMBERS).fetchone() or (),
                    strict=True,
                )
            )
        self._starts = starts(evidence.folder)
        self._by_action: dict[str, list[Start]] = defaultdict(list)
        for start in self._starts:
            self._by_action[start.action].append(start)
        self._journal = Journal(evidence.folder)
        self._audit: tuple[int, list[tuple[Code, str]]] | None = None

    def checks(self) -> list[Callable[[], Verdict]]:
        """All of them."""
        return [
            self.atomic, self.acknowledged, self.once, self.gapless, self.replays, self.ended, self.recovered, self.explained,
            self.results, self.bounded, self.graves, self.refused, self.told, self.untracked, self.lanes, self.limits,
            self.callers, self.tails, self.complaints, self.connections,
        ]  # fmt: skip

    def numbers(self) -> dict[str, int]:
        """What there was."""
        lost = Counter(outcome for each in self._attempts.values() for outcome in each.values())
        return {
            **self._numbers,
            "deaths at crash points": len(self._evidence.points),
            "pairs of crash points": len(set(pairwise(self._evidence.points))),
            "starts of effects": len(self._starts),
            "effects run again": len(self._starts) - len(self._by_action),
            "retries by hand": sum(self._journal.retries.values()),
            "acknowledged": len(self._journal.ok),
            "unknown": len(self._journal.unknown),
            **{f"attempts {outcome}": number for outcome, number in sorted(lost.items())},
        }

    def invalid(self) -> list[str]:
        """Why the run proves nothing: too few faults hit what was in flight, or nothing ran twice."""
        wanted = self._evidence.plan.faults
        missed = [
            f"{name}: {self._evidence.hits[name]} of {fault.hits} faults demanded hit work in flight"
            for name, fault in wanted.items()
            if self._evidence.hits[name] < fault.hits
        ]
        if self._evidence.plan.crashes:
            missed += [f"no process died at {point}" for point in Point if point not in self._evidence.points]
        kills = any(
            fault.hits
            for name, fault in wanted.items()
            if name in ("kill_worker", "kill_child", "stop_worker")
        )
        if kills and len(self._starts) == len(self._by_action):
            missed.append("no effect ran twice")
        return missed

    def atomic(self) -> Verdict:
        """G1."""
        return self._audited(
            "atomic", "G1", "an event and its actions are committed together", (Code.ACTION, Code.ORPHAN)
        )

    def gapless(self) -> Verdict:
        """G4."""
        return self._audited(
            "gapless", "G4", "the events of a machine are numbered without a gap", (Code.GAP,)
        )

    def replays(self) -> Verdict:
        """G5."""
        rest = tuple(code for code in Code if code not in (Code.ACTION, Code.ORPHAN, Code.GAP))
        return self._audited("replays", "G5", "folding the log gives the state", rest)

    def _audited(self, check: str, guarantee: str, says: str, codes: tuple[Code, ...]) -> Verdict:
        if self._audit is None:
            self._audit = audit(self._evidence.url)
        events, found = self._audit
        return Verdict(check, guarantee, says, events, [said for code, said in found if code in codes])

    def acknowledged(self) -> Verdict:
        """G2."""
        missing = [
            f"{id_} is not in the log" for id_ in sorted(self._journal.ok) if not self._brought_of(id_)
        ]
        return Verdict("acknowledged", "G2", "what was acknowledged is there", len(self._journal.ok), missing)

    def once(self) -> Verdict:
        """G3."""
        twice = [f"{id_} is there {n} times" for (id_, _), n in self._brought.items() if n > 1]
        return Verdict("once", "G3", "an event is there once at most", len(self._journal.tried), twice)

    def ended(self) -> Verdict:
        """G6."""
        over = ("completed", "failed", "cancelled")
        left = [
            f"{a.id} {a.name} is {a.status}: {a.note}" for a in self._actions.values() if a.status not in over
        ]
        return Verdict("ended", "G6", "every action has ended", len(self._actions), left)

    def recovered(self) -> Verdict:
        """G6, G11."""
        after, patience = self._evidence.healed_after, self._evidence.plan.patience
        found = [] if after is not None else [f"not everything had ended {patience:g} s after the last fault"]
        return Verdict("recovered", "G6 G11", "after the last fault everything ends in time", 1, found)

    def explained(self) -> Verdict:
        """G7."""
        found = []
        for id_, runs in self._by_action.items():
            for number, count in Counter(run.attempt for run in runs).items():
                if count > 1:
                    found.append(f"{id_} {runs[0].name}: attempt {number} was started {count} times")
            known = self._recorded(id_)
            found += [
                f"{id_} {run.name}: no record of attempt {run.attempt}"
                for run in runs
                if run.attempt not in known
            ]
        return Verdict(
            "explained", "G7", "every start of an effect is an attempt on record", len(self._starts), found
        )

    def results(self) -> Verdict:
        """G8."""
        rows = [a for a in self._actions.values() if a.name in EFFECTS]
        found = []
        for action in rows:
            names = [name for name, source in self._applied[action.id] if source == "result"]
            failures = sum(name.startswith("Failed[") for name in names)
            good = len(names) - failures
            if good > 1 or len(names) > self._journal.budgets(action.id):
                found.append(
                    f"{action.id} {action.name}: applied {names}, budgets {self._journal.budgets(action.id)}"
                )
            elif action.status == "completed" and good == 0 and not action.ignored:
                found.append(f"{action.id} {action.name} is completed, and its machine was not told")
        return Verdict(
            "results", "G8", "a result is applied once, with the end of its action", len(rows), found
        )

    def bounded(self) -> Verdict:
        """G9."""
        found = []
        for id_, runs in self._by_action.items():
            action = self._actions.get(id_)
            if action is None or action.machine == "flow":
                continue
            most = DOOMED_BUDGET if action.name == "Doomed" else BUDGET if action.tracked else 1
            now = sum(run.attempt > action.budget_from for run in runs)
            if now > most or len(runs) > most * self._journal.budgets(id_):
                found.append(f"{id_} {action.name}: {len(runs)} starts, {now} in this budget of {most}")
        return Verdict(
            "bounded", "G9", "no effect starts more often than it may", len(self._by_action), found
        )

    def graves(self) -> Verdict:
        """G10."""
        lease = self._evidence.plan.lease
        found = [
            f"{who} was buried {dead - start:.1f} s after Postgres was back"
            for dead, who in self._buried
            for start in self._evidence.restarts
            if start < dead < start + lease * 0.9
        ]
        trials = len(self._evidence.restarts) * len(self._evidence.plan.workers)
        return Verdict("graves", "G10", "after an outage nobody is buried for a lease", trials, found)

    def refused(self) -> Verdict:
        """G12."""
        found = [
            f"{id_} was refused, and is there" for id_ in sorted(self._journal.no) if self._brought_of(id_)
        ]
        return Verdict("refused", "G12", "what was refused is nowhere", len(self._journal.no), found)

    def told(self) -> Verdict:
        """G13."""
        rows = [a for a in self._actions.values() if a.name in TOLD]
        found = []
        for action in rows:
            count = len(self._applied[action.id])
            if count > 1 or (action.status == "completed" and count == 0 and not action.ignored):
                found.append(f"{action.id} {action.name} is {action.status}, and was heard {count} times")
        return Verdict("told", "G13", "messages, timers and ends are heard once", len(rows), found)

    def untracked(self) -> Verdict:
        """At most once."""
        rows = [a for a in self._actions.values() if not a.tracked]
        found = [f"{a.id} {a.name} ran {n} times" for a in rows if (n := len(self._by_action[a.id])) > 1]
        return Verdict("untracked", "once", "an untracked effect runs once at most", len(rows), found)

    def lanes(self) -> Verdict:
        """A lane has one at a time."""
        groups = self._groups("lane-")
        found = [
            f"{one.group}: {one.action} attempt {one.attempt} still ran when {two.action} attempt {two.attempt} began"
            for runs in groups.values()
            for one, two in pairwise(sorted((r for r in runs if not self._former(r)), key=lambda r: r.began))
            if one.ended is None or one.ended > two.began
        ]
        return Verdict(
            "lanes", "order", "a lane never has two at once", sum(map(len, groups.values())), found
        )

    def limits(self) -> Verdict:
        """A limit's key has no more than it may."""
        groups = self._groups("limit-")
        found = []
        for group, runs in groups.items():
            mine = [run for run in runs if not self._former(run)]
            for run in mine:
                at_once = sum(o.began <= run.began and (o.ended is None or o.ended > run.began) for o in mine)
                if at_once > MOST_AT_ONCE:
                    found.append(f"{group}: {at_once} at once when {run.action} began")
        return Verdict("limits", "limits", "a limit is kept", sum(map(len, groups.values())), found)

    def callers(self) -> Verdict:
        """Nothing but what is documented is raised."""
        return Verdict(
            "callers",
            "errors",
            "a caller meets no error but the expected",
            len(self._journal.tried),
            self._journal.bugs,
        )

    def tails(self) -> Verdict:
        """After the last fault every submitter is served."""
        plan = self._evidence.plan
        found = [f"{name} did not come to its end" for name in self._evidence.unfinished]
        wanted = {f"{plan.seed}.tail{i}.{n}" for i in range(plan.submitters) for n in range(TAIL)}
        found += [f"{id_} was not acknowledged" for id_ in sorted(wanted - self._journal.ok)]
        return Verdict("tails", "G6", "the last events of each submitter are taken", len(wanted), found)

    def complaints(self) -> Verdict:
        """The logs of workers and relays."""
        said = [
            f"{log.name}: {line.strip()[:200]}"
            for log in sorted(self._evidence.folder.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if any(complaint in line for complaint in COMPLAINTS)
        ]
        return Verdict(
            "complaints",
            "errors",
            "no process meets what it did not expect",
            len(list(self._evidence.folder.glob("*.log"))),
            said,
        )

    def connections(self) -> Verdict:
        """Nothing is left open."""
        left = self._evidence.connections
        return Verdict(
            "connections", "", "no connection is left behind", 1, [f"{left} are open"] if left else []
        )

    def _brought_of(self, id_: str) -> int:
        return sum(self._brought[id_, name] for name in ("Do", "Bad", "Odd", "Paid"))

    def _recorded(self, id_: str) -> set[int]:
        action = self._actions.get(id_)
        own = {action.attempt} if action is not None else set()
        return own | set(self._attempts[id_])

    def _former(self, run: Start) -> bool:
        """Whether the protocol had given this start up, so that it may have run beside its successor."""
        action = self._actions.get(run.action)
        lost = self._attempts[run.action].get(run.attempt) in FORMER
        return lost or (action is not None and action.status == "cancelled")

    def _groups(self, prefix: str) -> dict[str, list[Start]]:
        found: dict[str, list[Start]] = defaultdict(list)
        for run in self._starts:
            if run.group.startswith(prefix):
                found[run.group].append(run)
        return found

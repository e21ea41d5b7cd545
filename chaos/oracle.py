"""The oracle: what must hold after every run, whatever was done to it. Each check has a name, and says what it found."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from chaos import conduct
from chaos.effects import BUDGET, BUDGETS
from chaos.machines import MOST_AT_ONCE, TRACKED
from chaos.remains import Remains
from chaos.verdict import Judgement, Verdict
from fsm_core.audit import Code
from fsm_core.postgres.crash import Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.evidence import Evidence

EFFECTS = frozenset(kind.__name__ for kind in TRACKED.values()) | {"Go", "Twice", "begin", "pay", "ship"}
TOLD = frozenset({"After", "Send", "ChildEnded"})


def judge(evidence: Evidence) -> Judgement:
    """Look at everything that a run has left behind."""
    oracle = Oracle(evidence)
    return Judgement([check() for check in oracle.checks()], oracle.invalid(), oracle.numbers())


class Oracle:
    """The checks over one run; what they need is read once."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._left = Remains(evidence.folder, evidence.url)

    def checks(self) -> list[Callable[[], Verdict]]:
        """All of them."""
        return [
            self.atomic, self.acknowledged, self.once, self.gapless, self.replays, self.ended, self.explained, self.results,
            self.bounded, self.graves, self.refused, self.told, self.untracked, self.lanes, self.limits, self.callers,
            *conduct.checks(self._evidence, self._left),
        ]  # fmt: skip

    def numbers(self) -> dict[str, int]:
        """What there was."""
        lost = Counter(outcome for each in self._left.attempts.values() for outcome in each.values())
        return {
            **self._left.numbers,
            "deaths at crash points": len(self._evidence.points),
            "starts of effects": len(self._left.starts),
            "effects run again": len(self._left.starts) - len(self._left.by_action),
            "retries by hand": sum(self._left.journal.retries.values()),
            "acknowledged": len(self._left.journal.ok),
            "unknown": len(self._left.journal.unknown),
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
        if self._evidence.plan.blow and not conduct.open_at_last(self._evidence, self._left.actions):
            missed.append("nothing was in flight at the last fault")
        if self._evidence.plan.crashes:
            missed += [f"no process died at {point}" for point in Point if point not in self._evidence.points]
        kills = any(
            fault.hits
            for name, fault in wanted.items()
            if name in ("kill_worker", "kill_child", "stop_worker")
        )
        if kills and len(self._left.starts) == len(self._left.by_action):
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
        events, found = self._left.audited
        return Verdict(check, guarantee, says, events, [said for code, said in found if code in codes])

    def acknowledged(self) -> Verdict:
        """G2."""
        missing = [
            f"{id_} is not in the log"
            for id_ in sorted(self._left.journal.ok)
            if not self._left.brought_of(id_)
        ]
        return Verdict(
            "acknowledged", "G2", "what was acknowledged is there", len(self._left.journal.ok), missing
        )

    def once(self) -> Verdict:
        """G3."""
        twice = [f"{id_} is there {n} times" for (id_, _), n in self._left.brought.items() if n > 1]
        return Verdict("once", "G3", "an event is there once at most", len(self._left.journal.tried), twice)

    def ended(self) -> Verdict:
        """G6."""
        over = ("completed", "failed", "cancelled")
        left = [
            f"{a.id} {a.name} is {a.status}: {a.note}"
            for a in self._left.actions.values()
            if a.status not in over
        ]
        return Verdict("ended", "G6", "every action has ended", len(self._left.actions), left)

    def explained(self) -> Verdict:
        """G7."""
        found = []
        for id_, runs in self._left.by_action.items():
            for number, count in Counter(run.attempt for run in runs).items():
                if count > 1:
                    found.append(f"{id_} {runs[0].name}: attempt {number} was started {count} times")
            known = self._left.recorded(id_)
            found += [
                f"{id_} {run.name}: no record of attempt {run.attempt}"
                for run in runs
                if run.attempt not in known
            ]
        return Verdict(
            "explained",
            "G7",
            "every start of an effect is an attempt on record",
            len(self._left.starts),
            found,
        )

    def results(self) -> Verdict:
        """G8."""
        rows = [a for a in self._left.actions.values() if a.name in EFFECTS]
        found = []
        for action in rows:
            names = [name for name, source in self._left.applied[action.id] if source == "result"]
            failures = sum(name.startswith("Failed[") for name in names)
            good = len(names) - failures
            if good > 1 or len(names) > self._left.journal.budgets(action.id):
                found.append(
                    f"{action.id} {action.name}: applied {names}, budgets {self._left.journal.budgets(action.id)}"
                )
            elif action.status == "completed" and good == 0 and not action.ignored:
                found.append(f"{action.id} {action.name} is completed, and its machine was not told")
        return Verdict(
            "results", "G8", "a result is applied once, with the end of its action", len(rows), found
        )

    def bounded(self) -> Verdict:
        """G9."""
        found = []
        for id_, runs in self._left.by_action.items():
            action = self._left.actions.get(id_)
            if action is None or action.machine == "flow":
                continue
            most = BUDGETS.get(action.name, BUDGET) if action.tracked else 1
            now = sum(run.attempt > action.budget_from for run in runs)
            if now > most or len(runs) > most * self._left.journal.budgets(id_):
                found.append(f"{id_} {action.name}: {len(runs)} starts, {now} in this budget of {most}")
        return Verdict(
            "bounded", "G9", "no effect starts more often than it may", len(self._left.by_action), found
        )

    def graves(self) -> Verdict:
        """G10."""
        lease = self._evidence.plan.lease
        found = [
            f"{who} was buried {dead - answered:.1f} s after Postgres was back"
            for dead, who in self._left.buried
            for stopped, answered in self._evidence.restarts
            if stopped < dead < answered + lease * 0.9
        ]
        trials = len(self._evidence.restarts) * len(self._evidence.plan.workers)
        return Verdict("graves", "G10", "after an outage nobody is buried for a lease", trials, found)

    def refused(self) -> Verdict:
        """G12."""
        found = [
            f"{id_} was refused, and is there"
            for id_ in sorted(self._left.journal.no)
            if self._left.brought_of(id_)
        ]
        return Verdict("refused", "G12", "what was refused is nowhere", len(self._left.journal.no), found)

    def told(self) -> Verdict:
        """G13."""
        rows = [a for a in self._left.actions.values() if a.name in TOLD]
        found = []
        for action in rows:
            count = len(self._left.applied[action.id])
            if count > 1 or (action.status == "completed" and count == 0 and not action.ignored):
                found.append(f"{action.id} {action.name} is {action.status}, and was heard {count} times")
        return Verdict("told", "G13", "messages, timers and ends are heard once", len(rows), found)

    def untracked(self) -> Verdict:
        """At most once."""
        rows = [a for a in self._left.actions.values() if not a.tracked]
        found = [f"{a.id} {a.name} ran {n} times" for a in rows if (n := len(self._left.by_action[a.id])) > 1]
        return Verdict("untracked", "once", "an untracked effect runs once at most", len(rows), found)

    def lanes(self) -> Verdict:
        """A lane has one at a time."""
        groups = self._left.groups("lane-")
        found = [
            f"{one.group}: {one.action} attempt {one.attempt} still ran when {two.action} attempt {two.attempt} began"
            for runs in groups.values()
            for one, two in pairwise(
                sorted((r for r in runs if not self._left.former(r)), key=lambda r: r.began)
            )
            if one.ended is None or one.ended > two.began
        ]
        return Verdict(
            "lanes", "order", "a lane never has two at once", sum(map(len, groups.values())), found
        )

    def limits(self) -> Verdict:
        """A limit's key has no more than it may."""
        groups = self._left.groups("limit-")
        found = []
        for group, runs in groups.items():
            mine = [run for run in runs if not self._left.former(run)]
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
            len(self._left.journal.tried),
            self._left.journal.bugs,
        )

"""What a run has left behind, read once: the tables, the effects' own notes, the callers' journals."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.engine import make_url

from chaos.truth import Start, starts
from chaos.witnesses import Journal, audit

if TYPE_CHECKING:
    from pathlib import Path

    from fsm_core.audit import Code

FORMER = ("lost", "timed_out", "ignored", "released")
"""How an attempt ends whose effect may still be running."""

ACTIONS = """
SELECT a.machine_id || '.' || a.seq || '.' || a.idx, m.fsm, m.key, a.name, a.status, a.attempt, a.budget_from, a.tracked, a.note,
       a.publishes, extract(epoch FROM a.created_at)::float8, extract(epoch FROM a.finished_at)::float8
  FROM fsm.actions a JOIN fsm.machines m ON m.id = a.machine_id
"""
ATTEMPTS = "SELECT machine_id || '.' || seq || '.' || idx, attempt, outcome FROM fsm.attempts"
CAUSES = "SELECT cause, name, source FROM fsm.events WHERE cause IS NOT NULL AND seq > 0"
BROUGHT = """
SELECT payload ->> 'id', name FROM fsm.events WHERE source = 'call' AND seq > 0 AND name IN ('Do', 'Bad', 'Odd', 'Paid')
UNION ALL SELECT payload ->> 'id', name FROM fsm.inbox WHERE name IN ('Bad', 'Odd', 'Paid')
"""
BURIED = "SELECT extract(epoch FROM dead_at)::float8, host || ':' || pid FROM fsm.workers WHERE dead_at > alive_until AND kind <> 'relay'"
NUMBERS = "SELECT (SELECT count(*) FROM fsm.machines), (SELECT count(*) FROM fsm.events), (SELECT count(*) FROM fsm.actions)"


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
    publishes: int
    created: float
    finished: float | None

    @property
    def ignored(self) -> bool:
        """Whether its result was not applied, and says why."""
        return (self.note or "").startswith("ignored")


class Remains:
    """Of the run in `folder`, in the database at `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        self._url = url
        self._audited: tuple[int, list[tuple[Code, str]]] | None = None
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            self.actions = {str(row[0]): Action(*row) for row in connection.execute(ACTIONS)}
            self.attempts: dict[str, dict[int, str]] = defaultdict(dict)
            for id_, number, outcome in connection.execute(ATTEMPTS):
                self.attempts[id_][number] = outcome
            self.applied: dict[str, list[tuple[str, str]]] = defaultdict(list)
            for cause, name, source in connection.execute(CAUSES):
                self.applied[cause].append((name, source))
            self.brought = Counter((str(id_), str(name)) for id_, name in connection.execute(BROUGHT))
            self.buried: list[tuple[float, str]] = list(connection.execute(BURIED))
            (counts,) = connection.execute(NUMBERS)
        self.numbers: dict[str, int] = dict(zip(("machines", "events", "actions"), counts, strict=True))
        self.starts = starts(folder)
        self.by_action: dict[str, list[Start]] = defaultdict(list)
        for start in self.starts:
            self.by_action[start.action].append(start)
        self.journal = Journal(folder)

    @property
    def audited(self) -> tuple[int, list[tuple[Code, str]]]:
        """What `fsm fsck` says: how many events were replayed, and what was found."""
        if self._audited is None:
            self._audited = audit(self._url)
        return self._audited

    def brought_of(self, id_: str) -> int:
        """How often an event of a caller is there."""
        return sum(self.brought[id_, name] for name in ("Do", "Bad", "Odd", "Paid"))

    def recorded(self, id_: str) -> set[int]:
        """The attempts of an action that are on record."""
        action = self.actions.get(id_)
        own = {action.attempt} if action is not None else set()
        return own | set(self.attempts[id_])

    def former(self, run: Start) -> bool:
        """Whether the protocol had given this start up, so that it may have run beside its successor."""
        action = self.actions.get(run.action)
        lost = self.attempts[run.action].get(run.attempt) in FORMER
        return lost or (action is not None and action.status == "cancelled")

    def groups(self, prefix: str) -> dict[str, list[Start]]:
        """The starts of effects that share a lane or a limit's key, by its name."""
        found: dict[str, list[Start]] = defaultdict(list)
        for run in self.starts:
            if run.group.startswith(prefix):
                found[run.group].append(run)
        return found

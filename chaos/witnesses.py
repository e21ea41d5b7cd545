"""The witnesses that the oracle hears besides the tables: the journals of the callers, and `fsm fsck` over every machine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from chaos.machines import ALL
from chaos.truth import JOURNALS, lines
from fsm_core.audit import Code, fsck
from fsm_core.postgres import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Journal:
    """What submitters and the operator wrote down."""

    def __init__(self, folder: Path) -> None:
        self.tried: set[str] = set()
        self.ok: set[str] = set()
        self.no: set[str] = set()
        self.unknown: set[str] = set()
        self.bugs: list[str] = []
        self.retries: Counter[str] = Counter()
        paid = set()
        for file in sorted(folder.glob(f"{JOURNALS}*")):
            for kind, *rest in lines(file):
                if kind == "retry":
                    self.retries[rest[0]] += 1
                elif kind == "not retried":
                    self.retries[rest[0]] -= 1
                elif kind == "try":
                    self.tried.add(rest[0])
                    if rest[2] == "signal":
                        paid.add(rest[0])
                elif kind == "bug":
                    self.bugs.append(f"{file.name}: {' '.join(rest[:-1])[:300]}")
                elif kind in ("ok", "no", "unknown"):
                    {"ok": self.ok, "no": self.no, "unknown": self.unknown}[kind].add(rest[0])
        # A signal that is refused because its flow was cancelled meanwhile may have been taken before.
        self.no -= paid
        self.unknown -= self.ok

    def budgets(self, action: str) -> int:
        """How many budgets an action may have had: its first, and one for each retry by hand that may have got in."""
        return 1 + self.retries[action]


def audit(url: str) -> tuple[int, list[tuple[Code, str]]]:
    """`fsm fsck` over everything: how many events were replayed, and what was found."""
    engine = create_engine(url)
    store = PostgresStore(engine, machines=ALL)
    events, found, after = 0, [], None
    while logs := store.logs(after=after):
        for log in logs:
            report = fsck(log, store.registry)
            events += report.events
            found += [
                (each.code, f"{each.machine}/{each.key}, event {each.seq}: {each.message}")
                for each in report.findings
            ]
        found += _orphans(store.orphans(after, logs[-1].seen.id))
        after = logs[-1].seen.id
    found += _orphans(store.orphans(after))
    engine.dispose()
    return events, found


def _orphans(found: Iterable[object]) -> list[tuple[Code, str]]:
    return [(Code.ORPHAN, str(each)) for each in found]

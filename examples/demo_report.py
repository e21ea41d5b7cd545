"""The demo's figures. All of them are read from the tables: what is not in a row did not happen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from sqlalchemy import Engine, text

# An order has ended when its machine has and nothing is left to do for it.
SO_FAR = """
SELECT count(*) FILTER (WHERE m.ended_at IS NOT NULL AND a.open = 0), coalesce(sum(a.retries), 0)
  FROM {s}.machines m CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE finished_at IS NULL) AS open, sum(greatest(attempt - 1, 0)) AS retries
         FROM {s}.actions WHERE machine_id = m.id) a
 WHERE m.fsm = 'orders' AND m.key = ANY (:keys)
"""

STATES = """
SELECT state_name, count(*) FROM {s}.machines WHERE fsm = 'orders' AND key = ANY (:keys) AND ended_at IS NOT NULL GROUP BY 1
"""

# The last attempt of an action stands on its row; those before it have rows of their own, with their outcomes.
TOTALS = """
SELECT count(*) AS actions, sum(a.attempt) AS attempts, sum(greatest(a.attempt - 1, 0)) AS retries,
       percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM f.started_at - a.created_at) * 1000) AS latency,
       extract(epoch FROM max(a.finished_at) - min(m.created_at)) AS seconds,
       (SELECT count(*) FROM {s}.events e JOIN {s}.machines m ON m.id = e.machine_id
         WHERE m.fsm = 'orders' AND m.key = ANY (:keys) AND e.seq > 0) AS events
  FROM {s}.actions a JOIN {s}.machines m ON m.id = a.machine_id CROSS JOIN LATERAL (
       SELECT least(a.started_at, min(t.started_at)) AS started_at FROM {s}.attempts t
        WHERE t.machine_id = a.machine_id AND t.seq = a.seq AND t.idx = a.idx AND t.outcome <> 'released') f
 WHERE m.fsm = 'orders' AND m.key = ANY (:keys)
"""

OUTCOMES = """
SELECT t.outcome, count(*) FROM {s}.attempts t JOIN {s}.machines m ON m.id = t.machine_id
 WHERE m.fsm = 'orders' AND m.key = ANY (:keys) GROUP BY 1
"""


@dataclass(frozen=True)
class Figures:
    """states: orders in each final state. outcomes: unsuccessful attempts by how they ended. Latencies in ms."""

    states: dict[str, int]
    outcomes: dict[str, int]
    events: int
    actions: int
    attempts: int
    retries: int
    seconds: float
    p50: float
    p99: float

    @property
    def ended(self) -> int:
        """How many orders came to their end."""
        return sum(self.states.values())

    def table(self, books: dict[str, int]) -> Table:
        """The closing table. books: what the shop itself says of cards and parcels."""
        shipped, declined, cancelled = (self.states.get(s, 0) for s in ("Shipped", "Declined", "Cancelled"))
        failed, overdue, lost = (self.outcomes.get(o, 0) for o in ("error", "timed_out", "lost"))
        table = Table("", "", "", show_header=False, box=None, padding=(0, 1))
        table.columns[1].justify = "right"
        for name, figure, note in (
            ("orders done", shipped, "shipped"),
            (
                "orders failed",
                declined + cancelled,
                f"{declined} declined, {cancelled} cancelled and refunded",
            ),
            ("events", self.events, ""),
            ("actions", self.actions, ""),
            ("attempts", self.attempts, ""),
            (
                "retries",
                self.retries,
                f"{failed} refused, {overdue} unanswered, {lost} lost with their worker",
            ),
            (
                "throughput",
                f"{self.ended / self.seconds:.1f}/s",
                f"orders; {self.actions / self.seconds:.1f} actions/s",
            ),
            ("latency p50", f"{self.p50:.0f} ms", "from `advance` to the effect's start"),
            ("latency p99", f"{self.p99:.0f} ms", ""),
            ("charged twice", books["charged_twice"], f"of {books['charged']} cards"),
            ("sent twice", books["sent_twice"], f"of {books['sent']} parcels"),
        ):
            table.add_row(name, str(figure), note)
        return table


def so_far(engine: Engine, schema: str, keys: Sequence[str]) -> tuple[int, int]:
    """How many of these orders have ended, and how many retries it took so far."""
    ((ended, retries),) = rows(engine, schema, SO_FAR, keys)
    return int(ended), int(retries)


def figures(engine: Engine, schema: str, keys: Sequence[str]) -> Figures:
    """What became of these orders."""
    ((actions, attempts, retries, (p50, p99), seconds, events),) = rows(engine, schema, TOTALS, keys)
    states, outcomes = dict(rows(engine, schema, STATES, keys)), dict(rows(engine, schema, OUTCOMES, keys))
    return Figures(
        states, outcomes, events, actions, int(attempts), int(retries), float(seconds), float(p50), float(p99)
    )


def rows(engine: Engine, schema: str, statement: str, keys: Sequence[str]) -> list[Any]:
    """The rows of a statement about the orders `keys`."""
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(text(statement.format(s=schema)), {"keys": list(keys)})
        ]

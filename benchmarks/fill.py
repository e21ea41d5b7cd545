"""A database that has been in use for long: machines, events, finished actions and timers that are not due, by SQL alone."""

from dataclasses import dataclass

import psycopg

from benchmarks.frame import Options
from fsm_core.postgres.migrate import upgrade

CROWD = "crowd"
"""The name of the machines that are only there."""

# uuidv7 goes by time, as in life: the crowd is older than what is measured.
MACHINES = f"""
INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at)
SELECT uuidv7(interval '-30 days'), '{CROWD}', n::text, 1, 'live', 'Counted', '{{"asked": 4, "answered": 1}}'::jsonb, %(events)s::int - 1,
       %(events)s, now() - interval '30 days', now() - interval '1 day' FROM generate_series(1, %(machines)s::int) n
"""
EVENTS = f"""
INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, call_id, occurred_at)
SELECT m.id, e, 'Go', '{{"nap": 0.0}}'::jsonb, 1, 'applied', 'advance', gen_random_uuid(), now() - interval '2 days'
  FROM fsm.machines m CROSS JOIN generate_series(0, %(events)s::int - 1) e WHERE m.fsm = '{CROWD}'
"""
ACTIONS = f"""
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at,
                         attempt, token, worker_id, published_at, started_at, finished_at)
SELECT id, 1, 0, 'Work', 1, '{{"nap": 0.0}}'::jsonb, true, 'completed', 'default', 5, t, t, 1, gen_random_uuid(),
       gen_random_uuid(), t, t, t FROM fsm.machines, LATERAL (SELECT now() - interval '2 days' AS t) WHERE fsm = '{CROWD}'
"""
TIMERS = f"""
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, timer, outcome, created_at,
                         run_at)
SELECT id, 2, 0, 'After', 1, '{{"nap": 0.0}}'::jsonb, true, 'pending', 'default', 5, 'later', '{{"nap": 0.0}}'::jsonb, now(),
       now() + interval '30 days' * (1 + random()) FROM fsm.machines WHERE fsm = '{CROWD}' LIMIT %(timers)s
"""


@dataclass(frozen=True)
class Size:
    """What there is before the measurement begins."""

    machines: int
    events: int
    timers: int

    def __str__(self) -> str:
        """As the tables say it."""
        return f"{self.machines:,} machines, {self.machines * self.events:,} events, {self.timers:,} timers"


def size(options: Options) -> Size:
    """A million machines, or a part of them."""
    return Size(options.scaled(1_000_000, 50), 5, options.scaled(100_000, 5))


def grown(database_url: str, of: Size) -> None:
    """Tables, and the crowd in them."""
    upgrade(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in (MACHINES, EVENTS, ACTIONS, TIMERS):
            values = {"machines": of.machines, "events": of.events, "timers": of.timers}
            connection.execute(statement, values)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")

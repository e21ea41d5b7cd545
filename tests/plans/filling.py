"""A database of P6's size (docs: performance targets), or of a part of it, made by SQL alone; and a backlog on top of it."""

from dataclasses import dataclass
from typing import Any

import psycopg

TABLES = ("machines", "events", "actions", "attempts", "inbox", "dedup", "snapshots")
"""Those that grow: none of them may be read as a whole."""


@dataclass(frozen=True)
class Size:
    """How much there is. `machines`: each with five events and one finished action; two thirds of them have ended."""

    machines: int
    timers: int
    backlog: int

    @property
    def lanes(self) -> int:
        return self.backlog // 10


FULL = Size(machines=1_000_000, timers=100_000, backlog=50_000)
SMALL = Size(machines=40_000, timers=4_000, backlog=10_000)
"""For every run of the tests: large enough that a plan that reads a table, or sorts the backlog, is dearer than the right one."""

# The id of the parcel `n`: of version 7, born one after another within the last year.
PARCEL_ID = """
CREATE FUNCTION pg_temp.parcel(n int, most int) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((1735689600000 + n * (31536000000 / most))::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
          || substr(md5(n::text), 4, 15))::uuid $$
"""

# What has been: machines, their logs, actions that have finished, with failed attempts, keys and snapshots. Of three parcels two are
# gone. A tenth are children, as many came by a signal with a key, some are not born, and one in five hundred has failed actions.
MACHINES = """
INSERT INTO fsm.machines (id, fsm, key, version, status, state_name, state, seq, rev, inbox, parent, parent_queue, created_at,
                          updated_at, ended_at)
SELECT pg_temp.parcel(n, {machines}), 'parcel', n::text, 1, CASE WHEN n % 3 = 0 THEN 'live' ELSE 'done' END,
       CASE WHEN n % 3 = 0 THEN 'Packed' ELSE 'Gone' END,
       CASE WHEN n % 3 = 0 THEN '{{"weight": 3}}' ELSE '{{"where": "home"}}' END::jsonb, 4, 5, (n % 60 = 0)::int,
       CASE WHEN n % 10 = 3 THEN pg_temp.parcel(n - 2, {machines}) END, CASE WHEN n % 10 = 3 THEN 'default' END,
       t.at, t.at + interval '1 hour', CASE WHEN n % 3 > 0 THEN t.at + interval '1 hour' END
  FROM generate_series(1, {machines}) n, LATERAL (SELECT now() - interval '1 year' * (1 - n / {machines}.0) AS at) t;
"""

LOGS = """
CREATE TEMPORARY TABLE made ON COMMIT DROP AS
  SELECT m.id, m.key, m.key::int AS n, m.created_at, m.updated_at FROM fsm.machines m;
INSERT INTO fsm.events (machine_id, seq, name, payload, version, outcome, source, call_id, occurred_at)
SELECT m.id, s, CASE WHEN s = 0 THEN 'Packed' ELSE 'Move' END,
       CASE WHEN s = 0 THEN '{{"weight": 0}}' ELSE '{{"how": "plain", "what": ""}}' END::jsonb, 1, 'applied', 'call', gen_random_uuid(), m.created_at + s * interval '15 min'
  FROM made m, generate_series(0, 4) s;
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at, attempt,
                         token, worker_id, published_at, started_at, finished_at, outcome)
SELECT m.id, 1, 0, 'Carry', 1, '{{"how": "plain", "what": ""}}', true, CASE WHEN m.n % 500 = 0 THEN 'failed' ELSE 'completed' END,
       'default', 5, m.created_at, m.created_at, 1, gen_random_uuid(), gen_random_uuid(), m.created_at, m.created_at,
       m.updated_at, '{{"events": []}}'
  FROM made m;
INSERT INTO fsm.attempts (machine_id, seq, idx, token, attempt, worker_id, started_at, ended_at, outcome)
SELECT a.machine_id, a.seq, a.idx, gen_random_uuid(), 1, gen_random_uuid(), a.run_at, a.run_at, 'error'
  FROM made m JOIN fsm.actions a ON a.machine_id = m.id AND a.seq = 1 WHERE m.n % 10 = 0;
INSERT INTO fsm.dedup (machine_id, key, digest, seq, at)
SELECT m.id, 'evt-' || m.key, '\\x00', 1, m.created_at FROM made m WHERE m.n % 2 = 0;
INSERT INTO fsm.snapshots (machine_id, seq, version, state_name, state)
SELECT m.id, 2, 1, 'Packed', '{{"weight": 1}}' FROM made m WHERE m.n % 10 = 1;
INSERT INTO fsm.inbox (machine_id, name, payload, version, source, received_at, expires_at)
SELECT m.id, 'Move', '{{"how": "plain", "what": ""}}', 1, 'call', m.updated_at,
       CASE WHEN m.n % 600 = 0 THEN m.updated_at + interval '1 day' END FROM made m WHERE m.n % 60 = 0;
"""

# What is to be done: timers far away; rows that are due, of several priorities, and rows that wait to be tried again; published ones,
# some of them long ago; what a dead worker was running; lanes with ten rows each; a limit with many keys.
BACKLOG = """
INSERT INTO fsm.workers (id, kind, host, pid, queues, known, claimed, started_at, alive_until, dead_at)
SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'node', 'host', n, '{{"default": 8}}', '{{"parcel": [1]}}', '{{}}', now(),
       now() + interval '1 hour', CASE WHEN n = 2 THEN now() END FROM generate_series(1, 3) n;
INSERT INTO fsm.limits (name, max_running) VALUES ('vans', 100), ('queue:bounded', 50);
CREATE TEMPORARY TABLE alive ON COMMIT DROP AS
  SELECT m.id, row_number() OVER (ORDER BY m.id DESC)::int AS n FROM fsm.machines m WHERE m.status = 'live';
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at, timer, outcome)
SELECT l.id, 2, 0, 'After', 1, '{{}}', true, 'pending', 'default', 5, now(), now() + l.n * interval '1 min' + interval '1 day', 'later',
       '{{"events": [{{"name": "Later", "payload": {{}}}}]}}'
  FROM alive l WHERE l.n <= {timers};
INSERT INTO fsm.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane, limit_name, limit_key,
                         created_at, run_at, attempt, token, worker_id, published_at, started_at)
SELECT l.id, 3, r.idx, 'Carry', 1, '{{"how": "plain", "what": ""}}', true, r.status, r.queue, r.priority, r.lane, r.limit_name, r.limit_key,
       r.at, r.at, 1, gen_random_uuid(), CASE WHEN r.status = 'running' THEN '00000000-0000-4000-8000-000000000002'::uuid END, r.at, r.at
  FROM alive l, LATERAL (SELECT now() - l.n * interval '20 ms' AS at) t, LATERAL (VALUES
    (0, 'pending', 'default', 5, NULL, NULL, NULL, t.at),
    (1, 'pending', 'default', 2, NULL, NULL, NULL, CASE WHEN l.n % 50 = 0 THEN t.at END),
    (2, 'pending', 'default', 5, NULL, NULL, NULL, CASE WHEN l.n % 5 = 0 THEN t.at + interval '2 hours' END),
    (3, 'published', 'default', 5, NULL, NULL, NULL, CASE WHEN l.n % 50 = 0 THEN t.at - interval '1 hour' END),
    (4, 'running', 'default', 5, NULL, NULL, NULL, CASE WHEN l.n % 50 = 1 THEN t.at END),
    (5, 'blocked', 'default', 5, 'lane-' || l.n % {lanes}, NULL, NULL, CASE WHEN l.n % 2 = 0 THEN t.at END),
    (6, 'blocked', 'default', 5, NULL, 'vans', 'van-' || l.n % 50, CASE WHEN l.n % 2 = 1 THEN t.at END),
    (7, 'pending', 'bounded', 5, NULL, NULL, NULL, CASE WHEN l.n % 10 = 1 THEN t.at END)
  ) r(idx, status, queue, priority, lane, limit_name, limit_key, at)
 WHERE l.n <= {backlog} AND r.at IS NOT NULL;
"""


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Leave statistics to those who say what they are to be of: nobody analyzes a table meanwhile. Comes first, once."""
    for table in TABLES:
        connection.execute(f"ALTER TABLE fsm.{table} SET (autovacuum_enabled = false)".encode())


def fill(connection: psycopg.Connection[Any], size: Size) -> None:
    """The history. No table is analyzed."""
    bear(connection, size)
    record(connection)


def bear(connection: psycopg.Connection[Any], size: Size) -> None:
    """Machines, as if nothing were known of their lives."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute(PARCEL_ID.encode())
        connection.execute(MACHINES.format(machines=size.machines).encode())


def record(connection: psycopg.Connection[Any]) -> None:
    """Their logs, and all that has finished."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute(LOGS.format().encode())


def pile_up(connection: psycopg.Connection[Any], size: Size) -> None:
    """The backlog, and the timers."""
    with connection.transaction():
        given = {"timers": size.timers, "lanes": size.lanes, "backlog": size.backlog}
        connection.execute(BACKLOG.format(**given).encode())


def analyze(connection: psycopg.Connection[Any]) -> None:
    """Fresh statistics, and a map of the pages that everybody sees: what autovacuum does by and by."""
    connection.execute("VACUUM (ANALYZE)")

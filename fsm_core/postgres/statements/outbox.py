"""What a worker and an operator do to actions.

Rows addressed by key are locked by key alone, and their status is tested behind a MATERIALIZED fence: with the status in
the scan, statistics taken while a queue was empty make the planner read a partial index for every id.
"""

from fsm_core.postgres.statements import Statement

# Start what a message names: count the attempt before the effect runs, take a fresh claim. Never waits. Index: actions_pkey.
# An untracked action is completed by its claim: at most once. A row with a known outcome is not claimed, only handed over.
CLAIM = Statement(
    "claim",
    """
WITH l AS MATERIALIZED (
  SELECT a.* FROM unnest(%(machine)s::uuid[], %(seq)s::int[], %(idx)s::smallint[]) AS u(machine_id, seq, idx)
    JOIN {s}.actions a USING (machine_id, seq, idx) FOR NO KEY UPDATE OF a SKIP LOCKED),
ok AS MATERIALIZED (SELECT * FROM l WHERE status = 'published' AND token = %(ticket)s),
c AS (
  UPDATE {s}.actions a
     SET status = CASE WHEN a.tracked THEN 'running' ELSE 'completed' END, attempt = a.attempt + 1, token = %(claim)s,
         worker_id = %(worker)s, started_at = clock_timestamp(), note = NULL,
         finished_at = CASE WHEN a.tracked THEN NULL ELSE clock_timestamp() END
    FROM ok WHERE ok.outcome IS NULL AND a.machine_id = ok.machine_id AND a.seq = ok.seq AND a.idx = ok.idx
  RETURNING a.*)
SELECT x.machine_id, x.seq, x.idx, m.fsm, m.key, x.version, x.name, x.payload::text, x.tracked, x.queue, x.attempt, x.budget_from,
       x.lost, x.in_doubt, x.outcome::text, x.published_at, CASE WHEN x.outcome IS NULL THEN x.started_at END, x.created_at
  FROM (SELECT c.* FROM c UNION ALL SELECT ok.* FROM ok WHERE ok.outcome IS NOT NULL) x
 CROSS JOIN LATERAL (SELECT o.fsm, o.key FROM {s}.machines o WHERE o.id = x.machine_id OFFSET 0) m
""",
)

# Move actions without touching their machines: completed without events, retry, release, hand back, outcome kept. Guard:
# status and token. Never waits: what is missing in the answer was not ours, or is tried again. Index: actions_pkey.
# A retry of an action that has a limit goes through admission again: it holds no slot while it waits, and its start costs a token.
MOVE = Statement(
    "move",
    """
WITH l AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.attempt AS started, a.worker_id, a.started_at, a.token, a.status,
         u.want, u.mine, u.to_status, u.delay, u.step, u.attempt_outcome, u.outcome, u.error, u.note, u.doubt
    FROM unnest(%(machine)s::uuid[], %(seq)s::int[], %(idx)s::smallint[], %(want)s::text[], %(mine)s::uuid[], %(to)s::text[],
                %(delay)s::interval[], %(step)s::smallint[], %(attempt_outcome)s::text[], %(m_outcome)s::text[],
                %(m_error)s::text[], %(m_note)s::text[], %(in_doubt)s::bool[])
         AS u(machine_id, seq, idx, want, mine, to_status, delay, step, attempt_outcome, outcome, error, note, doubt)
    JOIN {s}.actions a USING (machine_id, seq, idx) FOR NO KEY UPDATE OF a SKIP LOCKED),
ok AS MATERIALIZED (SELECT * FROM l WHERE status = want AND token = mine),
t AS (
  INSERT INTO {s}.attempts (machine_id, seq, idx, token, attempt, worker_id, started_at, ended_at, outcome, error)
  SELECT machine_id, seq, idx, token, started, worker_id, started_at, clock_timestamp(), attempt_outcome, error::jsonb
    FROM ok WHERE attempt_outcome IS NOT NULL
  ON CONFLICT DO NOTHING),
moved AS (
  UPDATE {s}.actions a
     SET status = CASE WHEN ok.to_status = 'pending' AND ok.attempt_outcome IN ('error', 'timed_out') AND a.limit_name IS NOT NULL
                       THEN 'blocked' ELSE ok.to_status END,
         attempt = a.attempt + ok.step, outcome = coalesce(ok.outcome::jsonb, a.outcome),
         error = coalesce(ok.error::jsonb, a.error), note = ok.note,
         in_doubt = coalesce(ok.doubt, a.in_doubt),
         run_at = CASE WHEN ok.delay IS NULL THEN a.run_at ELSE clock_timestamp() + ok.delay END,
         finished_at = CASE WHEN ok.to_status IN ('completed', 'failed', 'cancelled') THEN clock_timestamp() END
    FROM ok WHERE a.machine_id = ok.machine_id AND a.seq = ok.seq AND a.idx = ok.idx
  RETURNING a.machine_id, a.seq, a.idx, a.status, a.lane, a.limit_name, a.run_at),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM moved WHERE lane IS NOT NULL OR limit_name IS NOT NULL
                           OR (status = 'pending' AND run_at <= clock_timestamp() + interval '1 s'))
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END)
SELECT machine_id, seq, idx, (SELECT count(*) FROM ring) FROM moved
""",
)

# A result that came too late: recorded with its attempt, never applied. The attempt was marked lost before (`late`), or the
# action ended under it. Index: attempts_pkey, actions_pkey.
LATE = Statement(
    "late",
    """
WITH old AS (
  UPDATE {s}.attempts SET late = %(result)s::jsonb
   WHERE machine_id = %(machine)s AND seq = %(seq)s AND idx = %(idx)s AND token = %(token)s RETURNING 1)
INSERT INTO {s}.attempts (machine_id, seq, idx, token, attempt, worker_id, started_at, ended_at, outcome, late)
SELECT a.machine_id, a.seq, a.idx, a.token, a.attempt, a.worker_id, a.started_at, clock_timestamp(), 'ignored', %(result)s::jsonb
  FROM {s}.actions a
 WHERE a.machine_id = %(machine)s AND a.seq = %(seq)s AND a.idx = %(idx)s AND a.token = %(token)s AND a.started_at IS NOT NULL
   AND a.status IN ('cancelled', 'failed') AND NOT EXISTS (SELECT 1 FROM old)
ON CONFLICT (machine_id, seq, idx, token) DO UPDATE SET late = excluded.late
""",
)

# Is it mine already? After a lost connection: a finished row with my token is my own commit. Index: actions_pkey.
MINE = Statement(
    "mine",
    """
SELECT u.machine_id, u.seq, u.idx, a.status
  FROM unnest(%(machine)s::uuid[], %(seq)s::int[], %(idx)s::smallint[], %(mine)s::uuid[]) AS u(machine_id, seq, idx, mine)
  JOIN {s}.actions a USING (machine_id, seq, idx) WHERE a.token = u.mine
""",
)

# An operator's retry: attempts are counted anew from here; a kept outcome is applied, not re-run. The last attempt, which stood on
# the row, moves to the others: the next claim would wipe out that it was. A Spawn is not retried: nobody runs one. Waits. Index:
# actions_pkey.
RETRY = Statement(
    "retry",
    """
WITH l AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.status, a.lane, a.limit_name, a.token, a.attempt, a.worker_id, a.started_at, a.finished_at, a.error,
         a.outcome, a.name FROM unnest(%(machine)s::uuid[], %(seq)s::int[], %(idx)s::smallint[])
         AS u(machine_id, seq, idx) JOIN {s}.actions a USING (machine_id, seq, idx) ORDER BY 1, 2, 3 FOR NO KEY UPDATE OF a),
t AS (
  INSERT INTO {s}.attempts (machine_id, seq, idx, token, attempt, worker_id, started_at, ended_at, outcome, error)
  SELECT machine_id, seq, idx, token, attempt, worker_id, started_at, finished_at, 'error', error FROM l
   WHERE status = 'failed' AND name <> 'Spawn' AND outcome IS NULL AND started_at IS NOT NULL AND token IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM {s}.attempts x WHERE x.machine_id = l.machine_id AND x.seq = l.seq AND x.idx = l.idx
                                                    AND x.attempt = l.attempt)
  ON CONFLICT DO NOTHING),
moved AS (
  UPDATE {s}.actions a
     SET status = CASE WHEN l.lane IS NULL AND l.limit_name IS NULL THEN 'pending' ELSE 'blocked' END, budget_from = a.attempt,
         run_at = clock_timestamp(), finished_at = NULL, note = 'retried by hand'
    FROM l WHERE l.status = 'failed' AND l.name <> 'Spawn'
     AND a.machine_id = l.machine_id AND a.seq = l.seq AND a.idx = l.idx
  RETURNING a.machine_id, a.seq, a.idx),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM moved) AND NOT pg_try_advisory_xact_lock_shared({bell})
              THEN pg_notify({channel}, '') END)
SELECT l.machine_id, l.seq, l.idx, l.status, l.name, (SELECT count(*) FROM ring) FROM l
""",
)

# An operator's cancel of one action. Its machine is locked first (LOCK_ID), so no unit is finishing it. Index: actions_pkey.
CANCEL_ACTION = Statement(
    "cancel_action",
    """
WITH l AS MATERIALIZED (
  SELECT machine_id, seq, idx, status FROM {s}.actions
   WHERE machine_id = %(machine)s AND seq = %(seq)s AND idx = %(idx)s FOR NO KEY UPDATE),
moved AS (
  UPDATE {s}.actions a SET status = 'cancelled', finished_at = clock_timestamp(), note = %(note)s
    FROM l WHERE l.status IN ('blocked', 'pending', 'published', 'running', 'failed')
     AND a.machine_id = l.machine_id AND a.seq = l.seq AND a.idx = l.idx RETURNING a.lane, a.limit_name),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM moved WHERE lane IS NOT NULL OR limit_name IS NOT NULL)
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END)
SELECT l.status, (SELECT count(*) FROM ring) FROM l
""",
)

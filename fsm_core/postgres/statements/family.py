"""What a unit writes besides its own machine: children, a state in its present shape. Always under the machine's lock.

These follow the unit's own statement in one transaction, after its guard has held; none has a guard of its own.
"""

from fsm_core.postgres.statements import Statement

# A unit of several statements, all or nothing, in anybody's transaction.
SAVEPOINT = Statement("savepoint", "SAVEPOINT fsm_unit")
RELEASE = Statement("release", "RELEASE SAVEPOINT fsm_unit")
BACK = Statement("back", "ROLLBACK TO SAVEPOINT fsm_unit")

# The same around what a caller asked for in one call, which may be several units: their savepoints lie within.
CALL = Statement("call", "SAVEPOINT fsm_call")
CALL_DONE = Statement("call_done", "RELEASE SAVEPOINT fsm_call")
CALL_BACK = Statement("call_back", "ROLLBACK TO SAVEPOINT fsm_call")

# Which of these addresses are in use? No lock: machines_address is the judge when they are written. Index: machines_address.
IN_USE = Statement(
    "in_use",
    """
SELECT m.fsm, m.key FROM unnest(%(fsm)s::text[], %(key)s::text[]) AS u(fsm, key)
  JOIN {s}.machines m ON m.fsm = u.fsm AND m.key = u.key
""",
)

# Children, with their births in the log and the actions of their `enter`, and the rows of the parent that tell of them.
# Waits for a crossing birth of the same address, and then fails (23505): the unit is decided again. In the order of addresses, so
# that two who bear the same ones cannot wait for each other. Index: machines_address.
SPAWN = Statement(
    "spawn",
    """
WITH c AS (
  INSERT INTO {s}.machines (id, fsm, key, version, status, state_name, state, seq, rev, parent, parent_queue, created_at, updated_at, ended_at)
  SELECT u.id, u.fsm, u.key, u.version, u.status, u.state_name, u.state::jsonb, 0, 1, u.parent, u.parent_queue, u.at, u.at,
         CASE WHEN u.ended THEN u.at END
    FROM unnest(%(id)s::uuid[], %(fsm)s::text[], %(key)s::text[], %(version)s::int[], %(status)s::text[], %(state_name)s::text[],
                %(state)s::text[], %(parent)s::uuid[], %(parent_queue)s::text[], %(at)s::timestamptz[], %(ended)s::bool[])
         AS u(id, fsm, key, version, status, state_name, state, parent, parent_queue, at, ended)
   ORDER BY u.fsm, u.key
  RETURNING id),
e AS (
  INSERT INTO {s}.events (machine_id, seq, name, payload, version, outcome, source, cause, occurred_at)
  SELECT u.id, 0, u.state_name, u.state::jsonb, u.version, 'applied', 'spawn', u.cause, u.at
    FROM unnest(%(id)s::uuid[], %(version)s::int[], %(state_name)s::text[], %(state)s::text[], %(cause)s::text[],
                %(at)s::timestamptz[])
         AS u(id, version, state_name, state, cause, at)),
p AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at,
                           finished_at, error)
  SELECT u.parent, u.seq, u.idx, 'Spawn', u.version, u.payload::jsonb, true, u.status, u.queue, 5, u.at, u.at, u.at, u.error::jsonb
    FROM unnest(%(p_parent)s::uuid[], %(p_seq)s::int[], %(p_idx)s::smallint[], %(p_version)s::int[], %(p_payload)s::text[],
                %(p_status)s::text[], %(p_queue)s::text[], %(p_error)s::text[], %(p_at)s::timestamptz[])
         AS u(parent, seq, idx, version, payload, status, queue, error, at)),
a AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane,
                           created_at, run_at, timer, outcome, limit_name, limit_key)
  SELECT u.machine_id, 0, u.idx, u.name, u.version, u.payload::jsonb, u.tracked, u.status, u.queue, u.priority, u.lane,
         u.at, clock_timestamp() + u.delay, u.timer, u.outcome::jsonb, u.limit_name, u.limit_key
    FROM unnest(%(a_machine)s::uuid[], %(a_idx)s::smallint[], %(a_name)s::text[], %(a_version)s::int[], %(a_payload)s::text[],
                %(a_tracked)s::bool[], %(a_status)s::text[], %(a_queue)s::text[], %(a_priority)s::smallint[],
                %(a_lane)s::text[], %(a_delay)s::interval[], %(a_timer)s::text[], %(a_outcome)s::text[],
                %(a_limit_name)s::text[], %(a_limit_key)s::text[], %(a_at)s::timestamptz[])
         AS u(machine_id, idx, name, version, payload, tracked, status, queue, priority, lane, delay, timer, outcome,
              limit_name, limit_key, at)
  RETURNING run_at),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM a WHERE run_at <= clock_timestamp() + interval '1 s')
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END)
SELECT (SELECT count(*) FROM c), (SELECT count(*) FROM ring)
""",
)

# A state that an older version wrote, in its present shape: a replay by the present code begins here. Its timeout, if one is
# armed, takes the state's present name; one that was set after that event has its own. Index: snapshots_pkey, actions_timer.
REBASE = Statement(
    "rebase",
    """
WITH t AS (
  UPDATE {s}.actions SET timer = %(after)s
   WHERE machine_id = %(id)s AND timer = %(before)s AND timer <> %(after)s AND seq <= %(seq)s AND status IN ('pending', 'published')
  RETURNING 1)
INSERT INTO {s}.snapshots (machine_id, seq, version, state_name, state)
SELECT %(id)s, %(seq)s, %(version)s, %(state_name)s, %(state)s::jsonb WHERE (SELECT count(*) FROM t) >= 0
ON CONFLICT (machine_id, seq) DO UPDATE SET version = excluded.version, state_name = excluded.state_name, state = excluded.state
""",
)

# The children of a machine that still live, some of them, but not those that were born after the action `seq`, `idx`: it was not
# about them. No lock: each is cancelled under its own. Index: machines_parent, actions_pkey.
CHILDREN = Statement(
    "children",
    """
SELECT m.fsm, m.key FROM {s}.machines m
 WHERE m.parent = %(id)s AND m.ended_at IS NULL AND NOT EXISTS (
       SELECT 1 FROM {s}.actions a
        WHERE a.machine_id = %(id)s AND (a.seq, a.idx) > (%(seq)s, %(idx)s) AND a.name = 'Spawn' AND a.status = 'completed'
          AND a.payload ->> 'machine' = m.fsm AND a.payload ->> 'key' = m.key)
 ORDER BY m.id LIMIT %(limit)s
""",
)

# Machines by address; what a worker asks that delivers a message. No lock. Index: machines_address.
LOCATE = Statement(
    "locate",
    """
SELECT m.fsm, m.key, m.id FROM unnest(%(fsm)s::text[], %(key)s::text[]) AS u(fsm, key)
  JOIN {s}.machines m ON m.fsm = u.fsm AND m.key = u.key WHERE m.state IS NOT NULL
""",
)

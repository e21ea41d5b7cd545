"""Reading a machine and writing a decision.

Rules that all of them keep (docs/protocol.md, section 1): a decision is guarded by the `rev` that it was made on; in a
data-modifying CTE every write selects from the guard's RETURNING; a lock and a look are two statements. What ends a machine
wakes those who wait for it (`told`); a birth does not: before it, nobody can.

Rows of `actions` are looked for by the id that was given, not only by the guard's, and machines by their address behind a fence
(OFFSET 0): with statistics of a moment at which there was no timer, or none, the planner read all timers, all machines. The names of
timers go through a function: from `= ANY ('{}')` everything follows, so the planner took any partial index, and read all of it.
"""

from fsm_core.postgres.statements import Statement

# One machine by address. No lock. Index: machines_address.
READ = Statement("read", "SELECT {machine} FROM {s}.machines m WHERE m.fsm = %(fsm)s AND m.key = %(key)s")

# The same with what its dedup key did before. A statement of its own: with the key in the one above, NULL makes every custom plan look
# cheaper than the generic one, and the server planned anew for each call: 90 us of 120. No lock. Index: machines_address, dedup_pkey.
READ_DEDUP = Statement(
    "read_dedup",
    """
SELECT {machine}, d.key, d.seq, d.digest
  FROM {s}.machines m LEFT JOIN {s}.dedup d ON d.machine_id = m.id AND d.key = %(dedup)s
 WHERE m.fsm = %(fsm)s AND m.key = %(key)s
""",
)

# The same for many, by id; what a finishing worker reads. No lock. Index: machines_pkey.
READ_MANY = Statement(
    "read_many",
    """
SELECT {machine}
  FROM {s}.machines m WHERE m.id = ANY (%(ids)s::uuid[])
""",
)

# The same for many keys of one name, each with what a dedup key did before, if one was given; which of them a row is for, it says by its
# place. What `advance_many` and calls that go together read. No lock. Index: machines_address, dedup_pkey.
READ_KEYS = Statement(
    "read_keys",
    """
SELECT {machine}, d.key, d.seq, d.digest, u.place
  FROM unnest(%(keys)s::text[], %(dedups)s::text[]) WITH ORDINALITY AS u(key, dedup, place)
 CROSS JOIN LATERAL (SELECT * FROM {s}.machines o WHERE o.fsm = %(fsm)s AND o.key = u.key OFFSET 0) m
  LEFT JOIN LATERAL (SELECT * FROM {s}.dedup o WHERE o.machine_id = m.id AND o.key = u.dedup OFFSET 0) d ON true
""",
)

# Lock many machines in a caller's transaction, in the order of their ids: two callers cannot wait for each other. Waits.
# READ_KEYS follows as a statement of its own. Index: machines_address.
LOCK_KEYS = Statement(
    "lock_keys",
    """
SELECT 1 FROM {s}.machines m WHERE m.id = ANY (ARRAY(
  SELECT m.id FROM unnest(%(keys)s::text[]) AS u(key)
   CROSS JOIN LATERAL (SELECT o.id FROM {s}.machines o WHERE o.fsm = %(fsm)s AND o.key = u.key OFFSET 0) m))
 ORDER BY m.id FOR NO KEY UPDATE
""",
)

# Lock one machine. Waits. READ follows as a statement of its own: this one's snapshot is older than the lock it waited for.
LOCK = Statement("lock", "SELECT 1 FROM {s}.machines WHERE fsm = %(fsm)s AND key = %(key)s FOR NO KEY UPDATE")
LOCK_ID = Statement("lock_id", "SELECT 1 FROM {s}.machines WHERE id = %(id)s FOR NO KEY UPDATE")

# How long an own transaction waits for a lock; '0' is for ever.
LOCK_TIMEOUT = Statement("lock_timeout", "SELECT set_config('lock_timeout', %(wait)s, true)")

# The same for a transaction that writes and leaves no trace of its call: its id tells later whether it was committed. No lock.
BEGUN = Statement("begun", "SELECT set_config('lock_timeout', %(wait)s, true), pg_current_xact_id()::text")

# After a COMMIT whose answer was lost: what became of that transaction? No lock.
BECAME = Statement("became", "SELECT pg_xact_status(%(xid)s::xid8)")

# In our own transaction, after its projections: deferred constraints speak now and not at COMMIT.
CONSTRAINTS_NOW = Statement("constraints_now", "SET CONSTRAINTS ALL IMMEDIATE")

# Before a birth: the time, and the machine if it exists already (fsm = NULL: it does not). No lock. Index: machines_address.
READ_BIRTH = Statement(
    "read_birth",
    """
SELECT {machine}
  FROM (SELECT 1) one LEFT JOIN {s}.machines m ON m.fsm = %(fsm)s AND m.key = %(key)s
""",
)

# Birth: the machine, event 0 and the actions of `enter`. Nothing inserted: it is there; look again in a new statement.
# Waits for a crossing birth: as long as `wait` says, which is set first, in the same statement (NULL: the caller's own
# transaction keeps its setting). Index: machines_address.
START = Statement(
    "start",
    """
WITH bound AS MATERIALIZED (
  SELECT CASE WHEN %(wait)s::text IS NOT NULL THEN set_config('lock_timeout', %(wait)s::text, true) END AS wait),
m AS (
  INSERT INTO {s}.machines (id, fsm, key, version, status, state_name, state, seq, rev, created_at, updated_at, ended_at,
                            partition_key, priority)
  SELECT %(id)s::uuid, %(fsm)s, %(key)s, %(version)s::int, %(status)s, %(state_name)s, %(state)s::jsonb, 0, 1, %(at)s::timestamptz,
         %(at)s::timestamptz, CASE WHEN %(ended)s THEN %(at)s::timestamptz END, %(partition_key)s::text,
         %(machine_priority)s::smallint FROM bound WHERE coalesce(bound.wait, '') IS NOT NULL
  ON CONFLICT (fsm, key) DO NOTHING RETURNING id),
e AS (
  INSERT INTO {s}.events (machine_id, seq, name, payload, version, outcome, source, call_id, occurred_at)
  SELECT m.id, 0, %(state_name)s, %(state)s::jsonb, %(version)s, 'applied', %(source)s, %(call_id)s::uuid, %(at)s FROM m),
a AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane,
                           created_at, run_at, timer, outcome, limit_name, limit_key)
  SELECT m.id, 0, u.idx, u.name, %(version)s, u.payload::jsonb, u.tracked, u.status, u.queue, u.priority, u.lane, %(at)s,
         clock_timestamp() + u.delay, u.timer, u.outcome::jsonb, u.limit_name, u.limit_key
    FROM m, unnest(%(a_idx)s::smallint[], %(a_name)s::text[], %(a_payload)s::text[], %(a_tracked)s::bool[],
                   %(a_status)s::text[], %(a_queue)s::text[], %(a_priority)s::smallint[], %(a_lane)s::text[],
                   %(a_delay)s::interval[], %(a_timer)s::text[], %(a_outcome)s::text[], %(a_limit_name)s::text[],
                   %(a_limit_key)s::text[])
         AS u(idx, name, payload, tracked, status, queue, priority, lane, delay, timer, outcome, limit_name, limit_key)
  RETURNING run_at),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM a WHERE run_at <= clock_timestamp() + interval '1 s')
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END)
SELECT m.id, (SELECT count(*) FROM ring) FROM m
""",
)

# One machine, one event, any number of actions; timers that end with it. `a` waits for `gone`: a timer that is set again
# takes the name of the one that ends, and actions_timer allows each name once. Guard: rev. Does not wait for the machine:
# whoever holds its row is about to change its rev, and an own transaction's wait is bounded under LOCK only.
# Index: machines_pkey, actions_timer.
# A SELECT in WITH that nobody reads does not run: hence the count of ring.
WRITE_ONE = Statement(
    "write_one",
    """
WITH l AS MATERIALIZED (
  SELECT id FROM {s}.machines WHERE id = %(id)s AND rev = %(rev)s FOR NO KEY UPDATE SKIP LOCKED),
m AS (
  UPDATE {s}.machines t SET state = %(state)s::jsonb, state_name = %(state_name)s, version = %(version)s, status = %(status)s,
         ended_at = CASE WHEN %(ended)s THEN coalesce(ended_at, %(at)s) END, updated_at = %(at)s, seq = seq + 1, rev = rev + 1
    FROM l WHERE t.id = l.id AND t.rev = %(rev)s RETURNING t.id, t.seq),
gone AS (
  UPDATE {s}.actions t SET status = 'cancelled', finished_at = clock_timestamp()
    FROM m WHERE t.machine_id = %(id)s AND t.timer IS NOT NULL AND (%(ended)s OR array_position(%(cancelled)s::text[], t.timer) IS NOT NULL)
     AND t.status IN ('pending', 'published') RETURNING 1),
e AS (
  INSERT INTO {s}.events (machine_id, seq, name, payload, version, outcome, source, cause, call_id, occurred_at)
  SELECT m.id, m.seq, %(name)s, %(payload)s::jsonb, %(version)s, %(outcome)s, %(source)s, %(cause)s::text,
         %(call_id)s::uuid, %(at)s FROM m),
d AS (
  INSERT INTO {s}.dedup (machine_id, key, digest, seq, at)
  SELECT m.id, %(dedup)s::text, %(digest)s::bytea, m.seq, %(at)s FROM m WHERE %(dedup)s::text IS NOT NULL),
a AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane,
                           created_at, run_at, timer, outcome, limit_name, limit_key)
  SELECT m.id, m.seq, u.idx, u.name, %(version)s, u.payload::jsonb, u.tracked, u.status, u.queue, u.priority, u.lane,
         %(at)s, clock_timestamp() + u.delay, u.timer, u.outcome::jsonb, u.limit_name, u.limit_key
    FROM m, unnest(%(a_idx)s::smallint[], %(a_name)s::text[], %(a_payload)s::text[], %(a_tracked)s::bool[],
                   %(a_status)s::text[], %(a_queue)s::text[], %(a_priority)s::smallint[], %(a_lane)s::text[],
                   %(a_delay)s::interval[], %(a_timer)s::text[], %(a_outcome)s::text[], %(a_limit_name)s::text[],
                   %(a_limit_key)s::text[])
         AS u(idx, name, payload, tracked, status, queue, priority, lane, delay, timer, outcome, limit_name, limit_key)
   WHERE (SELECT count(*) FROM gone) >= 0
  RETURNING run_at),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM a WHERE run_at <= clock_timestamp() + interval '1 s')
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END),
told AS (
  SELECT {tell} FROM m WHERE %(ended)s)
SELECT m.seq, (SELECT count(*) FROM ring), (SELECT count(*) FROM told) FROM m
""",
)

# Units: one machine each, its events, actions, held events, and the actions that it finishes: all or nothing per unit.
# Never waits (SKIP LOCKED): units missing in the answer are redone one by one under the lock.
# Back to a locked row by primary key, never by ctid: after a concurrent update a ctid finds nothing.
# What is written brings its machine's id along, and only asks whether its unit was written: `(... IN (...)) IS TRUE` is a hashed look-up.
# As a join, planned for the ten rows that the planner takes an array for, it compared each row with every unit: 150 us a unit at
# 100 units, instead of 60. Index: machines_pkey, actions_pkey, actions_timer, inbox_pkey, dedup_pkey.
WRITE_MANY = Statement(
    "write_many",
    """
WITH lm AS MATERIALIZED (
  SELECT w.*, m.rev AS found
    FROM unnest(%(unit)s::int[], %(id)s::uuid[], %(rev)s::int[], %(state)s::text[], %(state_name)s::text[],
                %(version)s::int[], %(status)s::text[], %(ended)s::bool[], %(seq)s::int[], %(at)s::timestamptz[],
                %(inbox)s::int[])
         AS w(unit, id, rev, state, state_name, version, status, ended, seq, at, inbox)
    JOIN {s}.machines m ON m.id = w.id FOR NO KEY UPDATE OF m SKIP LOCKED),
lf AS MATERIALIZED (
  SELECT u.*, (a.status = u.want AND a.token = u.mine) AS held
    FROM unnest(%(f_unit)s::int[], %(f_machine)s::uuid[], %(f_seq)s::int[], %(f_idx)s::smallint[], %(f_want)s::text[],
                %(f_mine)s::uuid[], %(f_to)s::text[], %(f_outcome)s::text[], %(f_error)s::text[], %(f_note)s::text[],
                %(f_attempt)s::smallint[])
         AS u(unit, machine_id, seq, idx, want, mine, to_status, outcome, error, note, attempt)
    JOIN {s}.actions a ON a.machine_id = u.machine_id AND a.seq = u.seq AND a.idx = u.idx
     FOR NO KEY UPDATE OF a SKIP LOCKED),
bad AS (
  SELECT n.unit FROM (
    SELECT unit, 1 AS listed, 0 AS held FROM unnest(%(f_unit)s::int[]) AS u(unit)
    UNION ALL
    SELECT DISTINCT ON (machine_id, seq, idx) unit, 0, 1 FROM lf WHERE held) n
   GROUP BY n.unit HAVING sum(n.listed) <> sum(n.held)),
m AS (
  UPDATE {s}.machines t
     SET state = lm.state::jsonb, state_name = lm.state_name, version = lm.version, status = lm.status,
         ended_at = CASE WHEN lm.ended THEN coalesce(t.ended_at, lm.at) END, seq = lm.seq, rev = t.rev + 1,
         updated_at = CASE WHEN lm.seq > t.seq THEN lm.at ELSE t.updated_at END,
         inbox = t.inbox + lm.inbox
    FROM lm
   WHERE t.id = lm.id AND lm.found = lm.rev AND t.rev = lm.rev AND lm.unit NOT IN (SELECT unit FROM bad)
  RETURNING lm.unit, t.id, lm.ended),
timers AS MATERIALIZED (
  SELECT x.machine_id, x.seq, x.idx
    FROM (SELECT * FROM m WHERE m.ended OR (m.unit IN (SELECT unnest(%(t_unit)s::int[]))) IS TRUE OFFSET 0) m
   CROSS JOIN LATERAL (SELECT t.machine_id, t.seq, t.idx, t.timer FROM {s}.actions t
                        WHERE t.machine_id = m.id AND t.timer IS NOT NULL AND t.status IN ('pending', 'published') OFFSET 0) x
   WHERE (m.ended OR EXISTS (SELECT 1 FROM unnest(%(t_unit)s::int[], %(t_name)s::text[]) AS u(unit, name)
                              WHERE u.unit = m.unit AND u.name = x.timer))
     AND NOT EXISTS (SELECT 1 FROM lf WHERE lf.machine_id = x.machine_id AND lf.seq = x.seq AND lf.idx = x.idx)),
gone AS (
  UPDATE {s}.actions t SET status = 'cancelled', finished_at = clock_timestamp()
    FROM timers x WHERE t.machine_id = x.machine_id AND t.seq = x.seq AND t.idx = x.idx AND t.status IN ('pending', 'published')
  RETURNING 1),
e AS (
  INSERT INTO {s}.events (machine_id, seq, name, payload, version, outcome, source, cause, call_id, reason, occurred_at)
  SELECT u.machine_id, u.seq, u.name, u.payload::jsonb, u.version, u.outcome, u.source, u.cause, u.call_id, u.reason, u.at
    FROM unnest(%(e_unit)s::int[], %(e_machine)s::uuid[], %(e_seq)s::int[], %(e_name)s::text[], %(e_payload)s::text[],
                %(e_version)s::int[], %(e_outcome)s::text[], %(e_source)s::text[], %(e_cause)s::text[], %(e_call_id)s::uuid[],
                %(e_reason)s::text[], %(e_at)s::timestamptz[])
         AS u(unit, machine_id, seq, name, payload, version, outcome, source, cause, call_id, reason, at)
   WHERE (u.unit IN (SELECT unit FROM m)) IS TRUE),
g AS (
  DELETE FROM {s}.inbox i USING unnest(%(g_unit)s::int[], %(g_machine)s::uuid[], %(g_pos)s::bigint[]) AS u(unit, machine_id, pos)
   WHERE (u.unit IN (SELECT unit FROM m)) IS TRUE AND i.machine_id = u.machine_id AND i.pos = u.pos),
i AS (
  INSERT INTO {s}.inbox (machine_id, name, payload, version, source, cause, dedup_key, call_id, received_at, expires_at)
  SELECT u.machine_id, u.name, u.payload::jsonb, u.version, u.source, u.cause, u.dedup_key, u.call_id, u.at, u.at + u.ttl
    FROM unnest(%(i_unit)s::int[], %(i_machine)s::uuid[], %(i_name)s::text[], %(i_payload)s::text[], %(i_version)s::int[],
                %(i_source)s::text[], %(i_cause)s::text[], %(i_dedup)s::text[], %(i_call_id)s::uuid[], %(i_ttl)s::interval[],
                %(i_at)s::timestamptz[])
         AS u(unit, machine_id, name, payload, version, source, cause, dedup_key, call_id, ttl, at)
   WHERE (u.unit IN (SELECT unit FROM m)) IS TRUE),
d AS (
  INSERT INTO {s}.dedup (machine_id, key, digest, seq, at)
  SELECT u.machine_id, u.key, u.digest, u.seq, u.at
    FROM unnest(%(d_unit)s::int[], %(d_machine)s::uuid[], %(d_key)s::text[], %(d_digest)s::bytea[], %(d_seq)s::int[],
                %(d_at)s::timestamptz[]) AS u(unit, machine_id, key, digest, seq, at)
   WHERE u.digest IS NOT NULL AND (u.unit IN (SELECT unit FROM m)) IS TRUE),
known AS (
  UPDATE {s}.dedup t SET seq = u.seq
    FROM unnest(%(d_unit)s::int[], %(d_machine)s::uuid[], %(d_key)s::text[], %(d_digest)s::bytea[], %(d_seq)s::int[])
         AS u(unit, machine_id, key, digest, seq)
   WHERE u.digest IS NULL AND (u.unit IN (SELECT unit FROM m)) IS TRUE AND t.machine_id = u.machine_id AND t.key = u.key),
f AS (
  UPDATE {s}.actions t
     SET status = lf.to_status, outcome = coalesce(lf.outcome::jsonb, t.outcome), error = lf.error::jsonb, note = lf.note,
         attempt = t.attempt + lf.attempt, finished_at = clock_timestamp()
    FROM lf
   WHERE (lf.unit IN (SELECT unit FROM m)) IS TRUE AND t.machine_id = lf.machine_id AND t.seq = lf.seq AND t.idx = lf.idx
  RETURNING t.lane, t.limit_name),
a AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane,
                           created_at, run_at, timer, outcome, limit_name, limit_key, attempt, token, worker_id, published_at,
                           started_at)
  SELECT u.machine_id, u.seq, u.idx, u.name, u.version, u.payload::jsonb, u.tracked, u.status, u.queue, u.priority, u.lane, u.at,
         clock_timestamp() + u.delay, u.timer, u.outcome::jsonb, u.limit_name, u.limit_key, (u.token IS NOT NULL)::int, u.token,
         u.worker, CASE WHEN u.token IS NOT NULL THEN clock_timestamp() END, CASE WHEN u.token IS NOT NULL THEN clock_timestamp() END
    FROM unnest(%(a_unit)s::int[], %(a_machine)s::uuid[], %(a_seq)s::int[], %(a_idx)s::smallint[], %(a_name)s::text[],
                %(a_version)s::int[], %(a_payload)s::text[], %(a_tracked)s::bool[], %(a_status)s::text[], %(a_queue)s::text[],
                %(a_priority)s::smallint[], %(a_lane)s::text[], %(a_delay)s::interval[], %(a_timer)s::text[],
                %(a_outcome)s::text[], %(a_limit_name)s::text[], %(a_limit_key)s::text[], %(a_at)s::timestamptz[],
                %(a_token)s::uuid[], %(a_worker)s::uuid[])
         AS u(unit, machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane, delay, timer, outcome,
              limit_name, limit_key, at, token, worker)
   WHERE (u.unit IN (SELECT unit FROM m)) IS TRUE
     AND (SELECT count(*) FROM gone) >= 0 AND (SELECT count(*) FROM f) >= 0
  RETURNING run_at, status),
ring AS (
  SELECT CASE WHEN (EXISTS (SELECT 1 FROM a WHERE status <> 'running' AND run_at <= clock_timestamp() + interval '1 s')
                    OR EXISTS (SELECT 1 FROM f WHERE lane IS NOT NULL OR limit_name IS NOT NULL))
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END),
told AS (
  SELECT {tell} FROM m WHERE m.ended)
SELECT m.unit, (SELECT count(*) FROM ring), (SELECT count(*) FROM told) FROM m
""",
)

# The held events of one machine, oldest first; read under the machine's lock. Index: inbox_pkey.
INBOX = Statement(
    "inbox",
    """
SELECT pos, name, payload::text, version, source, cause, dedup_key, call_id FROM {s}.inbox
 WHERE machine_id = %(id)s AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY pos
""",
)

# After a COMMIT whose answer was lost: did this call get in? Read under the machine's lock. Index: events_pkey, inbox_pkey.
SOUGHT = Statement(
    "sought",
    """
SELECT e.seq FROM {s}.events e WHERE e.machine_id = %(id)s AND e.seq >= %(from)s AND e.call_id = %(call_id)s
UNION ALL SELECT NULL FROM {s}.inbox i WHERE i.machine_id = %(id)s AND i.call_id = %(call_id)s
""",
)

# End a machine from outside: it and its open actions are cancelled; what runs is told by its heartbeat. Comes after LOCK: a
# statement that waited itself would not see the actions of the one it waited for. It leaves rows behind, so that its parent is
# told and its children go with it. Index: machines_address, actions_pkey.
CANCEL = Statement(
    "cancel",
    """
WITH m AS (
  UPDATE {s}.machines SET status = 'cancelled', ended_at = clock_timestamp(), updated_at = greatest(clock_timestamp(), updated_at),
         rev = rev + 1
   WHERE fsm = %(fsm)s AND key = %(key)s AND status IN ('live', 'unborn') AND state IS NOT NULL RETURNING id, seq),
a AS (
  UPDATE {s}.actions t SET status = 'cancelled', finished_at = clock_timestamp(), note = %(note)s
    FROM m WHERE t.machine_id = m.id AND t.status IN ('blocked', 'pending', 'published', 'running') RETURNING t.lane, t.limit_name),
n AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, created_at, run_at, outcome)
  SELECT m.id, m.seq, u.idx, u.name, u.version, u.payload::jsonb, true, 'pending', u.queue, u.priority, clock_timestamp(),
         clock_timestamp(), u.outcome::jsonb
    FROM m, unnest(%(n_idx)s::smallint[], %(n_name)s::text[], %(n_version)s::int[], %(n_payload)s::text[], %(n_queue)s::text[],
                   %(n_priority)s::smallint[], %(n_outcome)s::text[])
         AS u(idx, name, version, payload, queue, priority, outcome)
  RETURNING 1),
ring AS (
  SELECT CASE WHEN (EXISTS (SELECT 1 FROM a WHERE lane IS NOT NULL OR limit_name IS NOT NULL) OR EXISTS (SELECT 1 FROM n))
              AND NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END),
told AS (
  SELECT {tell} FROM m)
SELECT m.id, (SELECT count(*) FROM a), (SELECT count(*) FROM ring), (SELECT count(*) FROM told) FROM m
""",
)

# What a cancel must know: the next free place among the actions of the last event, and the queue to cancel its children by, if one still
# lives: it knows where its parent listens. Under the machine's lock. Index: actions_pkey, machines_parent.
BEFORE_CANCEL = Statement(
    "before_cancel",
    """
SELECT coalesce((SELECT max(idx) + 1 FROM {s}.actions WHERE machine_id = %(id)s AND seq = %(seq)s), 0),
       (SELECT parent_queue FROM {s}.machines WHERE parent = %(id)s AND ended_at IS NULL LIMIT 1)
""",
)

"""Whole records of machines, to be replayed. No locks: in one REPEATABLE READ transaction, so that they are of one moment."""

from fsm_core.postgres.statements import Statement

# The first statement of a transaction in which all others see the same rows.
ONE_SNAPSHOT = Statement("one_snapshot", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

# What follows in this transaction names hundreds of machines at once. Where nothing is known of a table, after a restore, that looks like
# all of it to a planner who knows their ids, and it would be read: go by keys, as relays and workers always do.
BY_KEY = Statement(
    "by_key",
    """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true)
""",
)

# The next machines by id, as many as have about `events` events. Index: machines_pkey.
PAGE = Statement(
    "page",
    """
SELECT {machine}
  FROM (SELECT n.*, sum(n.seq + 1) OVER (ORDER BY n.id) - (n.seq + 1) AS before
          FROM (SELECT * FROM {s}.machines o
                 WHERE o.id > %(after)s AND (%(names)s::text[] IS NULL OR o.fsm = ANY (%(names)s))
                   AND (%(since)s::interval IS NULL OR o.updated_at >= clock_timestamp() - %(since)s::interval)
                 ORDER BY o.id LIMIT %(limit)s) n) m
 WHERE m.before < %(events)s ORDER BY m.id
""",
)

# How many machines all pages have together. A scan.
COUNT = Statement(
    "count",
    """
SELECT count(*) FROM {s}.machines o
 WHERE (%(names)s::text[] IS NULL OR o.fsm = ANY (%(names)s))
   AND (%(since)s::interval IS NULL OR o.updated_at >= clock_timestamp() - %(since)s::interval)
""",
)

# The events of some machines, up to one (`to` NULL: all). Index: events_pkey.
ENTRIES = Statement(
    "entries",
    """
SELECT machine_id, seq, name, payload::text, version, outcome, source, reason, occurred_at FROM {s}.events
 WHERE machine_id = ANY (%(ids)s::uuid[]) AND seq >= %(from)s AND (%(to)s::int IS NULL OR seq <= %(to)s)
 ORDER BY machine_id, seq
""",
)

# The actions of some machines. Index: actions_pkey.
ROWS = Statement(
    "rows",
    """
SELECT machine_id, seq, idx, name, version, payload::text, tracked, status, queue, priority, lane, timer, outcome::text,
       limit_name, limit_key
  FROM {s}.actions WHERE machine_id = ANY (%(ids)s::uuid[]) ORDER BY machine_id, seq, idx
""",
)

# The snapshots of some machines, up to an event (`to` NULL: all). Index: snapshots_pkey.
SNAPSHOTS = Statement(
    "snapshots",
    """
SELECT machine_id, seq, version, state_name, state::text FROM {s}.snapshots
 WHERE machine_id = ANY (%(ids)s::uuid[]) AND (%(to)s::int IS NULL OR seq <= %(to)s) ORDER BY machine_id, seq
""",
)

# How many events each of some machines holds. Index: inbox_pkey.
HELD = Statement(
    "held",
    "SELECT machine_id, count(*) FROM {s}.inbox WHERE machine_id = ANY (%(ids)s::uuid[]) GROUP BY machine_id",
)

# Rows whose machine does not exist: there are no foreign keys. One statement, so a birth is seen whole or not at all.
# Index: events_pkey and actions_pkey, the range of one page.
ORPHANS = Statement(
    "orphans",
    """
SELECT e.machine_id, 'events', count(*) FROM {s}.events e
 WHERE e.machine_id > %(after)s AND e.machine_id <= coalesce(%(to)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   AND NOT EXISTS (SELECT 1 FROM {s}.machines m WHERE m.id = e.machine_id) GROUP BY e.machine_id
UNION ALL
SELECT a.machine_id, 'actions', count(*) FROM {s}.actions a
 WHERE a.machine_id > %(after)s AND a.machine_id <= coalesce(%(to)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   AND NOT EXISTS (SELECT 1 FROM {s}.machines m WHERE m.id = a.machine_id) GROUP BY a.machine_id
 ORDER BY 1, 2
""",
)

# Lost rows of the outbox, written again under the ids that they had: their outcome is unknown. Their machine is locked (LOCK).
# Index: actions_pkey.
RESTORE = Statement(
    "restore",
    """
WITH a AS (
  INSERT INTO {s}.actions (machine_id, seq, idx, name, version, payload, tracked, status, queue, priority, lane, created_at, run_at,
                           attempt, in_doubt, note, limit_name, limit_key)
  SELECT %(id)s, u.seq, u.idx, u.name, u.version, u.payload::jsonb, u.tracked, u.status, u.queue, u.priority, u.lane, u.created_at,
         clock_timestamp(), 1, true, 'restored by hand', u.limit_name, u.limit_key
    FROM unnest(%(a_seq)s::int[], %(a_idx)s::smallint[], %(a_name)s::text[], %(a_version)s::int[], %(a_payload)s::text[],
                %(a_tracked)s::bool[], %(a_status)s::text[], %(a_queue)s::text[], %(a_priority)s::smallint[], %(a_lane)s::text[],
                %(a_created_at)s::timestamptz[], %(a_limit_name)s::text[], %(a_limit_key)s::text[])
         AS u(seq, idx, name, version, payload, tracked, status, queue, priority, lane, created_at, limit_name, limit_key)
  RETURNING seq, idx),
ring AS (
  SELECT CASE WHEN EXISTS (SELECT 1 FROM a) AND NOT pg_try_advisory_xact_lock_shared({bell})
              THEN pg_notify({channel}, '') END)
SELECT a.seq, a.idx, (SELECT count(*) FROM ring) FROM a ORDER BY a.seq, a.idx
""",
)

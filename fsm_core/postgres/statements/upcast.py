"""Older versions' rows in the present shape, many at a time; and whether there are some that nobody reads."""

from fsm_core.postgres.statements import Statement

# The next machines of one name by key, and those among them that are wanted, by version and status. One row at least: the last key
# that was looked at, and how many were; NULLs after it, if none is wanted. No lock. Index: machines_address.
OLDER = Statement(
    "older",
    """
WITH n AS MATERIALIZED (
  SELECT m.id, m.key, m.version, m.status FROM {s}.machines m
   WHERE m.fsm = %(fsm)s AND m.key > %(after)s ORDER BY m.key LIMIT %(limit)s)
SELECT l.last, l.looked, o.* FROM (SELECT max(n.key) AS last, count(*) AS looked FROM n) l LEFT JOIN (
  SELECT {machine}
    FROM n JOIN {s}.machines m ON m.id = n.id
   WHERE n.version < %(below)s AND n.status = ANY (%(statuses)s::text[])) o ON true
 ORDER BY o.key
""",
)

# The held events of some machines, oldest first. No lock. Index: inbox_pkey.
HELD = Statement(
    "held_of",
    """
SELECT machine_id, pos, name, payload::text, version, source, cause, dedup_key, call_id FROM {s}.inbox
 WHERE machine_id = ANY (%(ids)s::uuid[]) AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY machine_id, pos
""",
)

# The actions of some machines that have not finished. No lock. Index: actions_pkey.
OPEN = Statement(
    "open_of",
    """
SELECT machine_id, name, version, payload::text, outcome::text FROM {s}.actions
 WHERE machine_id = ANY (%(ids)s::uuid[]) AND status IN ('blocked', 'pending', 'published', 'running')
 ORDER BY machine_id, seq, idx
""",
)

# Write states in their present shape, each guarded by the rev that it was read at; a replay by the present code begins there, and
# an armed state timeout takes the state's present name. Never waits for a machine: what is missing in the answer has moved, or is
# held by somebody. Index: machines_pkey, snapshots_pkey, actions_timer.
UPCAST = Statement(
    "upcast",
    """
WITH w AS MATERIALIZED (
  SELECT * FROM unnest(%(id)s::uuid[], %(rev)s::int[], %(seq)s::int[], %(version)s::int[], %(state_name)s::text[], %(state)s::text[],
                       %(before)s::text[], %(after)s::text[])
         AS w(id, rev, seq, version, state_name, state, before, after)),
l AS MATERIALIZED (
  SELECT m.id FROM w JOIN {s}.machines m ON m.id = w.id AND m.rev = w.rev FOR NO KEY UPDATE OF m SKIP LOCKED),
m AS (
  UPDATE {s}.machines t SET version = w.version, state_name = w.state_name, state = w.state::jsonb, rev = t.rev + 1
    FROM w JOIN l ON l.id = w.id WHERE t.id = l.id AND t.rev = w.rev AND t.status = 'live' RETURNING t.id),
t AS (
  UPDATE {s}.actions a SET timer = w.after FROM w JOIN m ON m.id = w.id
   WHERE a.machine_id = w.id AND a.timer = w.before AND w.before <> w.after AND a.status IN ('pending', 'published')),
s AS (
  INSERT INTO {s}.snapshots (machine_id, seq, version, state_name, state)
  SELECT w.id, w.seq, w.version, w.state_name, w.state::jsonb FROM w JOIN m ON m.id = w.id
  ON CONFLICT (machine_id, seq) DO UPDATE SET version = excluded.version, state_name = excluded.state_name, state = excluded.state)
SELECT id FROM m
""",
)

# Live machines whose version neither this process (`known`) nor a worker reads that is alive. No index has the version, so
# it looks at a random sample of at most about a thousand pages (all of a small table): what is rarer than that it may miss.
# No lock; small next to what a start costs, and bounded by LOOK_TIMEOUT besides.
UNREAD = Statement(
    "unread",
    """
SELECT f.fsm, f.version FROM (
  SELECT m.fsm, m.version
    FROM {s}.machines m TABLESAMPLE SYSTEM (least(100, 100 * 1000 * current_setting('block_size')::float8
           / greatest((SELECT pg_relation_size(o.tableoid) FROM {s}.machines o LIMIT 1), 1)))
   WHERE m.status = 'live' GROUP BY m.fsm, m.version) f
 WHERE NOT coalesce(%(known)s::jsonb -> f.fsm @> to_jsonb(f.version), false)
   AND NOT EXISTS (SELECT 1 FROM {s}.workers w
                    WHERE w.dead_at IS NULL AND w.alive_until > clock_timestamp() AND w.known -> f.fsm @> to_jsonb(f.version))
 ORDER BY f.fsm, f.version LIMIT 100
""",
)

# How long that look may take.
LOOK_TIMEOUT = Statement("look_timeout", "SELECT set_config('statement_timeout', %(wait)s, true)")

"""Retention: what is deleted, and of whom.

A slice is one short transaction: it locks some machines without waiting for any (SKIP LOCKED), and then deletes what is theirs;
a lock and a look are two statements. Rows are looked for by the ids of their machines (= ANY) besides what joins them, and open actions
by a subquery that cannot become a join (LIMIT): else the planner, who expects many, reads the whole table. The last
failure of a machine is looked for among its own actions (OFFSET 0): else all failures of all machines are read. An ended machine that still has open actions is not at rest, and is left alone.
"""

from fsm_core.postgres.statements import Statement

# Machines that ended longer ago than `age`, with all they had; as many as have about `events` events. Locks them.
# Index: machines_ended, actions_pkey.
LOCK_ENDED = Statement(
    "lock_ended",
    """
WITH l AS MATERIALIZED (
  SELECT m.id, m.seq, m.ended_at FROM {s}.machines m
   WHERE NOT m.pruned AND m.ended_at IS NOT NULL AND m.ended_at < now() - %(age)s::interval
     AND (SELECT 1 FROM {s}.actions a
           WHERE a.machine_id = m.id AND a.status NOT IN ('completed', 'failed', 'cancelled') LIMIT 1) IS NULL
   ORDER BY m.ended_at LIMIT %(limit)s FOR NO KEY UPDATE OF m SKIP LOCKED)
SELECT n.id, n.seq FROM (SELECT l.*, sum(l.seq + 1) OVER (ORDER BY l.ended_at, l.id) - (l.seq + 1) AS before FROM l) n
 WHERE n.before < %(events)s
""",
)

# The next machines by id. Index: machines_pkey.
PAGE = Statement("prune_page", "SELECT id FROM {s}.machines WHERE id > %(after)s ORDER BY id LIMIT %(limit)s")

# Of these machines, those that live and whose log begins before `age`: its first event, and where it can be cut, which is where a
# replay can begin: at the last event, if it is that old, else at the newest snapshot that is. Locks them.
# Index: machines_pkey, events_pkey, snapshots_pkey.
LOCK_LIVE = Statement(
    "lock_live",
    """
SELECT m.id, (SELECT e.seq FROM {s}.events e WHERE e.machine_id = m.id ORDER BY e.seq LIMIT 1),
       CASE WHEN m.updated_at < now() - %(age)s::interval THEN m.seq
            ELSE (SELECT max(o.seq) FROM {s}.snapshots o JOIN {s}.events e ON e.machine_id = o.machine_id AND e.seq = o.seq
                   WHERE o.machine_id = m.id AND e.occurred_at < now() - %(age)s::interval) END
  FROM {s}.machines m
 WHERE m.id = ANY (%(ids)s::uuid[]) AND m.status = 'live' AND m.seq > 0 AND now() - %(age)s::interval >
       (SELECT e.occurred_at FROM {s}.events e WHERE e.machine_id = m.id ORDER BY e.seq LIMIT 1)
   FOR NO KEY UPDATE OF m SKIP LOCKED
""",
)

# A replay of these machines can begin at their last event. One that has a snapshot after `base` needs no other yet.
# Index: machines_pkey, snapshots_pkey.
SNAPSHOT = Statement(
    "snapshot",
    """
INSERT INTO {s}.snapshots (machine_id, seq, version, state_name, state)
SELECT m.id, m.seq, m.version, m.state_name, m.state
  FROM unnest(%(ids)s::uuid[], %(bases)s::int[]) AS u(id, base) JOIN {s}.machines m ON m.id = u.id
 WHERE m.id = ANY (%(ids)s::uuid[]) AND m.seq > 0 AND (m.seq = u.base OR NOT EXISTS (
       SELECT 1 FROM {s}.snapshots o WHERE o.machine_id = m.id AND o.seq > coalesce(u.base, -1)))
ON CONFLICT (machine_id, seq) DO UPDATE SET version = excluded.version, state_name = excluded.state_name, state = excluded.state
""",
)

# What these machines had before the event `base`: events, snapshots, finished actions with their attempts. Kept, so that it can be
# retried and looked at: the last failed action of an ended machine, all of one that lives; of that, also what tells how its children
# are reached, and what finished after `age`. Waits for nobody: an action that an operator is retrying is skipped.
# Index: events_pkey, snapshots_pkey, actions_pkey, attempts_pkey.
CUT = Statement(
    "cut",
    """
WITH u AS MATERIALIZED (SELECT * FROM unnest(%(ids)s::uuid[], %(bases)s::int[]) AS u(id, base) WHERE base IS NOT NULL),
last AS MATERIALIZED (
  SELECT f.* FROM u CROSS JOIN LATERAL (
    SELECT a.machine_id, a.seq, a.idx FROM (
      SELECT o.machine_id, o.seq, o.idx, o.status, o.finished_at FROM {s}.actions o WHERE o.machine_id = u.id OFFSET 0) a
     WHERE a.status = 'failed' ORDER BY a.finished_at DESC, a.seq DESC, a.idx DESC LIMIT 1) f),
gone AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx FROM u JOIN {s}.actions a ON a.machine_id = u.id
   WHERE a.machine_id = ANY (%(ids)s::uuid[]) AND a.seq < u.base AND a.status IN ('completed', 'failed', 'cancelled') AND a.finished_at < now() - %(age)s::interval
     AND CASE WHEN %(ended)s THEN (a.machine_id, a.seq, a.idx) NOT IN (SELECT machine_id, seq, idx FROM last)
              ELSE a.status <> 'failed' AND a.name <> 'Spawn' END
     FOR UPDATE OF a SKIP LOCKED),
e AS (DELETE FROM {s}.events t USING u WHERE t.machine_id = ANY (%(ids)s::uuid[]) AND t.machine_id = u.id AND t.seq < u.base RETURNING 1),
o AS (DELETE FROM {s}.snapshots t USING u WHERE t.machine_id = ANY (%(ids)s::uuid[]) AND t.machine_id = u.id AND t.seq < u.base RETURNING 1),
a AS (DELETE FROM {s}.actions t USING gone g
       WHERE t.machine_id = ANY (%(ids)s::uuid[]) AND t.machine_id = g.machine_id AND t.seq = g.seq AND t.idx = g.idx RETURNING 1),
x AS (DELETE FROM {s}.attempts t USING gone g
       WHERE t.machine_id = ANY (%(ids)s::uuid[]) AND t.machine_id = g.machine_id AND t.seq = g.seq AND t.idx = g.idx RETURNING 1)
SELECT (SELECT count(*) FROM e), (SELECT count(*) FROM a), (SELECT count(*) FROM x), (SELECT count(*) FROM o)
""",
)

# They have been pruned: their held events, which nobody will take, go too. Index: machines_pkey, inbox_pkey.
MARK = Statement(
    "mark",
    """
WITH i AS (DELETE FROM {s}.inbox t WHERE t.machine_id = ANY (%(ids)s::uuid[]) RETURNING t.machine_id),
m AS (
  UPDATE {s}.machines t SET pruned = true, rev = t.rev + 1,
         inbox = t.inbox - (SELECT count(*) FROM i WHERE i.machine_id = t.id) WHERE t.id = ANY (%(ids)s::uuid[]) RETURNING 1)
SELECT (SELECT count(*) FROM i), (SELECT count(*) FROM m)
""",
)

# Machines that have been pruned, and ended longer ago than `age`. One whose children have not been is kept: they name it.
# Locks them. Index: machines_ended, machines_parent, actions_pkey.
LOCK_PRUNED = Statement(
    "lock_pruned",
    """
SELECT m.id FROM {s}.machines m
 WHERE m.pruned AND m.ended_at IS NOT NULL AND m.ended_at < now() - %(age)s::interval
   AND (SELECT 1 FROM {s}.machines c WHERE c.parent = m.id AND NOT c.pruned LIMIT 1) IS NULL
   AND (SELECT 1 FROM {s}.actions a
         WHERE a.machine_id = m.id AND a.status NOT IN ('completed', 'failed', 'cancelled') LIMIT 1) IS NULL
 ORDER BY m.ended_at LIMIT %(limit)s FOR UPDATE OF m SKIP LOCKED
""",
)

# Of these machines, those whose actions can all be locked, and have all finished: an operator may be retrying one. Locks them.
# Index: actions_pkey.
AT_REST = Statement(
    "at_rest",
    """
WITH l AS MATERIALIZED (
  SELECT a.machine_id, a.status FROM {s}.actions a WHERE a.machine_id = ANY (%(ids)s::uuid[]) FOR UPDATE SKIP LOCKED)
SELECT u.id FROM unnest(%(ids)s::uuid[]) AS u(id)
 WHERE (SELECT count(*) FROM {s}.actions a WHERE a.machine_id = u.id) =
       (SELECT count(*) FROM l WHERE l.machine_id = u.id AND l.status IN ('completed', 'failed', 'cancelled'))
""",
)

# Everything of some machines; their inbox, dedup keys and snapshots go with their rows. Index: machines_pkey, events_pkey, actions_pkey,
# attempts_pkey.
FORGET = Statement(
    "forget",
    """
WITH e AS (DELETE FROM {s}.events WHERE machine_id = ANY (%(ids)s::uuid[]) RETURNING 1),
a AS (DELETE FROM {s}.actions WHERE machine_id = ANY (%(ids)s::uuid[]) RETURNING 1),
x AS (DELETE FROM {s}.attempts WHERE machine_id = ANY (%(ids)s::uuid[]) RETURNING 1),
m AS (DELETE FROM {s}.machines WHERE id = ANY (%(ids)s::uuid[]) RETURNING 1)
SELECT (SELECT count(*) FROM e), (SELECT count(*) FROM a), (SELECT count(*) FROM x), (SELECT count(*) FROM m)
""",
)

# Machines with held events that nobody took in time. Locks them: a crossing start, signal or event comes before or after.
# Index: inbox_expires, machines_pkey.
LOCK_EXPIRED = Statement(
    "lock_expired",
    """
WITH due AS MATERIALIZED (
  SELECT DISTINCT o.machine_id FROM (
    SELECT i.machine_id FROM {s}.inbox i WHERE i.expires_at IS NOT NULL AND i.expires_at < now()
     ORDER BY i.expires_at LIMIT %(limit)s) o)
SELECT m.id FROM due JOIN {s}.machines m ON m.id = due.machine_id ORDER BY m.id FOR UPDATE OF m SKIP LOCKED
""",
)

# Those events; and the machines that were only waiting for their start, if nothing is left to wait with. Index: inbox_pkey,
# machines_pkey.
EXPIRE = Statement(
    "expire",
    """
WITH i AS (
  DELETE FROM {s}.inbox t WHERE t.machine_id = ANY (%(ids)s::uuid[]) AND t.expires_at < now() RETURNING t.machine_id),
n AS MATERIALIZED (
  SELECT m.id, m.status = 'unborn' AND m.inbox = count(i.machine_id) AS over, count(i.machine_id) AS held
    FROM {s}.machines m LEFT JOIN i ON i.machine_id = m.id WHERE m.id = ANY (%(ids)s::uuid[]) GROUP BY m.id),
u AS (
  UPDATE {s}.machines t SET inbox = t.inbox - n.held, rev = t.rev + 1
    FROM n WHERE t.id = ANY (%(ids)s::uuid[]) AND t.id = n.id AND n.held > 0 AND NOT n.over),
d AS (DELETE FROM {s}.machines t USING n WHERE t.id = ANY (%(ids)s::uuid[]) AND t.id = n.id AND n.over RETURNING 1)
SELECT (SELECT count(*) FROM i), (SELECT count(*) FROM d)
""",
)

# How much there is to do: machines to prune, and to forget; held events that have expired. Index: machines_ended, inbox_expires,
# machines_parent, actions_pkey.
COUNT = Statement(
    "count_old",
    """
WITH o AS MATERIALIZED (
  SELECT m.id, m.pruned, m.ended_at FROM {s}.machines m
   WHERE m.pruned IN (false, true) AND m.ended_at IS NOT NULL AND m.ended_at < now() - least(%(details)s::interval, %(whole)s::interval)
     AND (SELECT 1 FROM {s}.actions a
           WHERE a.machine_id = m.id AND a.status NOT IN ('completed', 'failed', 'cancelled') LIMIT 1) IS NULL)
SELECT (SELECT count(*) FROM o WHERE NOT o.pruned),
       (SELECT count(*) FROM o WHERE o.ended_at < now() - %(whole)s::interval
           AND NOT EXISTS (SELECT 1 FROM {s}.machines c
                            WHERE c.parent = o.id AND NOT c.pruned AND NOT EXISTS (SELECT 1 FROM o p WHERE p.id = c.id))),
       (SELECT count(*) FROM {s}.inbox i WHERE i.expires_at IS NOT NULL AND i.expires_at < now())
""",
)

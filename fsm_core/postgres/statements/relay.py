"""What a relay does: it moves rows between blocked, pending and published, and takes leases away. It never ends a tracked action.

`now()` and not clock_timestamp() where an index is searched: only a stable function can be an index condition. All of
these run in autocommit, where now() is the statement's own time.
"""

from fsm_core.postgres.statements import Statement

# The queues that somebody serves, with their slots, and up to when each was claimed from: under prefork it is the children that
# claim, and say so in rows of their own. Small table, no index needed.
QUEUES = Statement(
    "queues",
    """
SELECT q.queue, sum(q.slots)::int,
       (SELECT max((c.claimed -> q.queue ->> 1)::timestamptz) FROM {s}.workers c
         WHERE c.dead_at IS NULL AND c.claimed ? q.queue)
  FROM {s}.workers w CROSS JOIN LATERAL jsonb_each_text(w.queues) AS e(queue, slots_text)
       CROSS JOIN LATERAL (SELECT e.queue, e.slots_text::int AS slots) q
 WHERE w.dead_at IS NULL AND w.alive_until > clock_timestamp() AND w.kind = 'node'
 GROUP BY q.queue
""",
)

# How much of a queue's window is taken. Index: actions_published.
WINDOW = Statement(
    "window", "SELECT count(*) FROM {s}.actions WHERE status = 'published' AND queue = %(queue)s"
)

# Take due rows, most urgent first, and mark them with a ticket. Never waits. Index: actions_due, once per priority.
PUBLISH = Statement(
    "publish",
    """
WITH due AS MATERIALIZED (
  SELECT l.* FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT a.machine_id, a.seq, a.idx FROM {s}.actions a
     WHERE a.status = 'pending' AND a.queue = %(queue)s AND a.priority = p.priority AND a.run_at <= now()
     ORDER BY a.run_at LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED) l
  LIMIT %(n)s)
UPDATE {s}.actions a SET status = 'published', token = %(ticket)s, published_at = clock_timestamp(), publishes = 0
  FROM due d, {s}.machines m
 WHERE a.machine_id = d.machine_id AND a.seq = d.seq AND a.idx = d.idx AND m.id = a.machine_id
RETURNING a.machine_id, a.seq, a.idx, m.fsm, a.name, a.lost
""",
)

# The broker would not take them: back, under the same guard; no attempt was made, run_at stays. Index: actions_pkey.
UNPUBLISH = Statement(
    "unpublish",
    """
WITH l AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.status, a.token
    FROM unnest(%(machine)s::uuid[], %(seq)s::int[], %(idx)s::smallint[]) AS u(machine_id, seq, idx)
    JOIN {s}.actions a USING (machine_id, seq, idx) FOR NO KEY UPDATE OF a SKIP LOCKED)
UPDATE {s}.actions a SET status = 'pending', note = %(note)s
  FROM l WHERE l.status = 'published' AND l.token = %(ticket)s
   AND a.machine_id = l.machine_id AND a.seq = l.seq AND a.idx = l.idx
""",
)

# When the next row becomes due, of the queues that are served. Index: actions_due, its first row per (queue, priority):
# the minimum over the whole index would read all of it.
NEXT_DUE = Statement(
    "next_due",
    """
SELECT extract(epoch FROM min(l.run_at) - clock_timestamp())::float8
  FROM unnest(%(queues)s::text[]) AS q(queue) CROSS JOIN generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT a.run_at FROM {s}.actions a WHERE a.status = 'pending' AND a.queue = q.queue AND a.priority = p.priority
     ORDER BY a.run_at LIMIT 1) l
""",
)

# One relay admits at a time; a statement of its own, so that the pass sees what the one before it did.
ADMISSION = Statement("admission", "SELECT pg_try_advisory_xact_lock({admission})")

# Admit the head of each free lane. Loose index scan over the lanes from a cursor, at most 500 a pass. actions_lane is the
# backstop. Never waits: two heads of one machine against its cancel would deadlock. Index: actions_blocked, actions_lane.
ADMIT = Statement(
    "admit",
    """
WITH RECURSIVE lanes AS (
  (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane > %(cursor)s ORDER BY a.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane > l.lane ORDER BY a.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL),
picked AS MATERIALIZED (SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT 500),
head AS MATERIALIZED (
  SELECT h.* FROM picked p CROSS JOIN LATERAL (
    SELECT a.machine_id, a.seq, a.idx, a.run_at, a.limit_name FROM {s}.actions a
     WHERE a.status = 'blocked' AND a.lane = p.lane ORDER BY a.created_at, a.machine_id, a.seq, a.idx LIMIT 1) h
   WHERE h.run_at <= clock_timestamp() AND h.limit_name IS NULL
     AND NOT EXISTS (SELECT 1 FROM {s}.actions b WHERE b.lane = p.lane AND b.status IN ('pending', 'published', 'running'))),
free AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.status FROM head h JOIN {s}.actions a USING (machine_id, seq, idx)
     FOR NO KEY UPDATE OF a SKIP LOCKED),
moved AS (
  UPDATE {s}.actions a SET status = 'pending' FROM free f
   WHERE f.status = 'blocked' AND a.machine_id = f.machine_id AND a.seq = f.seq AND a.idx = f.idx RETURNING 1)
SELECT (SELECT count(*) FROM moved), (SELECT max(lane) FROM picked), (SELECT count(*) FROM picked)
""",
)

# Workers whose lease ran out. Not before the server is up for one lease: after an outage all heartbeats are late at once.
MARK_DEAD = Statement(
    "mark_dead",
    """
UPDATE {s}.workers SET dead_at = clock_timestamp()
 WHERE id IN (SELECT id FROM {s}.workers WHERE dead_at IS NULL AND alive_until < clock_timestamp()
               ORDER BY id LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED)
   AND pg_postmaster_start_time() + %(lease)s::interval < clock_timestamp()
RETURNING id
""",
)

# What dead (or unknown) workers were running goes back, with an attempt on record and its outcome in doubt.
# Index: actions_running.
REQUEUE_DEAD = Statement(
    "requeue_dead",
    """
WITH l AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.attempt, a.token, a.worker_id, a.started_at FROM {s}.actions a
   WHERE a.status = 'running' AND NOT EXISTS (SELECT 1 FROM {s}.workers w WHERE w.id = a.worker_id AND w.dead_at IS NULL)
   ORDER BY a.machine_id, a.seq, a.idx LIMIT 500 FOR NO KEY UPDATE OF a SKIP LOCKED),
t AS (
  INSERT INTO {s}.attempts (machine_id, seq, idx, token, attempt, worker_id, started_at, ended_at, outcome)
  SELECT machine_id, seq, idx, token, attempt, worker_id, started_at, clock_timestamp(), 'lost' FROM l ON CONFLICT DO NOTHING)
UPDATE {s}.actions a
   SET status = 'pending', lost = a.lost + 1, in_doubt = true, note = 'its worker was lost',
       run_at = clock_timestamp() + least(60, 0.25 * 2 ^ least(a.lost, 10)) * (0.5 + random()) * interval '1 s'
  FROM l WHERE a.machine_id = l.machine_id AND a.seq = l.seq AND a.idx = l.idx
RETURNING a.machine_id, a.seq, a.idx
""",
)

# Published and not claimed for longer than T * 2^publishes: suspects, not yet lost. At most 500 of each queue: a queue whose
# messages only wait must not hide those that another one has lost. Index: actions_published.
OVERDUE = Statement(
    "overdue",
    """
SELECT a.machine_id, a.seq, a.idx, a.token, a.queue, a.published_at, a.publishes, m.fsm, a.name
  FROM unnest(%(queues)s::text[]) AS q(queue) CROSS JOIN LATERAL (
    SELECT p.* FROM {s}.actions p
     WHERE p.status = 'published' AND p.queue = q.queue AND p.published_at < now() - %(patience)s::interval
       AND p.published_at < clock_timestamp() - least(interval '10 min', %(patience)s::interval * 2 ^ least(p.publishes, 16))
     ORDER BY p.published_at LIMIT 500) a
  JOIN {s}.machines m ON m.id = a.machine_id
""",
)

# Lost by evidence: count the next publishing under the same ticket. An untracked one too: its claim keeps it at most once.
# Index: actions_pkey.
REPUBLISH = Statement(
    "republish",
    """
WITH l AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.status, a.token, u.ticket
    FROM unnest(%(machine)s::uuid[], %(seq)s::int[], %(idx)s::smallint[], %(ticket)s::uuid[]) AS u(machine_id, seq, idx, ticket)
    JOIN {s}.actions a USING (machine_id, seq, idx) FOR NO KEY UPDATE OF a SKIP LOCKED)
UPDATE {s}.actions a SET publishes = a.publishes + 1
  FROM l WHERE l.status = 'published' AND l.token = l.ticket
   AND a.machine_id = l.machine_id AND a.seq = l.seq AND a.idx = l.idx
RETURNING a.machine_id, a.seq, a.idx
""",
)

# Rows of workers long gone, kept a day for whoever asks.
FORGET_WORKERS = Statement(
    "forget_workers", "DELETE FROM {s}.workers WHERE dead_at < clock_timestamp() - interval '1 day'"
)

# The bell: held by the relay on duty while it sleeps. A writer that cannot share it notifies.
TAKE_BELL = Statement("take_bell", "SELECT pg_try_advisory_lock({bell})")
DROP_BELL = Statement("drop_bell", "SELECT pg_advisory_unlock({bell})")
PEER_ON_DUTY = Statement(
    "peer_on_duty",
    """
SELECT EXISTS (SELECT 1 FROM pg_locks l, (VALUES ({bell})) AS b(class, object)
                WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted AND l.objsubid = 2
                  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND l.classid::bigint = b.class AND l.objid::bigint = (b.object::bigint & 4294967295))
""",
)

# A process says that it is there. Its lease is judged by the database's clock.
REGISTER = Statement(
    "register",
    """
INSERT INTO {s}.workers (id, kind, host, pid, queues, known, claimed, started_at, alive_until)
VALUES (%(id)s, %(kind)s, %(host)s, %(pid)s, %(queues)s::jsonb, %(known)s::jsonb, '{{}}', clock_timestamp(),
        clock_timestamp() + %(lease)s::interval)
""",
)

# The heartbeat. No row: the lease was taken away, all claims are void.
BEAT = Statement(
    "beat",
    """
UPDATE {s}.workers SET alive_until = clock_timestamp() + %(lease)s::interval, claimed = %(claimed)s::jsonb
 WHERE id = %(id)s AND dead_at IS NULL RETURNING 1
""",
)

# What the database believes that this worker is running; what it is not running is a stray. Index: actions_running.
RUNNING = Statement(
    "running",
    "SELECT machine_id, seq, idx, token FROM {s}.actions WHERE status = 'running' AND worker_id = %(id)s",
)

# A graceful end: the row says dead at once, so that nobody waits for its lease.
RETIRE = Statement(
    "retire", "UPDATE {s}.workers SET dead_at = clock_timestamp() WHERE id = %(id)s AND dead_at IS NULL"
)

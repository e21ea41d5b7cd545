"""What a relay does: it moves rows between blocked, pending and published, and takes leases away. It never ends a tracked action.

`now()` and not clock_timestamp() where an index is searched: only a stable function can be an index condition. All of
these run in autocommit, where now() is the statement's own time.
"""

from fsm_core.postgres.statements import Statement

# The queues that somebody serves, with their slots, up to when each was claimed from, whether each is under a limit, and how many of its
# actions the slowest of its workers claims in one go: under prefork it is the children that claim, and say so in rows of their own. Small tables. Index: limits_pkey.
QUEUES = Statement(
    "queues",
    """
SELECT q.queue, sum(q.slots)::int,
       (SELECT max((c.claimed -> q.queue ->> 1)::timestamptz) FROM {s}.workers c
         WHERE c.dead_at IS NULL AND c.claimed ? q.queue),
       EXISTS (SELECT 1 FROM {s}.limits l WHERE l.name = 'queue:' || q.queue),
       coalesce((SELECT min((c.claimed -> q.queue ->> 2)::int) FROM {s}.workers c
                  WHERE c.dead_at IS NULL AND c.alive_until > clock_timestamp() AND c.claimed ? q.queue), 1)
  FROM {s}.workers w CROSS JOIN LATERAL jsonb_each_text(w.queues) AS e(queue, slots_text)
       CROSS JOIN LATERAL (SELECT e.queue, e.slots_text::int AS slots) q
 WHERE w.dead_at IS NULL AND w.alive_until > clock_timestamp() AND w.kind = 'node'
 GROUP BY q.queue
""",
)

# How much of a queue's window is taken, and how old its oldest row is. `back`: how far to look; see `low_water`. Index: actions_published.
WINDOW = Statement(
    "window",
    """
SELECT count(*), now() - min(published_at) FROM {s}.actions
 WHERE status = 'published' AND queue = %(queue)s AND published_at >= now() - %(back)s::interval
""",
)

# Take due rows, most urgent first, and mark them with a ticket. `back`: how far to look; see `low_water`. Never waits. Their machines are named behind a fence: joined with
# the update, they made the planner read all actions of each machine. Index: actions_due, once per priority; machines_pkey, actions_pkey.
PUBLISH = Statement(
    "publish",
    """
WITH due AS MATERIALIZED (
  SELECT l.* FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT a.machine_id, a.seq, a.idx FROM {s}.actions a
     WHERE a.status = 'pending' AND a.queue = %(queue)s AND a.priority = p.priority AND a.run_at <= now()
       AND a.run_at >= now() - %(back)s::interval
     ORDER BY a.run_at LIMIT %(n)s FOR NO KEY UPDATE SKIP LOCKED) l
  LIMIT %(n)s),
named AS MATERIALIZED (SELECT d.*, m.fsm FROM due d JOIN {s}.machines m ON m.id = d.machine_id)
UPDATE {s}.actions a SET status = 'published', token = %(ticket)s, published_at = clock_timestamp(), publishes = 0
  FROM named n
 WHERE a.machine_id = n.machine_id AND a.seq = n.seq AND a.idx = n.idx
RETURNING a.machine_id, a.seq, a.idx, n.fsm, a.name, a.lost
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

# Is anything blocked at all? Mostly not, and then nobody needs the lock. ORDER BY, so that the index is read and never the table.
# Index: actions_blocked.
BLOCKED = Statement(
    "blocked",
    """
SELECT 1 FROM {s}.actions WHERE status = 'blocked' ORDER BY lane, created_at, machine_id, seq, idx LIMIT 1
""",
)

# One relay admits at a time; a statement of its own, so that the pass sees what the one before it did.
ADMISSION = Statement("admission", "SELECT pg_try_advisory_xact_lock({admission})")

# Admit the head of each free lane, and what each limit leaves room for. Loose index scans over the lanes and over the keys of the
# limits, each from a cursor and at most 500 a pass; a key's rows are read up to its share of 500, the most urgent first, so that
# what is denied costs one row a key. The slots of a limit are the rows that are admitted and not ended. A lane's head that has a
# limit needs both. Tokens are taken here. A limit that nobody has set is noted on the first of its rows. actions_lane is the backstop
# of lanes; limits have none but the single runner and its snapshot. Never waits: two heads of one machine against its cancel would
# deadlock. What was found goes through arrays, and a bucket through LIMIT 1: the planner cannot know how few they are, and would read
# the whole table for them. Index: actions_blocked, actions_lane, actions_limited, actions_taken, buckets_pkey, actions_pkey.
ADMIT = Statement(
    "admit",
    """
WITH RECURSIVE clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
lanes AS (
  (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane > %(lane)s ORDER BY a.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane > l.lane ORDER BY a.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL),
picked AS MATERIALIZED (SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT 500),
head AS MATERIALIZED (
  SELECT h.* FROM picked p CROSS JOIN LATERAL (
    SELECT a.machine_id, a.seq, a.idx, a.priority, a.run_at, a.limit_name, a.limit_key FROM {s}.actions a
     WHERE a.status = 'blocked' AND a.lane = p.lane ORDER BY a.created_at, a.machine_id, a.seq, a.idx LIMIT 1) h
   WHERE NOT EXISTS (SELECT 1 FROM {s}.actions b WHERE b.lane = p.lane AND b.status IN ('pending', 'published', 'running'))),
keys AS (
  (SELECT a.limit_name, a.limit_key FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane IS NULL
      AND (a.limit_name, a.limit_key) > (%(limit)s::text, %(key)s::text) ORDER BY a.limit_name, a.limit_key LIMIT 1)
  UNION ALL
  SELECT n.limit_name, n.limit_key FROM keys k CROSS JOIN LATERAL (
    SELECT a.limit_name, a.limit_key FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane IS NULL
       AND (a.limit_name, a.limit_key) > (k.limit_name, k.limit_key) ORDER BY a.limit_name, a.limit_key LIMIT 1) n),
looked AS MATERIALIZED (SELECT limit_name, limit_key FROM keys LIMIT 500),
room AS MATERIALIZED (
  SELECT w.*, l.name IS NOT NULL AS known, l.max_running, l.rate, l.per, t.taken, t.tokens,
         CASE WHEN l.name IS NULL THEN 0
              ELSE least(500, l.max_running - t.taken, floor(t.tokens + 1e-9))::int END AS n
    FROM (SELECT limit_name, limit_key FROM looked
          UNION SELECT limit_name, limit_key FROM head WHERE limit_name IS NOT NULL) w
    LEFT JOIN {s}.limits l ON l.name = w.limit_name
    LEFT JOIN LATERAL (
      SELECT b.tokens, b.refilled_at FROM {s}.buckets b WHERE b.name = w.limit_name AND b.key = w.limit_key LIMIT 1) b ON true
    CROSS JOIN LATERAL (
      SELECT CASE WHEN l.max_running IS NOT NULL THEN (
               SELECT count(*) FROM {s}.actions c WHERE c.limit_name = w.limit_name AND c.limit_key = w.limit_key
                  AND c.status IN ('pending', 'published', 'running')) END AS taken,
             CASE WHEN l.rate IS NOT NULL THEN least(l.burst, coalesce(b.tokens + l.rate * (
               extract(epoch FROM greatest((SELECT at FROM clock) - b.refilled_at, interval '0'))
               / extract(epoch FROM l.per))::float8, l.burst)) END AS tokens OFFSET 0) t),
share AS MATERIALIZED (
  SELECT greatest(500 / greatest(count(*), 1), 1) AS n FROM looked JOIN room r USING (limit_name, limit_key) WHERE r.n > 0),
due AS MATERIALIZED (
  SELECT r.limit_name, r.limit_key, d.*
    FROM looked JOIN room r USING (limit_name, limit_key) CROSS JOIN share s CROSS JOIN LATERAL (
      SELECT x.* FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
        SELECT a.machine_id, a.seq, a.idx, a.priority, a.run_at FROM {s}.actions a
         WHERE a.status = 'blocked' AND a.lane IS NULL AND a.limit_name = r.limit_name AND a.limit_key = r.limit_key
           AND a.priority = p.priority AND a.run_at <= now()
         ORDER BY a.run_at LIMIT least(r.n, s.n)) x
      LIMIT least(r.n, s.n)) d
   WHERE r.n > 0
  UNION ALL
  SELECT h.limit_name, h.limit_key, h.machine_id, h.seq, h.idx, h.priority, h.run_at
    FROM head h WHERE h.run_at <= (SELECT at FROM clock)),
chosen AS MATERIALIZED (
  SELECT array_agg(d.machine_id) AS machine_id, array_agg(d.seq) AS seq, array_agg(d.idx) AS idx
    FROM (SELECT d.*, row_number() OVER (PARTITION BY d.limit_name, d.limit_key
                                         ORDER BY d.priority, d.run_at, d.machine_id, d.seq, d.idx) AS place FROM due d) d
    LEFT JOIN room r ON r.limit_name = d.limit_name AND r.limit_key = d.limit_key
   WHERE d.limit_name IS NULL OR d.place <= r.n),
free AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.status
    FROM chosen c CROSS JOIN LATERAL unnest(c.machine_id, c.seq, c.idx) AS u(machine_id, seq, idx)
    JOIN {s}.actions a ON a.machine_id = u.machine_id AND a.seq = u.seq AND a.idx = u.idx FOR NO KEY UPDATE OF a SKIP LOCKED),
moved AS (
  UPDATE {s}.actions a SET status = 'pending', note = nullif(a.note, 'waits for a limit that nobody has set: ' || a.limit_name)
    FROM free f WHERE f.status = 'blocked' AND a.machine_id = f.machine_id AND a.seq = f.seq AND a.idx = f.idx
  RETURNING a.limit_name, a.limit_key),
used AS MATERIALIZED (
  SELECT r.*, coalesce(m.n, 0) AS begun FROM room r
    LEFT JOIN (SELECT limit_name, limit_key, count(*) AS n FROM moved GROUP BY 1, 2) m USING (limit_name, limit_key)),
spent AS (
  INSERT INTO {s}.buckets AS b (name, key, tokens, refilled_at)
  SELECT u.limit_name, u.limit_key, u.tokens - u.begun, c.at FROM used u CROSS JOIN clock c WHERE u.rate IS NOT NULL AND u.begun > 0
  ON CONFLICT (name, key) DO UPDATE SET tokens = excluded.tokens, refilled_at = greatest(b.refilled_at, excluded.refilled_at)),
strange AS MATERIALIZED (
  SELECT array_agg(f.machine_id) AS machine_id, array_agg(f.seq) AS seq, array_agg(f.idx) AS idx FROM (
    SELECT x.* FROM looked JOIN room r USING (limit_name, limit_key) CROSS JOIN LATERAL (
      SELECT a.machine_id, a.seq, a.idx FROM {s}.actions a
       WHERE a.status = 'blocked' AND a.lane IS NULL AND a.limit_name = r.limit_name AND a.limit_key = r.limit_key
       ORDER BY a.priority, a.run_at LIMIT 1) x WHERE NOT r.known
    UNION ALL
    SELECT h.machine_id, h.seq, h.idx FROM head h JOIN room r USING (limit_name, limit_key) WHERE NOT r.known) f),
found AS MATERIALIZED (
  SELECT a.machine_id, a.seq, a.idx, a.status, a.note
    FROM strange f CROSS JOIN LATERAL unnest(f.machine_id, f.seq, f.idx) AS u(machine_id, seq, idx)
    JOIN {s}.actions a ON a.machine_id = u.machine_id AND a.seq = u.seq AND a.idx = u.idx FOR NO KEY UPDATE OF a SKIP LOCKED),
noted AS (
  UPDATE {s}.actions a SET note = 'waits for a limit that nobody has set: ' || a.limit_name
    FROM found f WHERE f.status = 'blocked' AND a.machine_id = f.machine_id AND a.seq = f.seq AND a.idx = f.idx
     AND f.note IS DISTINCT FROM 'waits for a limit that nobody has set: ' || a.limit_name),
wake AS (
  SELECT h.run_at AS at FROM head h WHERE h.run_at > (SELECT at FROM clock)
  UNION ALL
  SELECT c.at + (1 - u.tokens + u.begun) / u.rate * u.per + interval '1 microsecond' FROM used u CROSS JOIN clock c
   WHERE u.tokens - u.begun + 1e-9 < 1 AND (u.max_running IS NULL OR u.taken + u.begun < u.max_running)
  UNION ALL
  SELECT n.at FROM looked JOIN used u USING (limit_name, limit_key) CROSS JOIN LATERAL (
    SELECT min(x.run_at) AS at FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
      SELECT a.run_at FROM {s}.actions a
       WHERE a.status = 'blocked' AND a.lane IS NULL AND a.limit_name = u.limit_name AND a.limit_key = u.limit_key
         AND a.priority = p.priority AND a.run_at > now() ORDER BY a.run_at LIMIT 1) x) n
   WHERE u.begun < u.n)
SELECT (SELECT count(*) FROM moved), (SELECT max(lane) FROM picked), (SELECT count(*) FROM picked),
       l.limit_name, l.limit_key, (SELECT count(*) FROM looked),
       extract(epoch FROM (SELECT min(at) FROM wake) - clock_timestamp())::float8
  FROM (SELECT 1) one LEFT JOIN (SELECT * FROM looked ORDER BY limit_name DESC, limit_key DESC LIMIT 1) l ON true
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

# What dead (or unknown) workers were running goes back, with an attempt on record and its outcome in doubt; what has a limit goes
# through admission again, as any retry.
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
   SET status = CASE WHEN a.limit_name IS NULL THEN 'pending' ELSE 'blocked' END, lost = a.lost + 1, in_doubt = true,
       note = 'its worker was lost',
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
    SELECT p.machine_id, p.seq, p.idx, p.token, p.queue, p.published_at, p.publishes, p.name FROM {s}.actions p
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

"""What `doctor` and `stats` ask. No locks; each is bounded by its limits, and by LOOK_TIMEOUT (`upcast`) besides.

Tables are never counted from end to end: names come by loose index scans (one descent for each), rows by a LIMIT behind an index,
the rest from a sample of pages. `%(most)s` is where a count ends. Ages are intervals by the database's clock.
"""

from fsm_core.postgres.statements import Statement

# How the server is set, and how many connections it has. Anybody may read it.
SERVER = Statement(
    "server",
    """
SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('fsync')::boolean,
       current_setting('full_page_writes')::boolean, current_setting('synchronous_commit'), current_setting('autovacuum')::boolean,
       (SELECT sum(numbackends)::int FROM pg_stat_database),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0),
       pg_has_role('pg_read_all_stats', 'USAGE')
""",
)

# The server's clock, to be held against this host's.
CLOCK = Statement("clock", "SELECT clock_timestamp()")

# Transactions that others have had open in this database for longer than `patience`, the oldest first. Those of other roles are
# shown to members of pg_read_all_stats only.
SESSIONS = Statement(
    "sessions",
    """
SELECT pid, coalesce(nullif(application_name, ''), usename), state, clock_timestamp() - xact_start, clock_timestamp() - state_change
  FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND xact_start < clock_timestamp() - %(patience)s::interval
 ORDER BY xact_start LIMIT 20
""",
)

# Who keeps dead rows from being cleaned up, and for how many transactions and how long (a slot does not say how long). Autovacuum's own
# snapshots keep nothing.
HOLDERS = Statement(
    "holders",
    """
SELECT * FROM (
  SELECT 'session' AS kind, pid::text AS name, coalesce(nullif(application_name, ''), usename, backend_type) AS by, age(backend_xmin) AS xids,
         clock_timestamp() - xact_start AS since
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
     AND (datname = current_database() OR backend_type = 'walsender') AND backend_type <> 'autovacuum worker'
  UNION ALL
  SELECT 'prepared', gid, owner, age(transaction), clock_timestamp() - prepared FROM pg_prepared_xacts WHERE database = current_database()
  UNION ALL
  SELECT 'slot', slot_name, CASE WHEN active THEN 'in use' ELSE 'nobody uses it' END, age(xmin), NULL
    FROM pg_replication_slots WHERE xmin IS NOT NULL) h
 ORDER BY xids DESC LIMIT 20
""",
)

# What the statistics say of our tables (partitions too): live and dead rows, the last vacuum, and whether autovacuum is off there.
TABLES = Statement(
    "tables",
    """
SELECT c.relname, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0),
       clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum),
       NOT EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
                    WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
 WHERE n.nspname = %(schema)s AND c.relkind = 'r' ORDER BY c.relname
""",
)

# Where the schema is.
REVISION = Statement("revision", "SELECT version_num FROM {s}.schema_version")

# The processes that nobody has buried, and how long ago each one's lease ran out (negative: it lives). A table of few rows.
WORKERS = Statement(
    "workers",
    """
SELECT kind, host || ' (pid ' || pid || ')', queues, clock_timestamp() - alive_until
  FROM {s}.workers WHERE dead_at IS NULL ORDER BY kind, host, pid, id LIMIT 10000
""",
)

# Each queue that has rows or consumers: what is due and since when, what is published and since when, what runs, and whether a limit
# holds for it. Index: actions_due, once per priority; actions_published; actions_running (all of it: no more than there are slots);
# limits_pkey. ORDER BY in the counts, so that an index is read and never the table.
QUEUES = Statement(
    "queue_depths",
    """
WITH RECURSIVE waiting AS (
  (SELECT a.queue FROM {s}.actions a WHERE a.status = 'pending' ORDER BY a.queue LIMIT 1)
  UNION ALL
  SELECT (SELECT a.queue FROM {s}.actions a WHERE a.status = 'pending' AND a.queue > w.queue ORDER BY a.queue LIMIT 1)
    FROM waiting w WHERE w.queue IS NOT NULL),
sent AS (
  (SELECT a.queue FROM {s}.actions a WHERE a.status = 'published' ORDER BY a.queue LIMIT 1)
  UNION ALL
  SELECT (SELECT a.queue FROM {s}.actions a WHERE a.status = 'published' AND a.queue > w.queue ORDER BY a.queue LIMIT 1)
    FROM sent w WHERE w.queue IS NOT NULL),
running AS MATERIALIZED (SELECT a.queue, count(*) AS n FROM {s}.actions a WHERE a.status = 'running' GROUP BY a.queue),
names AS (
  SELECT queue FROM waiting WHERE queue IS NOT NULL UNION SELECT queue FROM sent WHERE queue IS NOT NULL UNION SELECT queue FROM running
  UNION SELECT k.queue FROM {s}.workers w CROSS JOIN LATERAL jsonb_object_keys(w.queues) AS k(queue)
         WHERE w.dead_at IS NULL AND w.alive_until > clock_timestamp())
SELECT n.queue, due.n, clock_timestamp() - due.since, out.n, clock_timestamp() - out.since, coalesce(r.n, 0),
       EXISTS (SELECT FROM {s}.limits l WHERE l.name = 'queue:' || n.queue)
  FROM names n LEFT JOIN running r USING (queue)
 CROSS JOIN LATERAL (
   SELECT count(*) AS n, min(x.run_at) AS since FROM (
     SELECT y.run_at FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
       SELECT a.run_at FROM {s}.actions a
        WHERE a.status = 'pending' AND a.queue = n.queue AND a.priority = p.priority AND a.run_at <= now()
        ORDER BY a.run_at LIMIT %(most)s) y LIMIT %(most)s) x) due
 CROSS JOIN LATERAL (
   SELECT count(*) AS n, min(x.published_at) AS since FROM (
     SELECT a.published_at FROM {s}.actions a WHERE a.status = 'published' AND a.queue = n.queue
      ORDER BY a.published_at LIMIT %(most)s) x) out
 ORDER BY n.queue
""",
)

# Lanes (500 are looked at) whose head has not moved for longer than `patience` while others wait behind it: the head, its status, since
# when it is there or in how long it is due, and how many wait. One that was just admitted is no such head: it is due, and counted there.
# Index: actions_blocked, actions_lane, machines_pkey.
LANES = Statement(
    "lanes",
    """
WITH RECURSIVE lanes AS (
  (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane IS NOT NULL ORDER BY a.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane > l.lane ORDER BY a.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL),
picked AS MATERIALIZED (SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT 500)
SELECT p.lane, m.fsm || '/' || m.key, h.status, h.attempt, clock_timestamp() - h.since,
       (SELECT count(*) FROM (SELECT FROM {s}.actions b WHERE b.status = 'blocked' AND b.lane = p.lane
                               ORDER BY b.lane, b.created_at LIMIT 1000) x)
  FROM picked p CROSS JOIN LATERAL (
    SELECT a.machine_id, a.status, a.attempt, a.run_at,
           CASE a.status WHEN 'running' THEN a.started_at WHEN 'published' THEN a.published_at
                         ELSE coalesce(a.started_at, a.created_at) END AS since
      FROM {s}.actions a WHERE a.lane = p.lane AND a.status IN ('pending', 'published', 'running') LIMIT 1) h
  JOIN {s}.machines m ON m.id = h.machine_id
 WHERE h.since < clock_timestamp() - %(patience)s::interval AND (h.status <> 'pending' OR h.run_at > clock_timestamp())
 ORDER BY h.since LIMIT 20
""",
)

# Limits that blocked actions name and nobody has set; of those in lanes the heads (of 500 lanes). Index: actions_limited,
# actions_blocked, limits_pkey.
UNSET = Statement(
    "unset_limits",
    """
WITH RECURSIVE names AS (
  (SELECT a.limit_name FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane IS NULL ORDER BY a.limit_name LIMIT 1)
  UNION ALL
  SELECT (SELECT a.limit_name FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane IS NULL AND a.limit_name > n.limit_name
           ORDER BY a.limit_name LIMIT 1)
    FROM names n WHERE n.limit_name IS NOT NULL),
lanes AS (
  (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane IS NOT NULL ORDER BY a.lane LIMIT 1)
  UNION ALL
  SELECT (SELECT a.lane FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane > l.lane ORDER BY a.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL),
heads AS (
  SELECT h.limit_name FROM (SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT 500) p CROSS JOIN LATERAL (
    SELECT a.limit_name FROM {s}.actions a WHERE a.status = 'blocked' AND a.lane = p.lane
     ORDER BY a.created_at, a.machine_id, a.seq, a.idx LIMIT 1) h)
SELECT u.limit_name FROM (SELECT limit_name FROM (SELECT limit_name FROM names LIMIT 500) n UNION SELECT limit_name FROM heads) u
 WHERE u.limit_name IS NOT NULL AND NOT EXISTS (SELECT FROM {s}.limits l WHERE l.name = u.limit_name)
 ORDER BY 1 LIMIT 20
""",
)

# Actions that run under workers that are dead or unknown, and how long ago each was buried. Index: actions_running, workers_pkey.
LOST = Statement(
    "lost",
    """
SELECT w.host || ' (pid ' || w.pid || ')', r.n, clock_timestamp() - w.dead_at
  FROM (SELECT a.worker_id, count(*) AS n FROM {s}.actions a WHERE a.status = 'running' GROUP BY a.worker_id) r
  LEFT JOIN {s}.workers w ON w.id = r.worker_id
 WHERE w.id IS NULL OR w.dead_at IS NOT NULL ORDER BY 3 DESC NULLS FIRST LIMIT 20
""",
)

# How many actions have failed, how many of them in the last hour, and the last one's age. Index: actions_failed.
FAILED = Statement(
    "failed",
    """
SELECT count(*), count(*) FILTER (WHERE f.finished_at > clock_timestamp() - interval '1 hour'), clock_timestamp() - max(f.finished_at)
  FROM (SELECT a.finished_at FROM {s}.actions a WHERE a.status = 'failed' ORDER BY a.finished_at DESC LIMIT %(most)s) f
""",
)

# Machines that hold `full` events or more. Looked for in a sample of about a thousand pages: such a machine has so many rows that
# it shows there. Index: machines_pkey.
INBOXES = Statement(
    "inboxes",
    """
SELECT m.fsm || '/' || m.key, m.inbox FROM (
  SELECT i.machine_id FROM {s}.inbox i TABLESAMPLE SYSTEM (least(100, 100 * 1000 * current_setting('block_size')::float8
           / greatest((SELECT pg_relation_size(o.tableoid) FROM {s}.inbox o LIMIT 1), 1)))
   GROUP BY i.machine_id ORDER BY count(*) DESC LIMIT 100) s
  JOIN {s}.machines m ON m.id = s.machine_id WHERE m.inbox >= %(full)s ORDER BY m.inbox DESC LIMIT 20
""",
)

# The names of all machines, and how many of each there are by status, in a sample of about a thousand pages (all of a small table),
# with the percentage that was looked at. With a million machines it takes 15 ms. Index: machines_address.
MACHINES = Statement(
    "machine_counts",
    """
WITH RECURSIVE names AS (
  (SELECT m.fsm FROM {s}.machines m ORDER BY m.fsm LIMIT 1)
  UNION ALL
  SELECT (SELECT m.fsm FROM {s}.machines m WHERE m.fsm > n.fsm ORDER BY m.fsm LIMIT 1) FROM names n WHERE n.fsm IS NOT NULL),
part AS MATERIALIZED (
  SELECT least(100, 100 * 1000 * current_setting('block_size')::float8
           / greatest((SELECT pg_relation_size(o.tableoid) FROM {s}.machines o LIMIT 1), 1)) AS percent),
counted AS MATERIALIZED (
  SELECT m.fsm, m.status, count(*) AS n FROM {s}.machines m TABLESAMPLE SYSTEM ((SELECT percent FROM part)) GROUP BY m.fsm, m.status)
SELECT n.fsm, c.status, c.n, p.percent FROM names n CROSS JOIN part p LEFT JOIN counted c USING (fsm)
 WHERE n.fsm IS NOT NULL ORDER BY n.fsm, c.status
""",
)

# Attempts that went wrong in the last hour, by how, in a sample of about a thousand pages, with the percentage that was looked at.
# No index has their time.
ATTEMPTS = Statement(
    "attempt_counts",
    """
WITH part AS MATERIALIZED (
  SELECT least(100, 100 * 1000 * current_setting('block_size')::float8
           / greatest((SELECT pg_relation_size(o.tableoid) FROM {s}.attempts o LIMIT 1), 1)) AS percent),
counted AS MATERIALIZED (
  SELECT a.outcome, count(*) AS n FROM {s}.attempts a TABLESAMPLE SYSTEM ((SELECT percent FROM part))
   WHERE a.ended_at > now() - interval '1 hour' GROUP BY a.outcome)
SELECT w.outcome, coalesce(c.n, 0), p.percent
  FROM unnest(ARRAY['error', 'lost', 'timed_out']) AS w(outcome) CROSS JOIN part p LEFT JOIN counted c USING (outcome)
""",
)

"""Limits: what operators do to them, and how a relay keeps the one of a whole queue. Those of actions: `relay.ADMIT`.

The tokens of a bucket are reckoned when they are asked for: what was left, and what has flown in since by the database's clock.
A key that has no bucket has a full one.
"""

from fsm_core.postgres.statements import Statement

# Set a limit, or change it. Waits for a relay that is just publishing under it. Index: limits_pkey.
SET = Statement(
    "set_limit",
    """
INSERT INTO {s}.limits (name, max_running, rate, per, burst)
VALUES (%(name)s, %(max_running)s::int, %(rate)s::float8, %(per)s::interval, %(burst)s::int)
ON CONFLICT (name) DO UPDATE SET max_running = excluded.max_running, rate = excluded.rate, per = excluded.per, burst = excluded.burst
""",
)

# All limits: a small table.
ALL = Statement("limits", "SELECT name, max_running, rate, per, burst FROM {s}.limits ORDER BY name")

# Remove a limit, with the tokens of its keys. Index: limits_pkey, buckets_pkey.
REMOVE = Statement(
    "remove_limit",
    """
WITH l AS (DELETE FROM {s}.limits WHERE name = %(name)s RETURNING name)
, b AS (DELETE FROM {s}.buckets b USING l WHERE b.name = l.name)
SELECT name FROM l
""",
)

# A ring, so that a relay that sleeps looks at what a changed limit lets out.
RING = Statement(
    "ring",
    "SELECT CASE WHEN NOT pg_try_advisory_xact_lock_shared({bell}) THEN pg_notify({channel}, '') END",
)

# One relay publishes a queue that has a limit at a time: its row is the lock. A statement of its own, so that what is counted
# next sees what the one before it did. Never waits. Index: limits_pkey.
QUEUE = Statement(
    "queue_limit", "SELECT 1 FROM {s}.limits WHERE name = %(name)s FOR NO KEY UPDATE SKIP LOCKED"
)

# What the limit leaves: of rows (NULL: any number), of tokens (NULL: it has no rate), and the time at which that was so.
# Index: actions_published, actions_running (all that runs anywhere: no more than there are slots), buckets_pkey.
QUEUE_ROOM = Statement(
    "queue_room",
    """
SELECT l.max_running - CASE WHEN l.max_running IS NOT NULL THEN
         (SELECT count(*) FROM {s}.actions p WHERE p.status = 'published' AND p.queue = %(queue)s)
         + (SELECT count(*) FROM {s}.actions r WHERE r.status = 'running' AND r.queue = %(queue)s) END,
       CASE WHEN l.rate IS NOT NULL THEN least(l.burst, coalesce(b.tokens
         + l.rate * (extract(epoch FROM greatest(c.at - b.refilled_at, interval '0')) / extract(epoch FROM l.per))::float8, l.burst)) END,
       greatest(c.at, b.refilled_at), l.rate, l.per, l.burst
  FROM (SELECT clock_timestamp() AS at) c CROSS JOIN {s}.limits l
  LEFT JOIN {s}.buckets b ON b.name = l.name AND b.key = ''
 WHERE l.name = %(name)s
""",
)

# What is left in a bucket. The limit's row is locked. Index: buckets_pkey.
SPEND = Statement(
    "spend",
    """
INSERT INTO {s}.buckets (name, key, tokens, refilled_at) VALUES (%(name)s, '', %(tokens)s::float8, %(at)s::timestamptz)
ON CONFLICT (name, key) DO UPDATE SET tokens = excluded.tokens, refilled_at = excluded.refilled_at
""",
)

# Buckets that are full again, or of no limit, say nothing. Skips what is locked. Index: buckets_pkey.
FORGET_BUCKETS = Statement(
    "forget_buckets",
    """
WITH f AS MATERIALIZED (
  SELECT b.name, b.key FROM {s}.buckets b LEFT JOIN {s}.limits l ON l.name = b.name
   WHERE l.rate IS NULL OR b.tokens + l.rate * (extract(epoch FROM clock_timestamp() - b.refilled_at)
                                                / extract(epoch FROM l.per))::float8 >= l.burst
   LIMIT 5000 FOR NO KEY UPDATE OF b SKIP LOCKED)
DELETE FROM {s}.buckets b USING f WHERE b.name = f.name AND b.key = f.key
""",
)

"""What `explain` asks: one machine's open actions, and who is there to run them. No locks."""

from fsm_core.postgres.statements import Statement

# Open actions of a machine, then failed ones, the oldest first, with their workers and whoever has their lane.
# Index: actions_pkey, actions_lane, workers_pkey; for a failed one also events_pkey, from the event that emitted it on.
OPEN_ACTIONS = Statement(
    "open_actions",
    """
SELECT a.machine_id, a.seq, a.idx, a.name, a.version, a.status, a.queue, a.run_at, a.attempt, a.publishes, a.timer, a.lane,
       a.limit_name, a.limit_key, a.published_at, a.started_at, a.error::text, a.note, w.host || ' (pid ' || w.pid || ')',
       CASE WHEN w.dead_at IS NULL THEN w.alive_until END, h.holder, a.outcome IS NOT NULL,
       a.status = 'failed' AND EXISTS (
         SELECT FROM {s}.events e WHERE e.machine_id = a.machine_id AND e.seq > a.seq AND starts_with(e.name, 'Failed[')
            AND e.cause = a.machine_id || '.' || a.seq || '.' || a.idx),
       clock_timestamp()
  FROM {s}.actions a LEFT JOIN {s}.workers w ON w.id = a.worker_id AND a.status = 'running'
  LEFT JOIN LATERAL (
    SELECT m.fsm || '/' || m.key AS holder FROM {s}.actions o JOIN {s}.machines m ON m.id = o.machine_id
     WHERE a.status = 'blocked' AND o.lane = a.lane AND o.status IN ('pending', 'published', 'running') LIMIT 1) h ON true
 WHERE a.machine_id = %(id)s AND a.status IN ('blocked', 'pending', 'published', 'running', 'failed')
 ORDER BY a.status = 'failed', a.seq, a.idx LIMIT 100
""",
)

# Who is alive. A table of few rows.
PROCESSES = Statement(
    "processes",
    """
SELECT kind, queues, known, clock_timestamp() FROM {s}.workers WHERE dead_at IS NULL AND alive_until > clock_timestamp()
""",
)

# How many rows of these queues are published and not claimed. Index: actions_published.
PUBLISHED = Statement(
    "published",
    """
SELECT q.queue, (SELECT count(*) FROM {s}.actions a WHERE a.status = 'published' AND a.queue = q.queue)
  FROM unnest(%(queues)s::text[]) AS q(queue)
""",
)

# Which of these limits are set, and how many actions of each key are admitted. Index: limits_pkey, actions_taken.
LIMITED = Statement(
    "limited",
    """
SELECT l.name, u.key, l.max_running, l.rate, l.per,
       (SELECT count(*) FROM {s}.actions a WHERE a.limit_name = u.name AND a.limit_key = u.key AND a.status IN ('pending', 'published', 'running'))
  FROM unnest(%(names)s::text[], %(keys)s::text[]) AS u(name, key) JOIN {s}.limits l ON l.name = u.name
""",
)

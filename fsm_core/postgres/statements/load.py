"""What a store reads instead of `machines.READ`, `READ_DEDUP` and `READ_KEYS` where its limits cap one machine. Off by default."""

from fsm_core.postgres.statements import Statement

# Machines by address, with what its dedup key did before, how many of the last `events` events lie within `per`, and how many actions are
# open, counted up to `open`. So what it counts is as old as `rev`, which guards the decision. The events are found by their numbers;
# the actions of a machine are all looked at until there are enough (OFFSET 0: else the planner reads all that is open anywhere).
# No lock. Index: machines_address, dedup_pkey, events_pkey, actions_pkey.
READ_LOAD = Statement(
    "read_load",
    """
SELECT {machine}, d.key, d.seq, d.digest, u.place,
       (SELECT count(*) FROM {s}.events e WHERE e.machine_id = m.id AND e.seq > m.seq - %(events)s::int
           AND e.occurred_at > clock_timestamp() - %(per)s::interval),
       CASE WHEN %(open)s::int IS NOT NULL THEN (
         SELECT count(*) FROM (
           SELECT FROM (SELECT a.status FROM {s}.actions a WHERE a.machine_id = m.id OFFSET 0) a
            WHERE a.status IN ('blocked', 'pending', 'published', 'running') LIMIT %(open)s::int) o) ELSE 0 END
  FROM unnest(%(keys)s::text[], %(dedups)s::text[]) WITH ORDINALITY AS u(key, dedup, place)
 CROSS JOIN LATERAL (SELECT * FROM {s}.machines o WHERE o.fsm = %(fsm)s AND o.key = u.key OFFSET 0) m
  LEFT JOIN LATERAL (SELECT * FROM {s}.dedup o WHERE o.machine_id = m.id AND o.key = u.dedup OFFSET 0) d ON true
""",
)

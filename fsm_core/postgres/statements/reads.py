"""What is only looked at: history, lists, counts. No locks."""

from fsm_core.postgres.statements import Statement

# A machine's log. Index: events_pkey.
EVENTS = Statement(
    "events",
    """
SELECT seq, name, payload::text, outcome, source, occurred_at, reason, version FROM {s}.events
 WHERE machine_id = %(id)s ORDER BY seq
""",
)

# A machine's actions. Index: actions_pkey.
ACTIONS = Statement(
    "actions",
    """
SELECT a.machine_id, a.seq, a.idx, a.name, a.payload::text, a.status, a.tracked, a.queue, a.attempt, a.created_at, a.run_at,
       a.finished_at, a.error::text, a.note, a.started_at, m.fsm, m.key
  FROM {s}.actions a JOIN {s}.machines m ON m.id = a.machine_id WHERE a.machine_id = %(id)s ORDER BY a.seq, a.idx
""",
)

# Actions by what an operator asks for, newest last. Index: actions_failed for --failed; else a scan, bounded by its limit.
FIND_ACTIONS = Statement(
    "find_actions",
    """
SELECT a.machine_id, a.seq, a.idx, a.name, a.payload::text, a.status, a.tracked, a.queue, a.attempt, a.created_at, a.run_at,
       a.finished_at, a.error::text, a.note, a.started_at, m.fsm, m.key
  FROM {s}.actions a JOIN {s}.machines m ON m.id = a.machine_id
 WHERE (%(status)s::text IS NULL OR a.status = %(status)s) AND (%(fsm)s::text IS NULL OR m.fsm = %(fsm)s)
   AND (%(key)s::text IS NULL OR m.key = %(key)s) AND (%(name)s::text IS NULL OR a.name = %(name)s)
   AND (%(queue)s::text IS NULL OR a.queue = %(queue)s)
 ORDER BY a.created_at, a.machine_id, a.seq, a.idx LIMIT %(limit)s
""",
)

# One action. Index: actions_pkey.
ACTION = Statement(
    "action",
    """
SELECT a.machine_id, a.seq, a.idx, a.name, a.payload::text, a.status, a.tracked, a.queue, a.attempt, a.created_at, a.run_at,
       a.finished_at, a.error::text, a.note, a.started_at, m.fsm, m.key
  FROM {s}.actions a JOIN {s}.machines m ON m.id = a.machine_id
 WHERE a.machine_id = %(machine)s AND a.seq = %(seq)s AND a.idx = %(idx)s
""",
)

# The unsuccessful attempts of some machines' actions; the last attempt stands on the action itself. Index: attempts_pkey.
ATTEMPTS = Statement(
    "attempts",
    """
SELECT machine_id, seq, idx, attempt, outcome, started_at, ended_at, error::text FROM {s}.attempts
 WHERE machine_id = ANY (%(ids)s::uuid[]) ORDER BY machine_id, seq, idx, started_at
""",
)

# Machines by name, newest change last; a scan, bounded by its limit.
MACHINES = Statement(
    "machines",
    """
SELECT {machine}
  FROM {s}.machines m
 WHERE (%(fsm)s::text IS NULL OR m.fsm = %(fsm)s) AND (%(status)s::text IS NULL OR m.status = %(status)s)
   AND (%(state_name)s::text IS NULL OR m.state_name = %(state_name)s)
 ORDER BY m.updated_at DESC LIMIT %(limit)s
""",
)

"""The tables that grow, cut into ranges of the machine's id, which is its birth: made, listed, and dropped as a whole.

Templates for `fsm_core.postgres.partitions`, which alone knows the names: `{s}` is the schema, `{part}` a partition. What looks or
deletes is a statement like all others; the rest changes tables, and waits for nobody for longer than `lock_timeout`.
"""

from typing import LiteralString

from fsm_core.postgres.statements import Statement

# Whether the tables are partitioned, into ranges of which length (a comment on `events`), whether any has a row, and the time.
STATE = Statement(
    "partitioned",
    """
SELECT c.relkind = 'p', obj_description(c.oid),
       EXISTS (SELECT FROM {s}.events) OR EXISTS (SELECT FROM {s}.actions) OR EXISTS (SELECT FROM {s}.attempts), clock_timestamp()
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %(schema)s WHERE c.relname = 'events'
""",
)

# The partitions of `events`, whose names tell those of the others: the end of the name, the bounds as PostgreSQL writes them, and the
# size of all three.
LIST = Statement(
    "partitions",
    """
SELECT p.name, p.bound, (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
                          WHERE c.relnamespace = p.space AND c.relname IN ('events' || p.name, 'actions' || p.name, 'attempts' || p.name))
  FROM (SELECT substr(c.relname, 7) AS name, pg_get_expr(c.relpartbound, c.oid) AS bound, c.relnamespace AS space
          FROM pg_class e JOIN pg_namespace n ON n.oid = e.relnamespace AND n.nspname = %(schema)s
          JOIN pg_inherits i ON i.inhparent = e.oid JOIN pg_class c ON c.oid = i.inhrelid WHERE e.relname = 'events') p
 ORDER BY p.name
""",
)

# Machines born in a range that are not over: those that live, that ended later than `age` ago, that have open actions, or children
# that are not over. At most `limit`. Index: machines_pkey, actions_pkey, machines_parent.
STRAGGLERS = Statement(
    "stragglers",
    """
SELECT m.id FROM {s}.machines m
 WHERE m.id >= %(first)s::uuid AND m.id < %(after)s::uuid
   AND (m.ended_at IS NULL OR m.ended_at >= now() - %(age)s::interval
        OR (SELECT 1 FROM {s}.actions a
             WHERE a.machine_id = m.id AND a.status NOT IN ('completed', 'failed', 'cancelled') LIMIT 1) IS NOT NULL
        OR (SELECT 1 FROM {s}.machines c
             WHERE c.parent = m.id AND (c.ended_at IS NULL OR c.ended_at >= now() - %(age)s::interval) LIMIT 1) IS NOT NULL)
 ORDER BY m.id LIMIT %(limit)s
""",
)

# All other machines of the range, with what hangs on their rows. Waits for an operator who is just at one. Index: machines_pkey.
FORGET = Statement(
    "forget_range",
    """
WITH m AS (
  DELETE FROM {s}.machines m
   WHERE m.id >= %(first)s::uuid AND m.id < %(after)s::uuid AND NOT m.id = ANY (%(ids)s::uuid[]) RETURNING 1)
SELECT count(*) FROM m
""",
)

# Under the lock of all three tables: an action that somebody has opened again meanwhile, of a machine that is not kept. A look at each
# partial index. Index: actions_blocked, actions_due, actions_published, actions_running.
OPENED: LiteralString = """
SELECT EXISTS (SELECT FROM {part} a WHERE a.status = 'blocked' AND NOT a.machine_id = ANY (%(ids)s))
    OR EXISTS (SELECT FROM {part} a WHERE a.status = 'pending' AND NOT a.machine_id = ANY (%(ids)s))
    OR EXISTS (SELECT FROM {part} a WHERE a.status = 'published' AND NOT a.machine_id = ANY (%(ids)s))
    OR EXISTS (SELECT FROM {part} a WHERE a.status = 'running' AND NOT a.machine_id = ANY (%(ids)s))
"""

LOCK_WAIT: LiteralString = "SELECT set_config('lock_timeout', %(wait)s, true)"

# Nobody else changes partitions meanwhile.
ALONE: LiteralString = "SELECT pg_advisory_xact_lock(hashtext('fsm.partitions'), hashtext(%(schema)s))"

# Everything else waits, for as long as a few catalogue rows take to write. In the order in which every writer takes them.
LOCK_ALL: LiteralString = "LOCK TABLE {actions}, {events}, {attempts} IN ACCESS EXCLUSIVE MODE"

# Whoever writes to one range has ended when this is granted; others wait meanwhile.
NO_WRITERS: LiteralString = "LOCK TABLE {actions}, {events}, {attempts} IN SHARE MODE"

DROP: LiteralString = "DROP TABLE {part}"
REMEMBER: LiteralString = "COMMENT ON TABLE {table} IS {comment}"
DEFAULT: LiteralString = "CREATE TABLE {part} PARTITION OF {table} DEFAULT"
LIKE: LiteralString = "CREATE TABLE {part} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
OPTIONS: LiteralString = "ALTER TABLE {part} SET ({options})"
ONE_LANE: LiteralString = "CREATE UNIQUE INDEX {name} ON {part} (lane) WHERE lane IS NOT NULL AND status IN ('pending', 'published', 'running')"
ATTACH: LiteralString = "ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES FROM ({first}) TO ({after})"
DETACH: LiteralString = "ALTER TABLE {table} DETACH PARTITION {part}"

# Rows that came before their range was there: they are in the default partition.
CATCH: LiteralString = """
WITH g AS (DELETE FROM {default} WHERE machine_id >= {first} AND machine_id < {after} RETURNING *)
INSERT INTO {part} SELECT * FROM g
"""

# What stragglers have, out of a partition that is no longer one, into the default partition. Index: the primary key.
MOVE: LiteralString = "INSERT INTO {table} SELECT p.* FROM {part} p WHERE p.machine_id = ANY (%(ids)s)"

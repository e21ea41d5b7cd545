"""What a process does that waits for the end of machines: it shares a lock per machine that it waits for, looks, and listens.

Proof that no end is missed: docs/protocol.md, section 8. No lock on a row.
"""

from fsm_core.postgres.statements import Statement

LISTEN = Statement("listen", "LISTEN {ended_name}")

# Does a notification reach this connection, and is its backend the one that it logged in to? Behind a pooler it is not.
ECHO = Statement("echo", "SELECT pg_backend_pid(), pg_notify({ended}, %(word)s)")

# A transaction that ends a machine cannot take these any more, and notifies. Refused where one has, and has not committed.
SHARE = Statement(
    "share",
    """
SELECT u.place FROM unnest(%(places)s::int[]) AS u(place) WHERE pg_try_advisory_lock_shared({waiters_class}, u.place)
""",
)
UNSHARE = Statement(
    "unshare",
    "SELECT pg_advisory_unlock_shared({waiters_class}, u.place) FROM unnest(%(places)s::int[]) AS u(place)",
)

# Which of these have ended, or are gone? Index: machines_pkey.
ENDED = Statement(
    "ended",
    """
SELECT u.id FROM unnest(%(ids)s::uuid[]) AS u(id) LEFT JOIN {s}.machines m ON m.id = u.id
 WHERE m.id IS NULL OR m.ended_at IS NOT NULL
""",
)

"""What a process does that waits for the end of machines: it says so, shares a lock per machine, looks, and listens.

Proof that no end is missed: docs/protocol.md, section 8. No lock on a row.
"""

from fsm_core.postgres.statements import Statement

# Is the backend the one that the connection logged in to? Behind a pooler it is not: there nothing is set, locked or listened to.
BACKEND = Statement("backend", "SELECT pg_backend_pid()")

LISTEN = Statement("listen", "LISTEN {ended_name}")

# Does a notification reach this connection?
ECHO = Statement("echo", "SELECT pg_notify({ended}, %(word)s)")

# From now on, who ends a machine finds that somebody listens. Refused for a moment where somebody tests that.
ANNOUNCE = Statement("announce", "SELECT pg_try_advisory_lock_shared({anybody})")

# Who has tested it before has ended: waits for them, for as long as lock_timeout says, while those who come later do not share
# ENDING, because somebody waits for it, and take the place of their machine.
GRACE_TIMEOUT = Statement("grace_timeout", "SELECT set_config('lock_timeout', %(wait)s, false)")
GRACE = Statement("grace", "SELECT pg_advisory_lock({ending}), pg_advisory_unlock({ending})")

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

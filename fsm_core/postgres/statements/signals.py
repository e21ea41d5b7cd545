"""Signals that come too early: for a machine that does not exist yet, or is not born."""

from fsm_core.postgres.statements import Statement

# The first signal for an address: a machine without a state, which holds it, and is also the lock against the crossing birth.
# Nothing inserted: somebody was quicker; look again in a new statement. Index: machines_address.
UNBORN = Statement(
    "unborn",
    """
WITH m AS (
  INSERT INTO {s}.machines (id, fsm, key, version, status, seq, rev, inbox, created_at, updated_at)
  VALUES (%(id)s, %(fsm)s, %(key)s, %(version)s, 'unborn', 0, 1, 1, clock_timestamp(), clock_timestamp())
  ON CONFLICT (fsm, key) DO NOTHING RETURNING id, created_at AS at),
i AS (
  INSERT INTO {s}.inbox (machine_id, name, payload, version, source, dedup_key, call_id, received_at, expires_at)
  SELECT m.id, %(name)s, %(payload)s::jsonb, %(version)s, %(source)s, %(dedup)s::text, %(call_id)s::uuid, m.at,
         m.at + %(ttl)s::interval FROM m),
d AS (
  INSERT INTO {s}.dedup (machine_id, key, digest, at)
  SELECT m.id, %(dedup)s::text, %(digest)s::bytea, m.at FROM m WHERE %(dedup)s::text IS NOT NULL)
SELECT m.id FROM m
""",
)

# One more for a machine that is not born. Guard: rev; whoever bore it meanwhile has changed that. Index: machines_pkey.
HOLD = Statement(
    "hold",
    """
WITH m AS (
  UPDATE {s}.machines SET inbox = inbox + 1, rev = rev + 1
   WHERE id = %(id)s AND rev = %(rev)s AND status = 'unborn' RETURNING id, clock_timestamp() AS at),
i AS (
  INSERT INTO {s}.inbox (machine_id, name, payload, version, source, dedup_key, call_id, received_at, expires_at)
  SELECT m.id, %(name)s, %(payload)s::jsonb, %(version)s, %(source)s, %(dedup)s::text, %(call_id)s::uuid, m.at,
         m.at + %(ttl)s::interval FROM m),
d AS (
  INSERT INTO {s}.dedup (machine_id, key, digest, at)
  SELECT m.id, %(dedup)s::text, %(digest)s::bytea, m.at FROM m WHERE %(dedup)s::text IS NOT NULL)
SELECT m.id FROM m
""",
)

# What a machine is started with that signals came before. Under its lock. Index: machines_pkey.
PLACE = Statement(
    "place",
    "UPDATE {s}.machines SET partition_key = %(partition_key)s, priority = %(priority)s WHERE id = %(id)s AND status = 'unborn'",
)

"""The tables, as SQLAlchemy knows them: documentation, and what the migrations are checked against.

The statements of this package are plain SQL (`statements/`); nothing here is on the hot path. Why each table, column
and index is as it is: docs/protocol.md. Which status an action may be in, and who moves it: docs/protocol.md, section 4.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

MAX_COLUMN_BYTES = 4 * 64 * 1024
"""What a payload column may take. Four times the codec's limit: jsonb may be far longer than the text that was sent."""

ENDED = "('done', 'failed', 'cancelled')"
FINISHED = "('completed', 'failed', 'cancelled')"


def _time(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _object(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, JSONB, nullable=nullable)


def _is_object(table: str, *columns: str) -> list[CheckConstraint]:
    return [
        check
        for column in columns
        for check in (
            CheckConstraint(f"jsonb_typeof({column}) = 'object'", name=f"{table}_{column}_is_an_object"),
            CheckConstraint(f"pg_column_size({column}) <= {MAX_COLUMN_BYTES}", name=f"{table}_{column}_fits"),
        )
    ]


def _counts(table: str, *columns: str) -> list[CheckConstraint]:
    return [CheckConstraint(f"{column} >= 0", name=f"{table}_{column}_not_negative") for column in columns]


def build(schema: str) -> MetaData:
    """The tables in `schema`."""
    metadata = MetaData(schema=schema)
    _machines(metadata)
    _events(metadata)
    _actions(metadata)
    _attempts(metadata)
    _held(metadata)
    _workers(metadata)
    _limits(metadata)
    return metadata


def _machines(metadata: MetaData) -> None:
    table = Table(
        "machines",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("fsm", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("status", Text, nullable=False),
        Column("state_name", Text),
        _object("state", nullable=True),
        Column("seq", Integer, nullable=False),
        Column("rev", Integer, nullable=False),
        Column("inbox", Integer, nullable=False, server_default=text("0")),
        Column("parent", Uuid),
        Column("parent_queue", Text),
        Column("partition_key", Text),
        Column("priority", SmallInteger),
        _time("created_at"),
        _time("updated_at"),
        _time("ended_at", nullable=True),
        Column("pruned", Boolean, nullable=False, server_default=text("false")),
        UniqueConstraint("fsm", "key", name="machines_address"),
        CheckConstraint(
            "status IN ('unborn', 'live', 'done', 'failed', 'cancelled')", name="machines_status"
        ),
        CheckConstraint("(status = 'unborn') = (state IS NULL)", name="machines_born_with_a_state"),
        CheckConstraint("(state IS NULL) = (state_name IS NULL)", name="machines_state_is_named"),
        CheckConstraint(f"(ended_at IS NOT NULL) = (status IN {ENDED})", name="machines_ended_when_ended"),
        CheckConstraint("(parent IS NULL) = (parent_queue IS NULL)", name="machines_parent_has_a_queue"),
        CheckConstraint("NOT pruned OR ended_at IS NOT NULL", name="machines_pruned_after_a_life"),
        CheckConstraint("priority BETWEEN 0 AND 9", name="machines_priority"),
        *_is_object("machines", "state"),
        *_counts("machines", "seq", "rev", "inbox"),
        # Every decision rewrites the row; room on its page keeps the update HOT.
        postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05},
    )
    ended = text("ended_at IS NOT NULL")
    Index("machines_ended", table.c.pruned, table.c.ended_at, postgresql_where=ended)
    Index("machines_parent", table.c.parent, postgresql_where=text("parent IS NOT NULL"))


def _events(metadata: MetaData) -> None:
    table = Table(
        "events",
        metadata,
        Column("machine_id", Uuid, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("name", Text, nullable=False),
        _object("payload"),
        Column("version", Integer, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("cause", Text),
        Column("actor", Text),
        Column("reason", Text),
        Column("call_id", Uuid),
        _time("occurred_at"),
        PrimaryKeyConstraint("machine_id", "seq", name="events_pkey"),
        CheckConstraint("outcome IN ('applied', 'ignored')", name="events_outcome"),
        *_is_object("events", "payload"),
        *_counts("events", "seq"),
    )
    Index("events_occurred", table.c.occurred_at, postgresql_using="brin")


def _actions(metadata: MetaData) -> None:
    table = Table(
        "actions",
        metadata,
        Column("machine_id", Uuid, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("idx", SmallInteger, nullable=False),
        Column("name", Text, nullable=False),
        Column("version", Integer, nullable=False),
        _object("payload"),
        Column("tracked", Boolean, nullable=False),
        Column("status", Text, nullable=False),
        Column("queue", Text, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("lane", Text),
        Column("limit_name", Text),
        Column("limit_key", Text),
        Column("timer", Text),
        _time("created_at"),
        _time("run_at"),
        Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
        Column("budget_from", SmallInteger, nullable=False, server_default=text("0")),
        Column("lost", SmallInteger, nullable=False, server_default=text("0")),
        Column("in_doubt", Boolean, nullable=False, server_default=text("false")),
        Column("publishes", SmallInteger, nullable=False, server_default=text("0")),
        Column("token", Uuid),
        Column("worker_id", Uuid),
        _time("published_at", nullable=True),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        _object("outcome", nullable=True),
        _object("error", nullable=True),
        Column("note", Text),
        PrimaryKeyConstraint("machine_id", "seq", "idx", name="actions_pkey"),
        CheckConstraint(
            "status IN ('blocked', 'pending', 'published', 'running', 'completed', 'failed', 'cancelled')",
            name="actions_status",
        ),
        CheckConstraint("priority BETWEEN 0 AND 9", name="actions_priority"),
        CheckConstraint("tracked OR status <> 'running'", name="actions_untracked_never_runs_twice"),
        CheckConstraint(
            "status <> 'blocked' OR lane IS NOT NULL OR limit_name IS NOT NULL",
            name="actions_blocked_by_what",
        ),
        CheckConstraint("(limit_name IS NULL) = (limit_key IS NULL)", name="actions_limit_has_a_key"),
        CheckConstraint(
            "status <> 'published' OR (token IS NOT NULL AND published_at IS NOT NULL)",
            name="actions_has_ticket",
        ),
        CheckConstraint(
            "status <> 'running' OR (token IS NOT NULL AND worker_id IS NOT NULL AND started_at IS NOT NULL)",
            name="actions_has_claim",
        ),
        CheckConstraint(
            f"(finished_at IS NOT NULL) = (status IN {FINISHED})", name="actions_finished_when_finished"
        ),
        CheckConstraint("budget_from <= attempt", name="actions_budget_from_the_past"),
        *_is_object("actions", "payload", "outcome", "error"),
        *_counts("actions", "seq", "idx", "attempt", "budget_from", "lost", "publishes"),
        postgresql_with={"fillfactor": 90, "autovacuum_vacuum_scale_factor": 0.02},
    )
    column = table.c
    Index(
        "actions_due",
        column.queue,
        column.priority,
        column.run_at,
        postgresql_where=text("status = 'pending'"),
    )
    Index(
        "actions_published", column.queue, column.published_at, postgresql_where=text("status = 'published'")
    )
    Index("actions_running", column.worker_id, column.queue, postgresql_where=text("status = 'running'"))
    Index(
        "actions_blocked",
        *(column.lane, column.created_at, column.machine_id, column.seq, column.idx),
        postgresql_where=text("status = 'blocked'"),
    )
    active = text("lane IS NOT NULL AND status IN ('pending', 'published', 'running')")
    Index("actions_lane", column.lane, unique=True, postgresql_where=active)
    Index(
        "actions_limited",
        *(column.limit_name, column.limit_key, column.priority, column.run_at),
        postgresql_where=text("status = 'blocked' AND lane IS NULL"),
    )
    taken = text("limit_name IS NOT NULL AND status IN ('pending', 'published', 'running')")
    Index("actions_taken", column.limit_name, column.limit_key, postgresql_where=taken)
    armed = text("timer IS NOT NULL AND status IN ('pending', 'published')")
    Index("actions_timer", column.machine_id, column.timer, unique=True, postgresql_where=armed)
    Index("actions_failed", column.finished_at, postgresql_where=text("status = 'failed'"))


def _attempts(metadata: MetaData) -> None:
    Table(
        "attempts",
        metadata,
        Column("machine_id", Uuid, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("idx", SmallInteger, nullable=False),
        Column("token", Uuid, nullable=False),
        Column("attempt", SmallInteger, nullable=False),
        Column("worker_id", Uuid),
        _time("started_at"),
        _time("ended_at"),
        Column("outcome", Text, nullable=False),
        _object("error", nullable=True),
        _object("late", nullable=True),
        PrimaryKeyConstraint("machine_id", "seq", "idx", "token", name="attempts_pkey"),
        CheckConstraint(
            "outcome IN ('error', 'lost', 'timed_out', 'released', 'ignored')", name="attempts_outcome"
        ),
        *_is_object("attempts", "error", "late"),
        *_counts("attempts", "attempt"),
    )


def _held(metadata: MetaData) -> None:
    owner = f"{metadata.schema}.machines.id"
    inbox = Table(
        "inbox",
        metadata,
        Column(
            "machine_id", Uuid, ForeignKey(owner, name="inbox_machine", ondelete="CASCADE"), nullable=False
        ),
        Column("pos", BigInteger, Identity(always=True), nullable=False),
        Column("name", Text, nullable=False),
        _object("payload"),
        Column("version", Integer, nullable=False),
        Column("source", Text, nullable=False),
        Column("cause", Text),
        Column("dedup_key", Text),
        Column("call_id", Uuid),
        _time("received_at"),
        _time("expires_at", nullable=True),
        PrimaryKeyConstraint("machine_id", "pos", name="inbox_pkey"),
        *_is_object("inbox", "payload"),
    )
    Index("inbox_expires", inbox.c.expires_at, postgresql_where=text("expires_at IS NOT NULL"))
    Table(
        "dedup",
        metadata,
        Column(
            "machine_id", Uuid, ForeignKey(owner, name="dedup_machine", ondelete="CASCADE"), nullable=False
        ),
        Column("key", Text, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("seq", Integer),
        _time("at"),
        PrimaryKeyConstraint("machine_id", "key", name="dedup_pkey"),
    )
    Table(
        "snapshots",
        metadata,
        Column(
            "machine_id",
            Uuid,
            ForeignKey(owner, name="snapshots_machine", ondelete="CASCADE"),
            nullable=False,
        ),
        Column("seq", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("state_name", Text, nullable=False),
        _object("state"),
        PrimaryKeyConstraint("machine_id", "seq", name="snapshots_pkey"),
        *_is_object("snapshots", "state"),
    )


def _workers(metadata: MetaData) -> None:
    Table(
        "workers",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        _object("queues"),
        _object("known"),
        _object("claimed"),
        _time("started_at"),
        _time("alive_until"),
        _time("dead_at", nullable=True),
        CheckConstraint("kind IN ('node', 'child', 'relay')", name="workers_kind"),
        *_is_object("workers", "queues", "known", "claimed"),
    )


def _limits(metadata: MetaData) -> None:
    Table(
        "limits",
        metadata,
        Column("name", Text, primary_key=True),
        Column("max_running", Integer),
        Column("rate", Float),
        Column("burst", Integer),
        Column("per", Interval),
        CheckConstraint("max_running >= 0", name="limits_max_running_not_negative"),
        CheckConstraint("rate > 0 AND rate < 'infinity'", name="limits_rate_positive"),
        CheckConstraint("burst >= 1", name="limits_burst_positive"),
        CheckConstraint("per > interval '0'", name="limits_per_positive"),
        CheckConstraint(
            "(rate IS NULL) = (per IS NULL) AND (rate IS NULL) = (burst IS NULL)", name="limits_rate_is_whole"
        ),
    )
    Table(
        "buckets",
        metadata,
        Column("name", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("tokens", Float, nullable=False),
        _time("refilled_at"),
        PrimaryKeyConstraint("name", "key", name="buckets_pkey"),
    )

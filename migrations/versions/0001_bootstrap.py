"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = op.get_context().version_table_schema

    op.create_table(
        "actions",
        sa.Column("machine_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("idx", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("tracked", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=True),
        sa.Column("limit_name", sa.Text(), nullable=True),
        sa.Column("limit_key", sa.Text(), nullable=True),
        sa.Column("timer", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("budget_from", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lost", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("in_doubt", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("publishes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=True),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", JSONB(), nullable=True),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))",
            name="actions_finished_when_finished",
        ),
        sa.CheckConstraint("jsonb_typeof(error) = 'object'", name="actions_error_is_an_object"),
        sa.CheckConstraint("jsonb_typeof(outcome) = 'object'", name="actions_outcome_is_an_object"),
        sa.CheckConstraint("jsonb_typeof(payload) = 'object'", name="actions_payload_is_an_object"),
        sa.CheckConstraint(
            "status <> 'blocked' OR lane IS NOT NULL OR limit_name IS NOT NULL",
            name="actions_blocked_by_what",
        ),
        sa.CheckConstraint(
            "status <> 'published' OR (token IS NOT NULL AND published_at IS NOT NULL)",
            name="actions_has_ticket",
        ),
        sa.CheckConstraint(
            "status <> 'running' OR (token IS NOT NULL AND worker_id IS NOT NULL AND started_at IS NOT NULL)",
            name="actions_has_claim",
        ),
        sa.CheckConstraint(
            "status IN ('blocked', 'pending', 'published', 'running', 'completed', 'failed', 'cancelled')",
            name="actions_status",
        ),
        sa.CheckConstraint("tracked OR status <> 'running'", name="actions_untracked_never_runs_twice"),
        sa.CheckConstraint("attempt >= 0", name="actions_attempt_not_negative"),
        sa.CheckConstraint("budget_from <= attempt", name="actions_budget_from_the_past"),
        sa.CheckConstraint("budget_from >= 0", name="actions_budget_from_not_negative"),
        sa.CheckConstraint("idx >= 0", name="actions_idx_not_negative"),
        sa.CheckConstraint("lost >= 0", name="actions_lost_not_negative"),
        sa.CheckConstraint("pg_column_size(error) <= 262144", name="actions_error_fits"),
        sa.CheckConstraint("pg_column_size(outcome) <= 262144", name="actions_outcome_fits"),
        sa.CheckConstraint("pg_column_size(payload) <= 262144", name="actions_payload_fits"),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name="actions_priority"),
        sa.CheckConstraint("publishes >= 0", name="actions_publishes_not_negative"),
        sa.CheckConstraint("seq >= 0", name="actions_seq_not_negative"),
        sa.PrimaryKeyConstraint("machine_id", "seq", "idx", name="actions_pkey"),
        schema=schema,
        postgresql_with={"fillfactor": 90, "autovacuum_vacuum_scale_factor": 0.02},
    )
    op.create_index(
        "actions_blocked",
        "actions",
        ["lane", "created_at", "machine_id", "seq", "idx"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("status = 'blocked'"),
    )
    op.create_index(
        "actions_due",
        "actions",
        ["queue", "priority", "run_at"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "actions_failed",
        "actions",
        ["finished_at"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index(
        "actions_lane",
        "actions",
        ["lane"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("lane IS NOT NULL AND status IN ('pending', 'published', 'running')"),
    )
    op.create_index(
        "actions_published",
        "actions",
        ["queue", "published_at"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("status = 'published'"),
    )
    op.create_index(
        "actions_running",
        "actions",
        ["worker_id", "queue"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "actions_timer",
        "actions",
        ["machine_id", "timer"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("timer IS NOT NULL AND status IN ('pending', 'published')"),
    )
    op.create_table(
        "attempts",
        sa.Column("machine_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("idx", sa.SmallInteger(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error", JSONB(), nullable=True),
        sa.Column("late", JSONB(), nullable=True),
        sa.CheckConstraint("jsonb_typeof(error) = 'object'", name="attempts_error_is_an_object"),
        sa.CheckConstraint("jsonb_typeof(late) = 'object'", name="attempts_late_is_an_object"),
        sa.CheckConstraint(
            "outcome IN ('error', 'lost', 'timed_out', 'released', 'ignored')", name="attempts_outcome"
        ),
        sa.CheckConstraint("attempt >= 0", name="attempts_attempt_not_negative"),
        sa.CheckConstraint("pg_column_size(error) <= 262144", name="attempts_error_fits"),
        sa.CheckConstraint("pg_column_size(late) <= 262144", name="attempts_late_fits"),
        sa.PrimaryKeyConstraint("machine_id", "seq", "idx", "token", name="attempts_pkey"),
        schema=schema,
    )
    op.create_table(
        "buckets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", "key", name="buckets_pkey"),
        schema=schema,
    )
    op.create_table(
        "events",
        sa.Column("machine_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("call_id", sa.Uuid(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("jsonb_typeof(payload) = 'object'", name="events_payload_is_an_object"),
        sa.CheckConstraint("outcome IN ('applied', 'ignored')", name="events_outcome"),
        sa.CheckConstraint("pg_column_size(payload) <= 262144", name="events_payload_fits"),
        sa.CheckConstraint("seq >= 0", name="events_seq_not_negative"),
        sa.PrimaryKeyConstraint("machine_id", "seq", name="events_pkey"),
        schema=schema,
    )
    op.create_index(
        "events_occurred", "events", ["occurred_at"], unique=False, schema=schema, postgresql_using="brin"
    )
    op.create_table(
        "limits",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("burst", sa.Integer(), nullable=True),
        sa.Column("per", sa.Interval(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        schema=schema,
    )
    op.create_table(
        "machines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("fsm", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("state_name", sa.Text(), nullable=True),
        sa.Column("state", JSONB(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("inbox", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("parent", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(ended_at IS NOT NULL) = (status IN ('done', 'failed', 'cancelled'))",
            name="machines_ended_when_ended",
        ),
        sa.CheckConstraint("(status = 'unborn') = (state IS NULL)", name="machines_born_with_a_state"),
        sa.CheckConstraint("jsonb_typeof(state) = 'object'", name="machines_state_is_an_object"),
        sa.CheckConstraint(
            "status IN ('unborn', 'live', 'done', 'failed', 'cancelled')", name="machines_status"
        ),
        sa.CheckConstraint("(state IS NULL) = (state_name IS NULL)", name="machines_state_is_named"),
        sa.CheckConstraint("inbox >= 0", name="machines_inbox_not_negative"),
        sa.CheckConstraint("pg_column_size(state) <= 262144", name="machines_state_fits"),
        sa.CheckConstraint("rev >= 0", name="machines_rev_not_negative"),
        sa.CheckConstraint("seq >= 0", name="machines_seq_not_negative"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("fsm", "key", name="machines_address"),
        schema=schema,
        postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.05},
    )
    op.create_index(
        "machines_ended",
        "machines",
        ["ended_at"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "machines_parent",
        "machines",
        ["parent"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("parent IS NOT NULL"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("queues", JSONB(), nullable=False),
        sa.Column("known", JSONB(), nullable=False),
        sa.Column("claimed", JSONB(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alive_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("jsonb_typeof(claimed) = 'object'", name="workers_claimed_is_an_object"),
        sa.CheckConstraint("jsonb_typeof(known) = 'object'", name="workers_known_is_an_object"),
        sa.CheckConstraint("jsonb_typeof(queues) = 'object'", name="workers_queues_is_an_object"),
        sa.CheckConstraint("kind IN ('node', 'child', 'relay')", name="workers_kind"),
        sa.CheckConstraint("pg_column_size(claimed) <= 262144", name="workers_claimed_fits"),
        sa.CheckConstraint("pg_column_size(known) <= 262144", name="workers_known_fits"),
        sa.CheckConstraint("pg_column_size(queues) <= 262144", name="workers_queues_fits"),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "dedup",
        sa.Column("machine_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], [f"{schema}.machines.id"], name="dedup_machine", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "key", name="dedup_pkey"),
        schema=schema,
    )
    op.create_table(
        "inbox",
        sa.Column("machine_id", sa.Uuid(), nullable=False),
        sa.Column("pos", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("dedup_key", sa.Text(), nullable=True),
        sa.Column("call_id", sa.Uuid(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("jsonb_typeof(payload) = 'object'", name="inbox_payload_is_an_object"),
        sa.CheckConstraint("pg_column_size(payload) <= 262144", name="inbox_payload_fits"),
        sa.ForeignKeyConstraint(
            ["machine_id"], [f"{schema}.machines.id"], name="inbox_machine", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "pos", name="inbox_pkey"),
        schema=schema,
    )
    op.create_table(
        "snapshots",
        sa.Column("machine_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state_name", sa.Text(), nullable=False),
        sa.Column("state", JSONB(), nullable=False),
        sa.CheckConstraint("jsonb_typeof(state) = 'object'", name="snapshots_state_is_an_object"),
        sa.CheckConstraint("pg_column_size(state) <= 262144", name="snapshots_state_fits"),
        sa.ForeignKeyConstraint(
            ["machine_id"], [f"{schema}.machines.id"], name="snapshots_machine", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "seq", name="snapshots_pkey"),
        schema=schema,
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_table("snapshots", schema=schema)
    op.drop_table("inbox", schema=schema)
    op.drop_table("dedup", schema=schema)
    op.drop_table("workers", schema=schema)
    op.drop_table("machines", schema=schema)
    op.drop_table("limits", schema=schema)
    op.drop_table("events", schema=schema)
    op.drop_table("buckets", schema=schema)
    op.drop_table("attempts", schema=schema)
    op.drop_table("actions", schema=schema)

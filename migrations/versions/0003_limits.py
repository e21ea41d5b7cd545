"""Limits: what each of them may hold, and the indexes that admission searches."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CHECKS = (
    ("actions_limit_has_a_key", "actions", "(limit_name IS NULL) = (limit_key IS NULL)"),
    ("limits_max_running_not_negative", "limits", "max_running >= 0"),
    ("limits_rate_positive", "limits", "rate > 0 AND rate < 'infinity'"),
    ("limits_burst_positive", "limits", "burst >= 1"),
    ("limits_per_positive", "limits", "per > interval '0'"),
    ("limits_rate_is_whole", "limits", "(rate IS NULL) = (per IS NULL) AND (rate IS NULL) = (burst IS NULL)"),
)


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    for name, table, condition in CHECKS:
        op.create_check_constraint(name, table, condition, schema=schema)
    op.create_index(
        "actions_limited",
        "actions",
        ["limit_name", "limit_key", "priority", "run_at"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("status = 'blocked' AND lane IS NULL"),
    )
    op.create_index(
        "actions_taken",
        "actions",
        ["limit_name", "limit_key"],
        unique=False,
        schema=schema,
        postgresql_where=sa.text("limit_name IS NOT NULL AND status IN ('pending', 'published', 'running')"),
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_index("actions_taken", "actions", schema=schema)
    op.drop_index("actions_limited", "actions", schema=schema)
    for name, table, _ in CHECKS:
        op.drop_constraint(name, table, schema=schema)

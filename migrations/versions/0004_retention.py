"""Retention: which ended machines have been pruned already, and what has expired, are found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ENDED = sa.text("ended_at IS NOT NULL")
EXPIRES = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    pruned = sa.Column("pruned", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    op.add_column("machines", pruned, schema=schema)
    op.create_check_constraint(
        "machines_pruned_after_a_life", "machines", "NOT pruned OR ended_at IS NOT NULL", schema=schema
    )
    op.drop_index("machines_ended", "machines", schema=schema)
    op.create_index(
        "machines_ended", "machines", ["pruned", "ended_at"], schema=schema, postgresql_where=ENDED
    )
    op.create_index("inbox_expires", "inbox", ["expires_at"], schema=schema, postgresql_where=EXPIRES)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_index("inbox_expires", "inbox", schema=schema)
    op.drop_index("machines_ended", "machines", schema=schema)
    op.create_index("machines_ended", "machines", ["ended_at"], schema=schema, postgresql_where=ENDED)
    op.drop_constraint("machines_pruned_after_a_life", "machines", schema=schema)
    op.drop_column("machines", "pruned", schema=schema)

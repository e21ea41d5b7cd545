"""A child knows the queue whose workers know its parent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HAS_A_QUEUE = "machines_parent_has_a_queue"


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.add_column("machines", sa.Column("parent_queue", sa.Text(), nullable=True), schema=schema)
    op.create_check_constraint(
        HAS_A_QUEUE, "machines", "(parent IS NULL) = (parent_queue IS NULL)", schema=schema
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_constraint(HAS_A_QUEUE, "machines", schema=schema)
    op.drop_column("machines", "parent_queue", schema=schema)

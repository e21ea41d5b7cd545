"""What a machine was started with holds for all its actions: a partition key and a priority."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.add_column("machines", sa.Column("partition_key", sa.Text(), nullable=True), schema=schema)
    op.add_column("machines", sa.Column("priority", sa.SmallInteger(), nullable=True), schema=schema)
    op.create_check_constraint("machines_priority", "machines", "priority BETWEEN 0 AND 9", schema=schema)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.drop_constraint("machines_priority", "machines", schema=schema)
    op.drop_column("machines", "priority", schema=schema)
    op.drop_column("machines", "partition_key", schema=schema)

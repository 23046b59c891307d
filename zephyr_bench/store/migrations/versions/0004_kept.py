"""What reports derive from a finished run, kept."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# by bytes, as SQLite sorts; a PostgreSQL server's own order is its country's
TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "kept",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_kept_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name", name=op.f("pk_kept")),
    )


def downgrade() -> None:
    op.drop_table("kept")


def lost(connection: sa.Connection) -> dict[str, int]:
    """What a downgrade would drop, and how much of it: nothing, as what is kept can be derived again."""
    return {}

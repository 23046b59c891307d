"""What was seen at each step of a training."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# by bytes, as SQLite sorts; a PostgreSQL server's own order is its country's
TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "trainings",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_trainings")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_trainings_fingerprint")),
    )
    op.create_table(
        "training_values",
        sa.Column("training", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["training"], ["trainings.number"], name=op.f("fk_training_values_training"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("training", "step", "metric", name=op.f("pk_training_values")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("training_values")
    op.drop_table("trainings")


def lost(connection: sa.Connection) -> dict[str, int]:
    """What a downgrade would drop, and how much of it."""
    return {
        "trainings": connection.scalar(sa.text("SELECT count(*) FROM trainings")) or 0,
        "values seen in training": connection.scalar(sa.text("SELECT count(*) FROM training_values")) or 0,
    }

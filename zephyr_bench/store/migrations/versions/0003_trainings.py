"""What was seen at each step of a training."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trainings",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_trainings")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_trainings_fingerprint")),
    )
    op.create_table(
        "training_values",
        sa.Column("training", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["training"], ["trainings.number"], name=op.f("fk_training_values_training"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("training", "step", "metric", name=op.f("pk_training_values")),
        sqlite_with_rowid=False,
    )

"""Samples of several rivals and repeats; where imported answers and judgments come from; a judgment's prompt."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("answers", sa.Column("replicate", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("answers", sa.Column("origin", sa.JSON(), nullable=True))
    op.add_column("judgments", sa.Column("prompt", sa.Text(), nullable=True))
    op.add_column("judgments", sa.Column("origin", sa.JSON(), nullable=True))
    # a primary key can't be changed: the table is made anew
    op.rename_table("samples", "samples_before")
    op.create_table(
        "samples",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("rival", sa.Text(), nullable=False),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_samples_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "metric", "question", "turn", "rival", "replicate", name=op.f("pk_samples")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO samples (run, metric, question, turn, rival, replicate, position, category, value, reason) "
        "SELECT run, metric, question, turn, '', 0, position, category, value, reason FROM samples_before"
    )
    op.drop_table("samples_before")

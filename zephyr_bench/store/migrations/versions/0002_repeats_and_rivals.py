"""Samples of several rivals and repeats; where imported answers and judgments come from; a judgment's prompt."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# by bytes, as SQLite sorts; a PostgreSQL server's own order is its country's
TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("answers", sa.Column("replicate", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("answers", sa.Column("origin", sa.JSON(), nullable=True))
    op.add_column("judgments", sa.Column("prompt", TEXT, nullable=True))
    op.add_column("judgments", sa.Column("origin", sa.JSON(), nullable=True))
    _set_aside("samples")
    op.create_table(
        "samples",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("question", TEXT, nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("rival", TEXT, nullable=False),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_samples_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "metric", "question", "turn", "rival", "replicate", name=op.f("pk_samples")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO samples (run, metric, question, turn, rival, replicate, position, category, value, reason) "
        "SELECT run, metric, question, turn, '', 0, position, category, value, reason FROM samples_before"
    )
    op.drop_table("samples_before")


def downgrade() -> None:
    for table, column in (
        *(("judgments", "origin"), ("judgments", "prompt")),
        *(("answers", "origin"), ("answers", "replicate")),
    ):
        op.drop_column(table, column)
    _set_aside("samples")
    op.create_table(
        "samples",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("question", TEXT, nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_samples_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "metric", "question", "turn", name=op.f("pk_samples")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO samples (run, metric, question, turn, position, category, value, reason) "
        "SELECT run, metric, question, turn, position, category, value, reason FROM samples_before "
        f"WHERE NOT {_REPEATED.format(table='samples_before')}"
    )
    op.drop_table("samples_before")


# of several rivals or repeats of a question, all but the first that arrived
_REPEATED = (
    "EXISTS (SELECT 1 FROM {table} AS first WHERE first.run = {table}.run AND first.metric = {table}.metric "
    "AND first.question = {table}.question AND first.turn = {table}.turn AND "
    "(first.position < {table}.position OR (first.position = {table}.position AND "
    "(first.rival < {table}.rival OR (first.rival = {table}.rival AND first.replicate < {table}.replicate)))))"
)


def lost(connection: sa.Connection) -> dict[str, int]:
    """What a downgrade would drop, and how much of it."""
    count = {
        "samples of repeats and of further rivals": f"samples WHERE {_REPEATED.format(table='samples')}",
        "origins of imported answers": "answers WHERE origin IS NOT NULL",
        "marks of repeated answers": "answers WHERE replicate <> 0",
        "origins of imported judgments": "judgments WHERE origin IS NOT NULL",
        "names of judges' prompts": "judgments WHERE prompt IS NOT NULL",
    }
    return {what: connection.scalar(sa.text(f"SELECT count(*) FROM {of}")) or 0 for what, of in count.items()}


def _set_aside(table: str) -> None:
    """Under another name: a primary key can't be changed, so the table is made anew."""
    op.rename_table(table, f"{table}_before")
    if op.get_context().dialect.name == "postgresql":  # where a key's name is taken for the whole schema
        op.execute(f"ALTER TABLE {table}_before RENAME CONSTRAINT pk_{table} TO pk_{table}_before")

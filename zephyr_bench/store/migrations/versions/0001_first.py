"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# by bytes, as SQLite sorts; a PostgreSQL server's own order is its country's
TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("location", TEXT, nullable=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_models")),
    )
    op.create_table(
        "questions",
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("category", TEXT, nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_questions")),
    )
    op.create_table(
        "token_scores",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("log_prob", sa.Float(), nullable=False),
        sa.Column("is_greedy", sa.Boolean(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_token_scores")),
    )
    op.create_table(
        "answers",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("question", TEXT, nullable=False),
        sa.Column("question_fingerprint", TEXT, nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("text", TEXT, nullable=True),
        sa.Column("finish_reason", TEXT, nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("created", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["question_fingerprint"], ["questions.fingerprint"], name=op.f("fk_answers_question_fingerprint")
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_answers")),
    )
    op.create_index(op.f("ix_answers_question_fingerprint"), "answers", ["question_fingerprint"], unique=False)
    op.create_table(
        "judgments",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("judge", TEXT, nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("reply", TEXT, nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("question", TEXT, nullable=False),
        sa.Column("question_fingerprint", TEXT, nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("answer_key", TEXT, nullable=False),
        sa.Column("rival_key", TEXT, nullable=True),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.ForeignKeyConstraint(
            ["question_fingerprint"],
            ["questions.fingerprint"],
            name=op.f("fk_judgments_question_fingerprint"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_judgments")),
    )
    op.create_index(op.f("ix_judgments_answer_key"), "judgments", ["answer_key"], unique=False)
    op.create_index(op.f("ix_judgments_question_fingerprint"), "judgments", ["question_fingerprint"], unique=False)
    op.create_index(op.f("ix_judgments_rival_key"), "judgments", ["rival_key"], unique=False)
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("benchmark", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("model_fingerprint", TEXT, nullable=False),
        sa.Column("engine_fingerprint", TEXT, nullable=False),
        sa.Column("judge", TEXT, nullable=True),
        sa.Column("judge_fingerprint", TEXT, nullable=True),
        sa.Column("protocol", sa.JSON(), nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("finished", TEXT, nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("writer_host", TEXT, nullable=False),
        sa.Column("writer_pid", sa.Integer(), nullable=False),
        sa.Column("writer_started", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["model_fingerprint"], ["models.fingerprint"], name=op.f("fk_runs_model_fingerprint")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
    )
    op.create_index(op.f("ix_runs_benchmark_created"), "runs", ["benchmark", "created"], unique=False)
    op.create_index(op.f("ix_runs_created"), "runs", ["created"], unique=False)
    op.create_index(op.f("ix_runs_model_fingerprint"), "runs", ["model_fingerprint"], unique=False)
    op.create_table(
        "run_answers",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["answer"], ["answers.key"], name=op.f("fk_run_answers_answer")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_run_answers_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "answer", name=op.f("pk_run_answers")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_answers_answer"), "run_answers", ["answer"], unique=False)
    op.create_table(
        "run_judgments",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("judgment", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["judgment"], ["judgments.key"], name=op.f("fk_run_judgments_judgment")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_run_judgments_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "judgment", name=op.f("pk_run_judgments")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_judgments_judgment"), "run_judgments", ["judgment"], unique=False)
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
    op.create_table(
        "scores",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("metric", TEXT, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("stderr", sa.Float(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_scores_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "metric", name=op.f("pk_scores")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tags",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("tag", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_tags_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "tag", name=op.f("pk_tags")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in (
        *("tags", "scores", "samples", "run_judgments", "run_answers", "runs"),
        *("judgments", "answers", "token_scores", "questions", "models"),
    ):
        op.drop_table(table)

"""The store's tables, for people who write SQL; docs/schema.md has examples.

    models 1--n runs 1--n samples, scores, tags, kept
                runs n--n answers    (run_answers: which runs use an answer)
                runs n--n judgments  (run_judgments)
    questions 1--n answers, judgments;   judgments.answer_key, .rival_key -> answers.key where that is stored
    trainings 1--n training_values;      trainings.fingerprint = models.lineage's stage_fingerprint

Keys and fingerprints are `sha256:` and a hex digest (docs/design/fingerprints.md). An answer, a judgment
and a token score exist once, however many runs use them. Times are UTC, ISO 8601, ending in Z. A missing
value is NULL, never 0 or NaN. Texts hold DLE escapes for NUL and lone surrogates (exact_text.py).
Every change here needs a migration beside it (docs/design/store.md) and a new REVISION.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
)

from zephyr_bench.store.exact_text import ExactText, Text

REVISION = "0004"  # the newest migration's
VERSION_TABLE = "zephyr_bench_revision"  # of our own name, so that no other program's file passes for a store

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def _run() -> Column[int]:
    """What belongs to a run goes with it."""
    return Column("run", Integer, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True)


# A checkpoint, by what its files hash to. Name, location and note are the latest given.
models = Table(
    "models",
    metadata,
    Column("fingerprint", ExactText, primary_key=True),
    Column("name", ExactText, nullable=False),
    Column("location", ExactText, nullable=False),  # a directory or a hub id
    Column("note", ExactText, nullable=False),  # shown beside the name: "quantised"
    Column("lineage", JSON, nullable=False),  # the trainer's lineage.json, {} where there is none
    Column("created", Text, nullable=False),
)

# One invocation of an evaluating command. `number` joins; `id` is what people see and type.
runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", ExactText, nullable=False, unique=True),  # 20261123-201530-ab12cd: UTC time and chance
    Column("benchmark", ExactText, nullable=False),
    Column("model", ExactText, nullable=False),  # its name when the run began
    Column("model_fingerprint", ExactText, ForeignKey("models.fingerprint"), nullable=False, index=True),
    Column("engine_fingerprint", Text, nullable=False),
    Column("judge", ExactText),
    Column("judge_fingerprint", Text),
    Column("protocol", JSON, nullable=False),  # what makes two runs comparable
    # running, complete, incomplete (a service failed), interrupted, failed
    Column("status", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("finished", Text),
    Column("seed", BigInteger, nullable=False),
    Column("version", Text, nullable=False),  # of zephyr-bench
    Column("environment", JSON, nullable=False),  # libraries and hardware
    # the writing process: a row that says 'running' lies once this process is gone
    Column("writer_host", ExactText, nullable=False),
    Column("writer_pid", Integer, nullable=False),
    Column("writer_started", Text),  # tells a process from a later one of the same pid
    Index(None, "benchmark", "created"),
    Index(None, "created"),
)

tags = Table("tags", metadata, _run(), Column("tag", ExactText, primary_key=True), sqlite_with_rowid=False)

# What was asked. Two questions of the same content are one row, with the first one's id and category.
questions = Table(
    "questions",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("id", ExactText, nullable=False),
    Column("category", ExactText, nullable=False),
    Column("content", JSON, nullable=False),  # {"turns": [], "reference": [], "checks": [[{}]]}
)

# One model's answer to one turn (1-based). `text` is NULL where only its judgment is known.
answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("model", ExactText, nullable=False),
    Column("question", ExactText, nullable=False),  # the question's id
    Column("question_fingerprint", Text, ForeignKey("questions.fingerprint"), nullable=False, index=True),
    Column("turn", Integer, nullable=False),
    Column("text", ExactText),
    Column("finish_reason", Text),  # stop or length
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("created", Text, nullable=False),
    Column("replicate", Integer, nullable=False, server_default="0"),  # counts deliberate repeats; 0 otherwise
    Column("origin", JSON(none_as_null=True)),  # of an imported one: what its file says beside this
)

run_answers = Table(
    "run_answers",
    metadata,
    _run(),
    Column("answer", Text, ForeignKey("answers.key"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

# A judge's verdict on an answer (rival_key NULL: score 1-10), or on which of two is better (score 0-1,
# 1 for answer_key). answer_key and rival_key are the answers of the last turn judged, `turn`; they are no
# foreign keys, as a baseline's answer may never have been an answer of the store.
judgments = Table(
    "judgments",
    metadata,
    Column("key", Text, primary_key=True),
    Column("judge", ExactText, nullable=False),
    Column("score", Float),  # NULL: the reply held no verdict
    Column("reason", ExactText),  # why score is NULL
    Column("reply", ExactText, nullable=False),
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("cost_usd", Float),
    Column("question", ExactText, nullable=False),  # the question's id
    Column("question_fingerprint", Text, ForeignKey("questions.fingerprint"), nullable=False, index=True),
    Column("turn", Integer, nullable=False),
    Column("answer_key", Text, nullable=False, index=True),
    Column("rival_key", Text, index=True),
    Column("replicate", Integer, nullable=False),  # counts deliberate repeats; 0 otherwise
    Column("created", Text, nullable=False),
    Column("prompt", ExactText),  # which of the judge's prompts was sent, where it has several
    Column("origin", JSON(none_as_null=True)),  # as an answer's
)

run_judgments = Table(
    "run_judgments",
    metadata,
    _run(),
    Column("judgment", Text, ForeignKey("judgments.key"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

# log p(continuation | context), natural log, summed over `tokens` tokens. Belongs to no run: a cache.
token_scores = Table(
    "token_scores",
    metadata,
    Column("key", Text, primary_key=True),
    Column("log_prob", Float, nullable=False),
    Column("is_greedy", Boolean, nullable=False),
    Column("tokens", Integer, nullable=False),
)

# One question's contribution to a metric of a run: what paired comparisons are made of.
samples = Table(
    "samples",
    metadata,
    _run(),
    Column("metric", ExactText, primary_key=True),
    Column("question", ExactText, primary_key=True),
    Column("turn", Integer, primary_key=True),  # 1-based; 0 where turns mean nothing
    Column("rival", ExactText, primary_key=True),  # who the answer was compared with; "" where nobody
    Column("replicate", Integer, primary_key=True),  # counts deliberate repeats; 0 otherwise
    Column("position", Integer, nullable=False),  # order of arrival
    Column("category", ExactText, nullable=False),
    Column("value", Float),
    Column("reason", ExactText),  # why value is NULL
    sqlite_with_rowid=False,
)

# A metric of a run, on the benchmark's own scale; position 0 is the headline.
scores = Table(
    "scores",
    metadata,
    _run(),
    Column("metric", ExactText, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("value", Float),
    Column("stderr", Float),
    Column("n", Integer, nullable=False),
    Column("missing", Integer, nullable=False),  # samples without a value, left out of the mean
    sqlite_with_rowid=False,
)

# What reports derive from a finished run, so that they needn't read its samples again (docs/design/leaderboard.md). A
# cache: it may be emptied at any time, and is, for a run that is written to once more.
kept = Table(
    "kept",
    metadata,
    _run(),
    Column("name", Text, primary_key=True),  # with the version of the code that wrote it
    Column("content", LargeBinary, nullable=False),
)

# A stage of training, by all that its result hangs on: the stage_fingerprint of its checkpoint's lineage.
trainings = Table(
    "trainings",
    metadata,
    Column("number", Integer, primary_key=True),  # joins
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("name", ExactText, nullable=False),  # of its checkpoint: smol-ddpo
    Column("steps", Integer, nullable=False),  # as planned
    Column("created", Text, nullable=False),
)

# What was seen at a step (from 1): loss, learning_rate, grad_norm, tokens, seconds, margin, ...; at a look at held-out
# rows held_out/loss, ..., kl. A training that goes on from a restart point writes what comes after it again.
training_values = Table(
    "training_values",
    metadata,
    Column("training", Integer, ForeignKey("trainings.number", ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("value", Float),  # NULL: it was no number
    sqlite_with_rowid=False,
)

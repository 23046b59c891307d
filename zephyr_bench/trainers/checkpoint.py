"""Checkpoints: what a stage starts from, what it leaves, and how a finished one is known again.

A checkpoint is a directory of safetensors with tokenizer, chat template, `lineage.json` and a log of the
steps. It appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench import __version__
from zephyr_bench.catalogue import root
from zephyr_bench.engines import chat_tokens
from zephyr_bench.engines.loading import (
    default_template,
    load_config,
    load_tokenizer,
    quiet_transformers,
    resolve_device,
)
from zephyr_bench.engines.locate import locate_directory
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe, Training
from zephyr_bench.trainers.recompute import keep_less
from zephyr_bench.trainers.restart import RestartPoints
from zephyr_bench.written_file import flush_folder

if TYPE_CHECKING:
    from zephyr_bench.trainers.loop import Step

LINEAGE = "lineage.json"
LOG = "training_log.jsonl"
# where rows came from is told by their hash; the others change speed and memory, not the result
_NO_EFFECT = {"data", "held_out", "micro_batch", "gradient_checkpointing", "save_minutes", "budget_minutes"}


@dataclass(frozen=True)
class StageRecord:
    """What a stage's result hangs on, and its fingerprint."""

    name: str  # of the checkpoint: smol-dsft
    stage: str
    recipe: str
    settings: Mapping[str, Any]
    parent: ModelSource
    data: str  # hash of the rows trained on
    rows: int
    seed: int
    chat_template: str | None  # given to the model; None: its own

    @classmethod
    def of(
        cls, stage: str, settings: Training, *, recipe: Recipe, parent: ModelSource, data: Sequence[Any]
    ) -> StageRecord:
        template = recipe.resolve(recipe.chat_template).read_text(encoding="utf-8") if recipe.chat_template else None
        plain = settings.model_dump(mode="json", exclude=_NO_EFFECT)
        rows = fingerprint([fingerprint(row) for row in data])
        return cls(
            f"{recipe.name}-{stage}",
            stage,
            recipe.name,
            plain,
            parent,
            rows,
            len(data),
            recipe.seed,
            template,
        )

    @property
    def fingerprint(self) -> str:
        return fingerprint(
            {
                "stage": self.stage,
                "settings": self.settings,
                "parent": self.parent.fingerprint,
                "data": self.data,
                "seed": self.seed,
                "chat_template": self.chat_template,
                "chat_tokens": chat_tokens.VERSION,
                "zephyr-bench": __version__,
            }
        )

    def lineage(self, steps: Sequence[Step], device: str, *, chat_template: str | None) -> dict[str, Any]:
        """`chat_template` is the one that the chats were rendered with; `doctor` compares it with the tokenizer's."""
        return {
            "name": self.name,
            "stage": self.stage,
            "recipe": self.recipe,
            "settings": dict(self.settings),
            "parent": {
                "name": self.parent.name,
                "location": self.parent.location,
                "fingerprint": self.parent.fingerprint,
                "note": self.parent.note,
                "lineage": dict(self.parent.lineage),
            },
            "data": {"fingerprint": self.data, "rows": self.rows},
            "chat_template": fingerprint(chat_template),
            "seed": self.seed,
            "stage_fingerprint": self.fingerprint,
            "steps": len(steps),
            "first_loss": steps[0].loss,
            "last_loss": steps[-1].loss,
            "git_commit": _git_commit(),
            "versions": {
                "zephyr-bench": __version__,
                **{name: version(name) for name in ("torch", "transformers")},
            },
            "hardware": {"device": device, "machine": platform.machine(), "processors": os.cpu_count()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def finished_before(out: Path, record: StageRecord, *, resume: bool, progress: Progress) -> ModelSource | None:
    """The finished checkpoint to keep, or None where the stage has to be trained.

    Raises UserError, before any training, where its checkpoint can't be written.
    """
    if resume and (done := _finished(out, record)):
        shutil.rmtree(_restart_folder(out), ignore_errors=True)  # a kill may have left it
        progress.say(f"{record.stage}: {out} is there already")
        return done
    _new_draft(out).rmdir()
    return None


def _restart_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}-restart")


def restart_points(out: Path, record: StageRecord, settings: Training, *, resume: bool) -> RestartPoints:
    """Those of the stage that leaves its checkpoint in `out`; without `resume` none is gone on from."""
    points = RestartPoints(_restart_folder(out), record.fingerprint, settings.save_minutes)
    if not resume:
        points.clear()
    return points


def _finished(out: Path, record: StageRecord) -> ModelSource | None:
    """The checkpoint in `out` if it came of the same stage, data and parent."""
    try:
        lineage = json.loads((out / LINEAGE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(lineage, dict) or lineage.get("stage_fingerprint") != record.fingerprint:
        return None
    try:
        return locate_directory(out)
    except UserError:  # someone took the weights away
        return None


def load_for_training(start: ModelSource, settings: Training, *, recipe: Recipe, device: str) -> tuple[Any, Any]:
    """(model in float32, tokenizer with its chat template). Raises UserError without a template."""
    import torch
    from transformers import AutoModelForCausalLM

    options = EngineOptions()
    tokenizer = load_tokenizer(start.location, options)
    if recipe.chat_template is not None:
        tokenizer.chat_template = recipe.resolve(recipe.chat_template).read_text(encoding="utf-8")
    if tokenizer.chat_template is None:
        raise UserError(
            f"model {start.name} has no chat template, so chats can't be made into tokens; "
            f"name one in the recipe: chat_template: templates/zephyr.jinja."
        )
    load_config(start.location, options)  # broken files are told in one sentence
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(start.location, dtype=torch.float32, use_safetensors=True)
    torch.manual_seed(recipe.seed)
    keep_less(model, settings.gradient_checkpointing)
    return model.to(resolve_device(device)), tokenizer


def save(model: Any, tokenizer: Any, out: Path, record: StageRecord, steps: Sequence[Step]) -> ModelSource:
    """Write beside `out`, then rename: a checkpoint is there whole or not at all, whenever the process is killed."""
    draft = _new_draft(out)
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            model.save_pretrained(draft, safe_serialization=True)
            tokenizer.save_pretrained(draft)
        lines = (json.dumps(asdict(step)) + "\n" for step in steps)
        (draft / LOG).write_text("".join(lines), encoding="utf-8")
        lineage = record.lineage(steps, str(model.device), chat_template=default_template(tokenizer))
        (draft / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")
        draft.chmod(0o755)
        flush_folder(draft)
        _put_in_place(draft, out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"checkpoint {out}: can't be written: {reason}; make room and run again.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return locate_directory(out)


def _new_draft(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}-draft-", dir=out.parent))
    except OSError as error:
        raise UserError(f"checkpoint {out}: can't be written: {error.strerror}; name another --output.") from None


def _put_in_place(draft: Path, out: Path) -> None:
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
        out.rename(old / out.name)
        draft.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(out)


def _git_commit() -> str | None:
    """Of the checkout that the code runs from; None for an installed package."""
    if not (root() / ".git").exists():
        return None
    command = ["git", "-C", str(root()), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None

"""Checkpoints: what a stage starts from, what it leaves, and how a finished one is known again.

A checkpoint is a directory of safetensors (all weights, or an adapter's) with tokenizer, chat template, `lineage.json`
and a log of the steps. It appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_bench import __version__
from zephyr_bench.catalogue import root
from zephyr_bench.engines import chat_tokens
from zephyr_bench.engines.loading import (
    default_template,
    load_tokenizer,
    load_weights,
    resolve_device,
    resolve_dtype,
)
from zephyr_bench.engines.locate import locate_directory
from zephyr_bench.engines.model_files import LINEAGE
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.engines.quiet import quiet_transformers
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import DdpoStage, DsftStage, Recipe, Training
from zephyr_bench.training_data import tokens
from zephyr_bench.training_runs.adapters import add_adapters, quantized, save_adapters
from zephyr_bench.training_runs.group import ALONE, Group
from zephyr_bench.training_runs.recompute import keep_less
from zephyr_bench.training_runs.restart import RestartPoints
from zephyr_bench.written_file import flush_folder

if TYPE_CHECKING:
    from zephyr_bench.training_runs.step import Step

LOG = "training_log.jsonl"
# where rows came from is told by their hash; the others change speed and memory, not the result
_NO_EFFECT = {
    *("data", "held_out", "held_out_every", "evaluate_every", "micro_batch", "gradient_checkpointing"),
    *("save_minutes", "save_last", "keep_evaluated", "budget_minutes"),
}


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
    # told, and not in the fingerprint, which has the rows' own hash:
    sources: tuple[str, ...] = ()  # where rows came from
    compared: Mapping[str, Any] | None = field(default=None, hash=False)  # with which evaluation questions

    @classmethod
    def of(
        cls,
        stage: str,
        settings: Training,
        *,
        recipe: Recipe,
        parent: ModelSource,
        data: Sequence[Any],
        device: str,
        compared: Mapping[str, Any] | None = None,
    ) -> StageRecord:
        template = recipe.resolve(recipe.chat_template).read_text(encoding="utf-8") if recipe.chat_template else None
        if recipe.system is not None:
            template = with_system(template or "", recipe.system)
        drops = settings.lora is not None and settings.lora.dropout > 0  # which weights, hangs on how rows are cut
        plain = settings.model_dump(mode="json", exclude=_NO_EFFECT - ({"micro_batch"} if drops else set()))
        if settings.dtype == "auto":
            plain["dtype"] = resolve_dtype("auto", resolve_device(device))
        if isinstance(settings, DdpoStage) and settings.cuts_as_usual:
            plain["truncation_mode"] = None
        rows = fingerprint([fingerprint(row) for row in data])
        sources = settings.data if isinstance(settings, DsftStage | DdpoStage) else ()
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
            tuple(source.where for source in sources),
            compared,
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
                "tokens": tokens.VERSION,
                "zephyr-bench": __version__,
            }
        )

    def _more_packages(self) -> list[str]:
        """What made the result beside torch and transformers."""
        lora = self.settings.get("lora") or {}
        quantized = lora.get("quantize") or str(self.settings.get("optimizer")).startswith("paged")
        return [*(["peft"] if lora else []), *(["bitsandbytes"] if quantized else [])]

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
            "data": {"fingerprint": self.data, "rows": self.rows, "sources": list(self.sources)},
            "evaluation_questions": self.compared,
            "chat_template": fingerprint(chat_template),
            "seed": self.seed,
            "stage_fingerprint": self.fingerprint,
            "steps": len(steps),
            "first_loss": steps[0].loss,
            "last_loss": steps[-1].loss,
            "git_commit": _git_commit(),
            "versions": {
                "zephyr-bench": __version__,
                **{name: version(name) for name in ("torch", "transformers", *self._more_packages())},
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


def restart_points(
    out: Path, record: StageRecord, settings: Training, *, resume: bool, group: Group = ALONE
) -> RestartPoints:
    """Those of the stage that leaves its checkpoint in `out`; without `resume` none is gone on from."""
    points = RestartPoints(
        _restart_folder(out), record.fingerprint, settings.save_minutes, kept=settings.save_last, group=group
    )
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
        return locate_directory(out, base=record.parent)
    except UserError:  # someone took the weights away
        return None


def with_system(template: str, system: str) -> str:
    """A chat template that puts a system message of that text before chats without one.

    The checkpoint keeps it, so that it is asked as it was trained.
    """
    message = json.dumps({"role": "system", "content": system})
    put = f"{{%- if not messages or messages[0]['role'] != 'system' %}}{{%- set messages = [{message}] + messages %}}"
    before = put + "{%- endif -%}"
    return template if template.startswith(before) else before + template


def tokenizer_of(start: ModelSource, recipe: Recipe, *, include: tuple[Path, ...] = ()) -> Any:
    """With the recipe's chat template, or its own. Raises UserError without either."""
    tokenizer = load_tokenizer(start.location, EngineOptions(include=include))
    if recipe.chat_template is not None:
        tokenizer.chat_template = recipe.resolve(recipe.chat_template).read_text(encoding="utf-8")
    if recipe.system is not None and tokenizer.chat_template is not None:
        tokenizer.chat_template = with_system(tokenizer.chat_template, recipe.system)
    if tokenizer.chat_template is None:
        raise UserError(
            f"model {start.name} has no chat template, so chats can't be made into tokens; "
            f"name one in the recipe: chat_template: templates/zephyr.jinja."
        )
    return tokenizer


def load_for_training(
    start: ModelSource, settings: Training, *, recipe: Recipe, device: str, include: tuple[Path, ...] = ()
) -> tuple[Any, Any]:
    """(model on its device, tokenizer with its chat template). Raises UserError without a template.

    What learns is in float32: all weights, or with `lora` adapters alone, over weights in the arithmetic's dtype. An
    adapter that training starts from is merged first, as alignment-handbook does (scripts/run_dpo.py): the result is
    the reference, and the new adapter's base.
    """
    import torch

    tokenizer = tokenizer_of(start, recipe, include=include)
    device, lora = resolve_device(device), settings.lora
    dtype = getattr(torch, resolve_dtype(settings.dtype, device)) if lora else torch.float32
    model = load_weights(start.location, EngineOptions(include=include), dtype=dtype, merged=True)
    torch.manual_seed(recipe.seed)
    with quiet_transformers():
        model = quantized(model, dtype=dtype, device=device) if lora and lora.quantize else model.to(device)
        keep_less(model, settings.gradient_checkpointing)
        if lora:
            add_adapters(model, lora, base=start)
    return model, tokenizer


def save(
    model: Any, tokenizer: Any, out: Path, record: StageRecord, steps: Sequence[Step], *, group: Group = ALONE
) -> ModelSource:
    """Write beside `out`, then rename: a checkpoint is there whole or not at all, whenever the process is killed.

    Rank 0 does; the others of the group take part.
    """
    trained_on = f"{group.world} x {model.device.type}" if group.world > 1 else str(model.device)
    with group.gathered(model):
        return group.agreed(record.parent if group.rank else _written(model, tokenizer, out, record, steps, trained_on))


def _written(
    model: Any, tokenizer: Any, out: Path, record: StageRecord, steps: Sequence[Step], device: str
) -> ModelSource:
    draft = _new_draft(out)
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            if record.settings.get("lora"):
                save_adapters(model, draft)
            else:
                model.save_pretrained(draft, safe_serialization=True)
            tokenizer.save_pretrained(draft)
        lines = (json.dumps(asdict(step)) + "\n" for step in steps)
        (draft / LOG).write_text("".join(lines), encoding="utf-8")
        lineage = record.lineage(steps, device, chat_template=default_template(tokenizer))
        (draft / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")
        draft.chmod(0o755)
        flush_folder(draft)
        _put_in_place(draft, out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"checkpoint {out}: can't be written: {reason}; make room and run again.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return locate_directory(out, base=record.parent)


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

"""Adapters: small weights that mean something on the very base they were trained on, and nothing on another.

In: a folder with adapter_config.json, as peft writes it. Out: its base, and the model of both. The base must have the
fingerprint that lineage.json tells, where there is one (on another base MT-Bench fell by five points:
alignment-handbook#188). It may be an adapter itself: that of dDPO after dSFT.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.engines.file_hashes import remembered_sha256
from zephyr_bench.engines.locate import INDEX, content, locate, read_lineage
from zephyr_bench.engines.locate import WEIGHTS as WHOLE_WEIGHTS
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_UNCHECKED = "adapter, its base not checked"
_BASE = "base_model_name_or_path"
# where the base is said to be, and what changes no answer
_NO_EFFECT = {_BASE, "revision", "auto_mapping", "inference_mode", "peft_version", "task_type", "lora_dropout"}


def is_adapter(location: str | Path) -> bool:
    return (Path(location) / CONFIG).is_file()


def locate_adapter(
    folder: Path, *, name: str, include: Sequence[Path] = (), base: ModelSource | None = None
) -> ModelSource:
    """Raises UserError where the base isn't there, is another one, or the adapter is none of ours.

    `base`: what it was trained on, where that is known. The fingerprint is of the base and the adapter; not of the
    base's place.
    """
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"adapter {folder}: {WEIGHTS} is missing; expected what peft's save_pretrained writes.")
    if (folder / WHOLE_WEIGHTS).is_file() or (folder / INDEX).is_file():
        raise UserError(f"model directory {folder}: holds an adapter and whole weights; keep one of them there.")
    config = _config(folder)
    lineage = read_lineage(folder)
    below = base or base_of(folder, include=include)
    plain = {key: _in_order(value) for key, value in config.items() if value and key not in _NO_EFFECT}
    own = content(folder, {WEIGHTS: remembered_sha256(folder / WEIGHTS)})
    return ModelSource(
        name=name,
        location=str(folder),
        fingerprint=fingerprint({"base": below.fingerprint, "adapter": own, "config": plain}),
        lineage=lineage,
        note=below.note if _trained_on(lineage) else _UNCHECKED,
    )


def base_of(folder: str | Path, *, include: Sequence[Path] = ()) -> ModelSource:
    """The base that the adapter was trained on. Raises UserError where it isn't found, or only another one.

    Looked for where adapter_config.json says, where lineage.json says, beside the adapter, and by its name. Without
    lineage.json what adapter_config.json names is taken.
    """
    folder = Path(folder).resolve()
    named = _config(folder).get(_BASE)
    parent = read_lineage(folder).get("parent") or {}
    wanted = _trained_on({"parent": parent})
    told = [named]
    if wanted:
        location = str(parent.get("location") or "")
        told += [location, str(folder.parent / Path(location).name), parent.get("name")]
    others: list[ModelSource] = []
    failed: dict[str, UserError] = {}
    for place in dict.fromkeys(str(place) for place in told if place):
        if Path(place).resolve() == folder:
            continue
        try:
            found = locate(place, include=include)
        except UserError as error:
            failed[place] = error
            continue
        if wanted in (None, found.fingerprint):
            return found
        others.append(found)
    where = f"put it back, or name its place as {_BASE} in {CONFIG}"
    if others:
        raise UserError(
            f"adapter {folder}: was trained on {parent.get('name')} ({_short(wanted)}), and {others[0].location} is "
            f"another model ({_short(others[0].fingerprint)}); {where}."
        )
    for place, told_of_it in failed.items():
        if Path(place).is_dir():
            raise told_of_it  # it is there, and broken: an adapter that lacks its own base, say
    reason = str(next(iter(failed.values()), f"{CONFIG} names none")).removesuffix(".")
    raise UserError(f"adapter {folder}: its base {parent.get('name') or named or ''} isn't found ({reason}); {where}.")


def base_is_checked(folder: str | Path) -> bool:
    """Whether lineage.json tells what the adapter was trained on."""
    return _trained_on(read_lineage(Path(folder))) is not None


def with_adapter(model: Any, location: str, *, merged: bool) -> Any:
    """The base with the adapter merged into its weights, or beside them. Raises UserError where they don't fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    folder = Path(location)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # told below
        warnings.filterwarnings("ignore", category=FutureWarning)  # what peft uses of transformers
        # merged: summed in float32 and rounded once; else computed in the base's own arithmetic, as trained
        adapted = PeftModel.from_pretrained(
            model, folder, autocast_adapter_dtype=merged, torch_device=str(model.device)
        )
    with safe_open(folder / WEIGHTS, "pt") as file:
        there = set(file.keys())
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if unlike := sorted(wanted - there) + sorted(name for name in there - wanted if ".lora_" in name):
        raise UserError(f"adapter {folder}: doesn't fit its base: only one of them has {unlike[0]}.")
    if not base_is_checked(folder):
        told = f"adapter {folder}: whether it was trained on {model.name_or_path} can't be checked: no lineage.json"
        Progress().warn(told)
    return adapted.merge_and_unload() if merged else adapted.get_base_model()


def _trained_on(lineage: Any) -> str | None:
    """The base's fingerprint."""
    parent = lineage.get("parent")
    return parent.get("fingerprint") if isinstance(parent, dict) else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} can't be read: {error}.") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise UserError(f"{folder / CONFIG}: peft_type is {kind}; expected LORA, the one kind of adapter known here.")
    return dict(config)


def _in_order(value: Any) -> Any:
    """peft writes sets of names in the order of the day."""
    return sorted(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _short(digest: Any) -> str:
    return str(digest)[:15] + "…"

"""The files of a model's directory: whole weights, or an adapter's over a base; tokenizer, config, lineage.

In: a directory. Out: what is there, and the hash of what an answer depends on. Knows no name and no hub; loads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr_bench.engines.file_hashes import remembered_sha256
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # as peft writes them
LINEAGE = "lineage.json"
BASE = "base_model_name_or_path"  # of an adapter's config
# a tokenizer is there if one of these is
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# what an answer depends on beside the weights
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    *_TOKENIZERS,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def content(path: Path, weights: Mapping[str, str]) -> str:
    """Hash of a model's files: its weight files' digests and every small file that an answer depends on."""
    small = {name: remembered_sha256(path / name) for name in SMALL_FILES if (path / name).is_file()}
    return fingerprint({"weights": dict(weights), "files": small})


def need_small_files(path: Path) -> None:
    """Raises UserError where config or tokenizer is missing."""
    if not (path / "config.json").is_file():
        raise UserError(f"model directory {path}: config.json is missing; expected what save_pretrained writes.")
    if not has_tokenizer(path):
        raise UserError(f"model directory {path}: the tokenizer is missing; expected tokenizer.json or the like.")


def has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in _TOKENIZERS)


def weight_files(path: Path) -> list[str]:
    """Names of the files of safetensors. Raises UserError where they are not all there."""
    if (path / WEIGHTS).is_file():
        return [WEIGHTS]
    if (path / INDEX).is_file():
        found = shards(path / INDEX)
        absent = [shard for shard in found if not (path / shard).is_file()]
        if absent:
            raise UserError(f"model directory {path}: weights are incomplete; {INDEX} names {absent[0]}, not there.")
        return found
    pickled = sorted(found.name for pattern in _PICKLED for found in path.glob(pattern))
    if pickled:
        raise UserError(
            f"model directory {path}: {pickled[0]} is a pickle, which can run code when it is read; "
            f"save the weights as safetensors first."
        )
    raise UserError(f"model directory {path}: no weights; expected {WEIGHTS}, or {INDEX} with its shards.")


def shards(index: Path) -> list[str]:
    """The files that an index names. Raises UserError for one that is malformed."""
    try:
        found = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if all(isinstance(name, str) for name in found):
            return sorted(found)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    raise UserError(f"{index}: malformed; expected JSON with a weight_map from tensors to files.")


def read_lineage(path: Path) -> dict[str, Any]:
    """The trainer's lineage.json; empty where there is none. Raises UserError for one that is malformed."""
    file = path / LINEAGE
    if not file.is_file():
        return {}
    try:
        lineage = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: malformed JSON: {error}.") from None
    if not isinstance(lineage, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(lineage).__name__}.")
    if not isinstance(lineage.get("name", ""), str):
        raise UserError(f"{file}: expected a text as name, found {lineage['name']!r}.")
    if not isinstance(lineage.get("parent") or {}, dict):
        raise UserError(f"{file}: expected a JSON object as parent, found {lineage['parent']!r}.")
    return lineage


def trained_on(lineage: Mapping[str, Any]) -> str | None:
    """Fingerprint of what the model was trained from, where its lineage tells."""
    parent = lineage.get("parent")
    return parent.get("fingerprint") if isinstance(parent, dict) else None


def is_adapter(location: str | Path) -> bool:
    return (Path(location) / ADAPTER_CONFIG).is_file()


def base_is_checked(folder: str | Path) -> bool:
    """Whether lineage.json tells what the adapter was trained on."""
    return trained_on(read_lineage(Path(folder))) is not None


def adapter_config(folder: Path) -> dict[str, Any]:
    """Raises UserError for one that is none of LoRA's."""
    file = folder / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} can't be read: {error}.") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise UserError(f"{file}: peft_type is {kind}; expected LORA, the one kind of adapter known here.")
    return dict(config)

"""Finds a model by what the user typed: a packaged model's name, a directory, or a hub id.

Out: a ModelSource with the model's content fingerprint. Reads files and hashes; loads no weights and
imports no torch. A packaged model is converted the first time (packaged.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.engines.file_hashes import remembered_sha256
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import UserError, did_you_mean, first_line
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.recipe import packaged_models

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# a tokenizer is there if one of these is
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# what an answer depends on beside the weights
_SMALL_FILES = (
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
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def locate(model: str, *, include: Sequence[Path] = ()) -> ModelSource:
    """The model of that name; a packaged model's name goes before a directory's. Raises UserError."""
    packaged = packaged_models(include)
    if model in packaged:
        from zephyr_bench.engines.packaged import locate_packaged

        return locate_packaged(model, packaged[model])
    path = Path(model).expanduser()
    if path.is_dir():
        return locate_directory(path, include=include)
    if path.exists():
        raise UserError(f"model {model}: is a file; expected a directory with config.json and {WEIGHTS}.")
    if _HUB_ID.fullmatch(model):
        return _locate_on_hub(model, include)
    if "/" in model or model.startswith((".", "~")):
        raise UserError(f"model directory {model} does not exist.")
    raise UserError(
        f"unknown model '{model}': neither a directory nor a hub id (owner/name) nor a packaged model."
        f"{did_you_mean(model, packaged)}"
    )


def locate_directory(
    path: Path, *, name: str | None = None, include: Sequence[Path] = (), base: ModelSource | None = None
) -> ModelSource:
    """A model in a directory of safetensors, or an adapter. Raises UserError that names what is missing.

    `base`: what an adapter was trained on, where that is known.
    """
    from zephyr_bench.engines.adapters import is_adapter, locate_adapter

    path = path.resolve()
    lineage = read_lineage(path)
    name = name or lineage.get("name") or path.name
    if is_adapter(path):
        return locate_adapter(path, name=name, include=include, base=base)
    _need_small_files(path)
    shards = _weight_files(path)
    return ModelSource(
        name=name,
        location=str(path),
        fingerprint=content(path, {shard: remembered_sha256(path / shard) for shard in shards}),
        lineage=lineage,
    )


def content(path: Path, weights: Mapping[str, str]) -> str:
    """Hash of a model's files: its weight files' digests and every small file that an answer depends on."""
    small = {name: remembered_sha256(path / name) for name in _SMALL_FILES if (path / name).is_file()}
    return fingerprint({"weights": dict(weights), "files": small})


def _need_small_files(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise UserError(f"model directory {path}: config.json is missing; expected what save_pretrained writes.")
    if not has_tokenizer(path):
        raise UserError(f"model directory {path}: the tokenizer is missing; expected tokenizer.json or the like.")


def has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in _TOKENIZERS)


def _weight_files(path: Path) -> list[str]:
    if (path / WEIGHTS).is_file():
        return [WEIGHTS]
    if (path / INDEX).is_file():
        shards = _shards(path / INDEX)
        absent = [shard for shard in shards if not (path / shard).is_file()]
        if absent:
            raise UserError(f"model directory {path}: weights are incomplete; {INDEX} names {absent[0]}, not there.")
        return shards
    pickled = sorted(found.name for pattern in _PICKLED for found in path.glob(pattern))
    if pickled:
        raise UserError(
            f"model directory {path}: {pickled[0]} is a pickle, which can run code when it is read; "
            f"save the weights as safetensors first."
        )
    raise UserError(f"model directory {path}: no weights; expected {WEIGHTS}, or {INDEX} with its shards.")


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{index}: malformed; expected JSON with a weight_map from tensors to files.") from None


def read_lineage(path: Path) -> dict[str, Any]:
    """The trainer's lineage.json; empty where there is none. Raises UserError for one that is malformed."""
    file = path / "lineage.json"
    if not file.is_file():
        return {}
    try:
        lineage = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: malformed JSON: {error}.") from None
    if not isinstance(lineage, dict):
        raise UserError(f"{file}: expected a JSON object, found {type(lineage).__name__}.")
    return lineage


def _locate_on_hub(repo: str, include: Sequence[Path]) -> ModelSource:
    """A hub model; where the hub is out of reach, its snapshot in the local cache."""
    from zephyr_bench.hub import cached, offline, reachable

    if reachable():
        return _ask_hub(repo, include)
    if not cached(repo):
        why = "HF_HUB_OFFLINE forbids the hub" if offline() else "the hub does not answer from here"
        raise UserError(f"model {repo}: no such directory, and {why}; go online, or pass a directory with the model.")
    from huggingface_hub import snapshot_download

    return locate_directory(Path(snapshot_download(repo, local_files_only=True)), name=repo, include=include)


def _ask_hub(repo: str, include: Sequence[Path]) -> ModelSource:
    """Fetches the small files only; weights come when an engine loads them, checked by the hub's client."""
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    from zephyr_bench.engines import adapters

    try:
        info = HfApi().model_info(repo, files_metadata=True)
        digests = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
        there = {file.rfilename for file in info.siblings or ()}
        adapter = adapters.CONFIG in there and not there & {WEIGHTS, INDEX}
        more = [adapters.CONFIG, adapters.WEIGHTS, "lineage.json"] if adapter else [INDEX]
        folder = Path(snapshot_download(repo, revision=info.sha, allow_patterns=[*_SMALL_FILES, *more]))
    except GatedRepoError:
        raise UserError(
            f"model {repo}: is gated; accept its licence on the hub and log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise UserError(f"model {repo}: neither a directory here nor a public model on the hub.") from None
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        reason = first_line(error)
        raise UserError(
            f"model {repo}: the hub refused or broke off ({reason}); try again, or pass a directory."
        ) from None
    if adapter:
        return locate_directory(folder, name=repo, include=include)
    _need_small_files(folder)
    shards = _shards(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS]
    absent = [shard for shard in shards if shard not in digests]
    if absent:
        raise UserError(f"model {repo}: the hub has no {absent[0]}; a model needs its weights as safetensors.")
    weights = {shard: digests[shard] for shard in shards}
    return ModelSource(name=repo, location=repo, fingerprint=content(folder, weights))

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

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
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
        return locate_directory(path)
    if path.exists():
        raise UserError(f"model {model}: is a file; expected a directory with config.json and {_WEIGHTS}.")
    if _HUB_ID.fullmatch(model):
        return _locate_on_hub(model)
    if "/" in model or model.startswith((".", "~")):
        raise UserError(f"model directory {model} does not exist.")
    raise UserError(
        f"unknown model '{model}': neither a directory nor a hub id (owner/name) nor a packaged model."
        f"{did_you_mean(model, packaged)}"
    )


def locate_directory(path: Path, *, name: str | None = None) -> ModelSource:
    """A model in a directory of safetensors. Raises UserError that names what is missing."""
    path = path.resolve()
    _need_small_files(path)
    shards = _weight_files(path)
    lineage = _lineage(path)
    return ModelSource(
        name=name or lineage.get("name") or path.name,
        location=str(path),
        fingerprint=_content(path, {shard: remembered_sha256(path / shard) for shard in shards}),
        lineage=lineage,
    )


def _content(path: Path, weights: Mapping[str, str]) -> str:
    """Hash of a model: its weight files' digests and every small file that an answer depends on."""
    small = {name: remembered_sha256(path / name) for name in _SMALL_FILES if (path / name).is_file()}
    return fingerprint({"weights": dict(weights), "files": small})


def _need_small_files(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise UserError(f"model directory {path}: config.json is missing; expected what save_pretrained writes.")
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise UserError(f"model directory {path}: the tokenizer is missing; expected tokenizer.json or the like.")


def _weight_files(path: Path) -> list[str]:
    if (path / _WEIGHTS).is_file():
        return [_WEIGHTS]
    if (path / _INDEX).is_file():
        shards = _shards(path / _INDEX)
        absent = [shard for shard in shards if not (path / shard).is_file()]
        if absent:
            raise UserError(f"model directory {path}: weights are incomplete; {_INDEX} names {absent[0]}, not there.")
        return shards
    pickled = sorted(found.name for pattern in _PICKLED for found in path.glob(pattern))
    if pickled:
        raise UserError(
            f"model directory {path}: {pickled[0]} is a pickle, which can run code when it is read; "
            f"save the weights as safetensors first."
        )
    raise UserError(f"model directory {path}: no weights; expected {_WEIGHTS}, or {_INDEX} with its shards.")


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{index}: malformed; expected JSON with a weight_map from tensors to files.") from None


def _lineage(path: Path) -> dict[str, Any]:
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


def _locate_on_hub(repo: str) -> ModelSource:
    """A hub model; where the hub is out of reach, its snapshot in the local cache."""
    from zephyr_bench.hub import cached, offline, reachable

    if reachable():
        return _ask_hub(repo)
    if not cached(repo):
        why = "HF_HUB_OFFLINE forbids the hub" if offline() else "the hub does not answer from here"
        raise UserError(f"model {repo}: no such directory, and {why}; go online, or pass a directory with the model.")
    from huggingface_hub import snapshot_download

    return locate_directory(Path(snapshot_download(repo, local_files_only=True)), name=repo)


def _ask_hub(repo: str) -> ModelSource:
    """Fetches the small files only; weights come when an engine loads them, checked by the hub's client."""
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(repo, files_metadata=True)
        digests = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
        folder = Path(snapshot_download(repo, revision=info.sha, allow_patterns=[*_SMALL_FILES, _INDEX]))
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
    _need_small_files(folder)
    shards = _shards(folder / _INDEX) if (folder / _INDEX).is_file() else [_WEIGHTS]
    absent = [shard for shard in shards if shard not in digests]
    if absent:
        raise UserError(f"model {repo}: the hub has no {absent[0]}; a model needs its weights as safetensors.")
    weights = {shard: digests[shard] for shard in shards}
    return ModelSource(name=repo, location=repo, fingerprint=_content(folder, weights))

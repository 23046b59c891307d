"""Finds a model by what the user typed: a packaged model's name, a directory, or a hub id.

Out: a ModelSource with the model's content fingerprint. Reads files and hashes; loads no weights and imports no torch.
A packaged model is converted the first time (packaged.py). An adapter is found with its base: it means something on the
very model that it was trained on, and nothing on another (MT-Bench fell by five points: alignment-handbook#188). That
must have the fingerprint that lineage.json tells, where there is one, and may be an adapter itself: dDPO's after dSFT.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr_bench.engines.file_hashes import remembered_sha256
from zephyr_bench.engines.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    BASE,
    INDEX,
    LINEAGE,
    SMALL_FILES,
    WEIGHTS,
    adapter_config,
    content,
    is_adapter,
    need_small_files,
    read_lineage,
    shards,
    trained_on,
    weight_files,
)
from zephyr_bench.engines.packaged import locate_packaged
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.errors import ServiceError, UserError, ZephyrBenchError, did_you_mean, first_line
from zephyr_bench.escaping import visible
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.recipe import packaged_models

_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*?)(?:@([0-9a-f]{40}))?")
_UNCHECKED = "adapter, its base not checked"
# of an adapter's config: where the base is said to be, and what changes no answer
_NO_EFFECT = {BASE, "revision", "auto_mapping", "inference_mode", "peft_version", "task_type", "lora_dropout"}


def locate(model: str, *, include: Sequence[Path] = ()) -> ModelSource:
    """The model of that name; a packaged model's name goes before a directory's. Raises UserError."""
    packaged = packaged_models(include)
    if model in packaged:
        return locate_packaged(model, packaged[model])
    path = Path(model).expanduser()
    if path.is_dir():
        return locate_directory(path, include=include)
    if path.exists():
        raise UserError(f"model {model}: is a file; expected a directory with config.json and {WEIGHTS}.")
    if _HUB_ID.fullmatch(model):
        return _locate_on_hub(*hub_place(model), include)
    if "/" in model or model.startswith((".", "~")):
        raise UserError(f"model directory {model} does not exist.")
    raise UserError(
        f"unknown model '{model}': neither a directory nor a hub id (owner/name) nor a packaged model."
        f"{did_you_mean(model, packaged)}"
    )


def hub_place(location: str) -> tuple[str, str | None]:
    """(directory or hub id, the hub's revision) of a location: `owner/name@` with the commit that was hashed."""
    found = None if Path(location).is_dir() else _HUB_ID.fullmatch(location)
    return (found[1], found[2]) if found else (location, None)


def locate_directory(
    path: Path, *, name: str | None = None, include: Sequence[Path] = (), base: ModelSource | None = None
) -> ModelSource:
    """A model in a directory of safetensors, or an adapter. Raises UserError that names what is missing.

    `base`: what an adapter was trained on, where that is known.
    """
    path = path.resolve()
    lineage = read_lineage(path)
    name = visible(name or lineage.get("name") or path.name)  # messages show it, some of them to what obeys lines
    if is_adapter(path):
        return _locate_adapter(path, name=name, include=include, base=base)
    need_small_files(path)
    return ModelSource(
        name=name,
        location=str(path),
        fingerprint=content(path, {file: remembered_sha256(path / file) for file in weight_files(path)}),
        lineage=lineage,
    )


def _locate_adapter(folder: Path, *, name: str, include: Sequence[Path], base: ModelSource | None) -> ModelSource:
    """Raises UserError where the base isn't there, is another one, or the adapter is none of ours.

    The fingerprint is of the base and the adapter; not of the base's place.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise UserError(f"adapter {folder}: {ADAPTER_WEIGHTS} is missing; expected what peft's save_pretrained writes.")
    if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
        raise UserError(f"model directory {folder}: holds an adapter and whole weights; keep one of them there.")
    config = adapter_config(folder)
    lineage = read_lineage(folder)
    below = base or base_of(folder, include=include)
    plain = {key: _in_order(value) for key, value in config.items() if value and key not in _NO_EFFECT}
    own = content(folder, {ADAPTER_WEIGHTS: remembered_sha256(folder / ADAPTER_WEIGHTS)})
    return ModelSource(
        name=name,
        location=str(folder),
        fingerprint=fingerprint({"base": below.fingerprint, "adapter": own, "config": plain}),
        lineage=lineage,
        note=below.note if trained_on(lineage) else _UNCHECKED,
    )


def base_of(folder: str | Path, *, include: Sequence[Path] = ()) -> ModelSource:
    """The base that the adapter was trained on. Raises UserError where it isn't found, or only another one.

    Looked for where adapter_config.json says, where lineage.json says, beside the adapter, and by its name. Without
    lineage.json what adapter_config.json names is taken.
    """
    folder = Path(folder).resolve()
    named = adapter_config(folder).get(BASE)
    parent = read_lineage(folder).get("parent") or {}
    wanted = trained_on({"parent": parent})
    told = [named]
    if wanted:
        location = str(parent.get("location") or "")
        told += [location, str(folder.parent / Path(location).name), parent.get("name")]
    others: list[ModelSource] = []
    failed: dict[str, ZephyrBenchError] = {}
    for place in dict.fromkeys(str(place) for place in told if place):
        if Path(place).resolve() == folder:
            continue
        try:
            found = locate(place, include=include)
        except (UserError, ServiceError) as error:
            failed[place] = error
            continue
        if wanted in (None, found.fingerprint):
            return found
        others.append(found)
    where = f"put it back, or name its place as {BASE} in {ADAPTER_CONFIG}"
    if others:
        raise UserError(
            f"adapter {folder}: was trained on {parent.get('name')} ({_short(wanted)}), and {others[0].location} is "
            f"another model ({_short(others[0].fingerprint)}); {where}."
        )
    for place, told_of_it in failed.items():
        if Path(place).is_dir():
            raise told_of_it  # it is there, and broken: an adapter that lacks its own base, say
    reason = str(next(iter(failed.values()), f"{ADAPTER_CONFIG} names none")).removesuffix(".")
    raise UserError(f"adapter {folder}: its base {parent.get('name') or named or ''} isn't found ({reason}); {where}.")


def _in_order(value: Any) -> Any:
    """peft writes sets of names in the order of the day."""
    return sorted(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _short(digest: Any) -> str:
    return str(digest)[:15] + "…"


def _locate_on_hub(repo: str, revision: str | None, include: Sequence[Path]) -> ModelSource:
    """A hub model; where the hub is out of reach, its snapshot in the local cache."""
    from zephyr_bench.hub import cached, offline, reachable

    if reachable():
        return _ask_hub(repo, revision, include)
    if not cached(repo):
        why = "HF_HUB_OFFLINE forbids the hub" if offline() else "the hub does not answer from here"
        raise UserError(f"model {repo}: no such directory, and {why}; go online, or pass a directory with the model.")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except OSError:  # LocalEntryNotFoundError is one
        raise UserError(
            f"model {repo}: its revision {revision or 'main'} is not in the local cache; go online."
        ) from None
    return locate_directory(folder, name=repo, include=include)


def _is_theirs(error: Exception) -> bool:
    """Whether the hub failed, or the way to it; not what was asked of it, or a disk here."""
    import httpx
    from huggingface_hub.errors import LocalEntryNotFoundError

    response = getattr(error, "response", None)
    if response is not None:
        return bool(response.status_code >= 500)
    return isinstance(error, (httpx.HTTPError, LocalEntryNotFoundError))


def _ask_hub(repo: str, revision: str | None, include: Sequence[Path]) -> ModelSource:
    """Fetches the small files only; weights come when an engine loads that revision, checked by the hub's client.

    Raises UserError, and ServiceError where the hub fails.
    """
    import httpx
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        digests = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
        there = {file.rfilename for file in info.siblings or ()}
        adapter = ADAPTER_CONFIG in there and not there & {WEIGHTS, INDEX}
        more = [ADAPTER_CONFIG, ADAPTER_WEIGHTS, LINEAGE] if adapter else [INDEX]
        wanted = [*SMALL_FILES, *more]
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=wanted)
        )  # the cache notes what is newest
        if folder.name != info.sha:  # pushed meanwhile
            folder = Path(snapshot_download(repo, revision=info.sha, allow_patterns=wanted))
    except GatedRepoError:
        raise UserError(
            f"model {repo}: is gated; accept its licence on the hub and log in with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise UserError(f"model {repo}: neither a directory here nor a public model on the hub.") from None
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        reason = first_line(error)
        kind = ServiceError if _is_theirs(error) else UserError
        raise kind(f"model {repo}: the hub refused or broke off ({reason}); try again, or pass a directory.") from None
    if adapter:
        return locate_directory(folder, name=repo, include=include)
    need_small_files(folder)
    files = shards(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS]
    absent = [file for file in files if file not in digests]
    if absent:
        raise UserError(f"model {repo}: the hub has no {absent[0]}; a model needs its weights as safetensors.")
    return ModelSource(
        name=repo,
        location=f"{repo}@{info.sha}",
        fingerprint=content(folder, {file: digests[file] for file in files}),
    )

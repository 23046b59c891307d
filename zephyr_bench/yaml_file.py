"""Read YAML and JSON lines at the door: values checked by pydantic, errors that name file, line and key.

Knows nothing of what the files are for.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from zephyr_bench.errors import UserError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built with it, ten times as fast


def load_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """The mapping in a YAML file, and the line (1-based) of each key. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read as UTF-8 text: {error}.") from None
    try:
        node = yaml.compose(text, Loader=_LOADER)
        value = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{line}: malformed YAML: {problem}.") from None
    except (ValueError, RecursionError) as error:  # a date that is none, or nesting without end
        raise UserError(f"{path}: malformed YAML: {error}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} line 1: expected a mapping of keys to values, found {type(value).__name__}.")
    lines: dict[Location, int] = {}
    try:
        _note_lines(node, (), lines, path)
    except RecursionError:
        raise UserError(f"{path}: a YAML alias stands inside what it names, or nesting is too deep.") from None
    return value, lines


def _note_lines(node: Any, where: Location, lines: dict[Location, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            name = key.value
            if name in seen:
                raise UserError(f"{path} line {key.start_mark.line + 1}: key '{name}' stands twice.")
            seen.add(name)
            lines[(*where, name)] = key.start_mark.line + 1
            _note_lines(child, (*where, name), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*where, index)] = child.start_mark.line + 1
            _note_lines(child, (*where, index), lines, path)


def check_mapping(model: type[Model], value: Mapping[str, Any], lines: Mapping[Location, int], source: str) -> Model:
    """`value` as a pydantic model. Raises UserError naming `source`, line and key of the first mistake."""
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        raise UserError(explain(error, model, lines, source)) from None


def explain(error: ValidationError, model: type[BaseModel], lines: Mapping[Location, int], source: str) -> str:
    """One sentence for the first mistake pydantic found."""
    # a misspelt key is unknown and missing at once; the first tells more
    first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    where = tuple(part for part in first["loc"] if not _is_union_tag(part, lines, first["loc"]))
    line = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)
    place = f"{source} line {line}" if line else source
    parent = ".".join(str(part) for part in where[:-1])
    inside = f" in {parent}" if parent else ""
    key = where[-1] if where else ""
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, where[:-1])
        return f"{place}: unknown key '{key}'{inside}.{did_you_mean(str(key), known)}{more}"
    if first["type"] == "missing":
        return f"{place}: key '{key}' is missing{inside}.{more}"
    secret = "password" in first["msg"]
    found = "" if secret or isinstance(first["input"], dict | list) else f", found {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    full = ".".join(str(part) for part in where)
    return f"{place}: {full + ': ' if full else ''}{message}{found}.{more}"


def lines_below(lines: Mapping[Location, int], *where: str | int) -> dict[Location, int]:
    """The lines of the keys in the mapping that stands at `where`."""
    depth = len(where)
    return {key[depth:]: line for key, line in lines.items() if len(key) > depth and key[:depth] == where}


def _is_union_tag(part: str | int, lines: Mapping[Location, int], loc: Location) -> bool:
    """pydantic puts a union's tag into the location; the file has no such key."""
    if not lines or not isinstance(part, str):
        return False
    return part != loc[-1] and not any(part in key for key in lines)


def _fields_at(model: type[BaseModel], where: Location) -> list[str]:
    """Names of the fields of the nested model at `where`."""
    current: Any = model
    for part in where:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = next(iter(_models_in(field.annotation)), None)
    return list(getattr(current, "model_fields", {}))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)


def load_model(path: Path, model: type[Model]) -> Model:
    """A YAML file as a pydantic model. Raises UserError naming file, line and key."""
    value, lines = load_yaml(path)
    return check_mapping(model, value, lines, str(path))


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank. Raises UserError naming the line."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}.") from None
    with file:
        yield from objects_of((line for chunk in file for line in chunk.splitlines()), path)


def objects_of(
    lines: Iterable[bytes], path: Path, *, parse: Callable[[str], Any] = json.loads
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line of a file that is not blank. Raises UserError naming file and line.

    `parse` may refuse what it reads with a ValueError.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, object_in(line, path, number, parse=parse)


def object_in(line: bytes, path: Path, number: int, *, parse: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    """What stands in that line of a file. Raises UserError naming file and line."""
    try:
        row = parse(line.decode())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} line {number}: malformed JSON: {error.msg} at column {error.colno}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} line {number}: is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:  # a number that is none or too long, nesting without end
        raise UserError(f"{path} line {number}: malformed JSON: {error}.") from None
    if not isinstance(row, dict):
        raise UserError(f"{path} line {number}: expected a JSON object, found {type(row).__name__}.")
    return row


def read_jsonl_as(path: Path, model: type[Model]) -> Iterator[tuple[int, Model]]:
    """(line number, checked object) of each line. Raises UserError naming file, line and key."""
    for number, row in read_jsonl(path):
        try:
            yield number, model.model_validate(row)
        except ValidationError as error:
            raise UserError(explain(error, model, {}, f"{path} line {number}")) from None

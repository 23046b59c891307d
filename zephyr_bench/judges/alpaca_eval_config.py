"""An evaluator config of alpaca_eval (0.6.6, annotators/base.py): its YAML and its prompt template, checked.

In: a file in that format, one that the installed package ships or a user's own. Out: an Annotator; what its
`completions_kwargs` mean is said by alpaca_eval_calls.py. The package is found, and never imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from zephyr_bench.errors import UserError
from zephyr_bench.judges.alpaca_eval_parsers import Parser, parser_of
from zephyr_bench.judges.alpaca_eval_prompt import names_in
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import Entry
from zephyr_bench.yaml_file import Location, check_mapping, lines_below, load_yaml

_MARKS = {"prompt_template", "fn_completions"}  # by which a file in alpaca_eval's format is known


class AnnotatorConfig(Entry):
    """The keys of one annotator; where one is left out, what alpaca_eval takes in its place."""

    prompt_template: str  # a file, relative to the folder above the config's
    fn_completions: str = "openai_completions"
    completions_kwargs: dict[str, Any] = Field(default_factory=dict)
    fn_completion_parser: str = "regex_parser"
    completion_parser_kwargs: dict[str, Any] = Field(default_factory=dict)
    completion_key: Literal["completions", "completions_all"] = "completions"  # the text, or the API's whole choice
    is_randomize_output_order: bool = True
    random_seed_column: tuple[Literal["instruction"]] = ("instruction",)
    batch_size: int = 1
    processors_to_kwargs: dict[Literal["ChainOfThoughtProcessor", "JsonKeysToColumnProcessor"], Any] = Field(
        default_factory=dict
    )  # they copy parts of the reply to columns of their own; no verdict hangs on that

    # no verdict hangs on these either
    is_shuffle: bool = True
    is_add_default_processors: bool = True
    packages_for_which_to_show_version: Any = None
    prfx_to_completion_cols: str | None = None
    pretty_name: str | None = None
    link: str | None = None

    @field_validator("completions_kwargs", "completion_parser_kwargs", "processors_to_kwargs", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("batch_size")
    @classmethod
    def _one_a_prompt(cls, value: int) -> int:
        if value != 1:
            raise ValueError("several comparisons in one prompt are not supported; set it to 1 with a prompt for one")
        return value


@dataclass(frozen=True)
class Annotator:
    """`lines` are those of the keys of `config` in the file `path`."""

    name: str
    config: AnnotatorConfig
    parser: Parser
    path: Path
    lines: Mapping[Location, int]

    def place(self, *where: str) -> str:
        line = self.lines.get(where)
        return f"{self.path} line {line}" if line else str(self.path)

    def template(self, sha256: str | None) -> str:
        """Checked by its hash where that is given. Raises UserError.

        Where alpaca_eval looks, or else beside the config: for a config that came without its folder.
        """
        named, folder = self.config.prompt_template, self.path.resolve().parent
        path = next((one for one in (folder.parent / named, folder / named) if one.is_file()), None)
        if path is None:
            raise UserError(
                f"{self.place('prompt_template')}: prompt_template {named!r} is no file relative to "
                f"{folder.parent} or {folder}."
            )
        try:
            text = PublishedFile(file=path, sha256=sha256).locate(folder).read_text(encoding="utf-8")
            names_in(text)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: can't be read as UTF-8 text: {error}.") from None
        except ValueError as error:
            raise UserError(f"{path}: {error}.") from None
        return text


def shipped_configs() -> dict[str, Path]:
    """Name -> file of the configs in the installed package; of none where it is not installed."""
    spec = importlib.util.find_spec("alpaca_eval")
    folders = spec.submodule_search_locations if spec else None
    files = sorted((Path(folders[0]) / "evaluators_configs").glob("*/config*.yaml")) if folders else []
    return {path.parent.name: path for path in files if path.stem in ("config", "configs")}


def is_annotator_file(content: Mapping[str, Any]) -> bool:
    """The content of a YAML: annotators by name, and nothing else."""
    return bool(content) and all(isinstance(one, dict) and one.keys() >= _MARKS for one in content.values())


def read_annotator(path: Path) -> Annotator:
    """The one annotator of a file. Raises UserError naming file, line and key."""
    content, lines = load_yaml(path)
    if not is_annotator_file(content):
        raise UserError(
            f"{path}: is no evaluator config of alpaca_eval; expected a name with {' and '.join(sorted(_MARKS))} below."
        )
    if len(content) > 1:
        raise UserError(
            f"{path}: holds {len(content)} annotators ({', '.join(map(str, content))}), and drawing one for each "
            f"instruction is not supported; put the one you want into a file of its own."
        )
    ((name, value),) = content.items()
    below = lines_below(lines, str(name))
    config = check_mapping(AnnotatorConfig, value, below, str(path))
    parser = parser_of(
        config.fn_completion_parser,
        config.completion_parser_kwargs,
        lines=lines_below(below, "completion_parser_kwargs"),
        source=str(path),
    )
    annotator = Annotator(str(name), config, parser, path, below)
    if parser.reads_tokens != (config.completion_key == "completions_all"):
        raise UserError(
            f"{annotator.place('completion_key')}: {config.fn_completion_parser} reads completion_key "
            f"{'completions_all' if parser.reads_tokens else 'completions'}, found {config.completion_key}."
        )
    return annotator

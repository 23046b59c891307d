"""Judges by name: the catalogue's YAML, joined to the class of its kind (ours or a plug-in's)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zephyr_bench import catalogue
from zephyr_bench.judges.alpaca_eval_config import is_annotator_file, shipped_configs
from zephyr_bench.judges.protocol import Judge, JudgeOptions
from zephyr_bench.plug_in import class_of
from zephyr_bench.yaml_file import check_mapping, load_yaml

__all__ = ["Judge", "JudgeOptions", "open_judge"]

_BUILT_IN = {
    "alpaca-eval": "zephyr_bench.judges.alpaca_eval_judge:AlpacaEvalJudge",
    "anthropic": "zephyr_bench.judges.anthropic_judge:AnthropicJudge",
    "jury": "zephyr_bench.judges.jury:JuryJudge",
    "openai": "zephyr_bench.judges.openai_judge:OpenAiJudge",
    "recorded": "zephyr_bench.judges.recorded:RecordedJudge",
    "reward-model": "zephyr_bench.judges.reward_model:RewardModelJudge",
    "rubric": "zephyr_bench.judges.rubric:RubricJudge",
    "transformers": "zephyr_bench.judges.local_judge:LocalJudge",
    "vllm": "zephyr_bench.judges.local_judge:LocalJudge",
}


def open_judge(name: str, *, include: Sequence[Path] = (), options: JudgeOptions | None = None) -> Judge:
    """The judge of that name (or YAML path), with what the user says beside the YAML.

    An evaluator config of alpaca_eval is a judge too: by its name in the installed package, its file or its folder.
    Raises UserError for an unknown name or kind, or a YAML that doesn't fit.
    """
    path = _file_of(name, include)
    called = path.stem
    value, lines = load_yaml(path)
    if is_annotator_file(value):
        called, value = str(next(iter(value))), {"kind": "alpaca-eval", "config": {"file": path.name}}
    place = f"{path} line {lines.get(('kind',), 1)}"
    kind = class_of(value.get("kind"), built_in=_BUILT_IN, group="zephyr_bench.judges", place=place)
    spec = check_mapping(kind.Spec, value, lines, str(path))
    judge: Judge = kind(spec, name=called, folder=path.parent, options=options or JudgeOptions())
    return judge


def _file_of(name: str, include: Sequence[Path]) -> Path:
    in_folder = Path(name) / "configs.yaml"
    if name not in catalogue.entries("judge", include) and in_folder.is_file():
        return in_folder
    return catalogue.find("judge", name, include, also=shipped_configs())

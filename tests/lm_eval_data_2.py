"""Every data set of Open LLM Leaderboard 2 in the hub's layout, a few rows each, the columns lm-eval 0.4.13 reads.

IFEval's rows are lm_eval_data.py's. MATH's rows have answers of which some are 4: terse_model.py says nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_data import ifeval_rows

Row = dict[str, Any]
Splits = Mapping[str, Sequence[Row]]

# BBH's subtasks: what there is to choose from, or how many lettered options
_CHOICES: dict[str, list[str] | int] = {
    "boolean_expressions": ["False", "True"],
    "causal_judgement": ["Yes", "No"],
    "date_understanding": 6,
    "disambiguation_qa": 3,
    "formal_fallacies": ["valid", "invalid"],
    "geometric_shapes": 11,
    "hyperbaton": 2,
    "logical_deduction_five_objects": 5,
    "logical_deduction_seven_objects": 7,
    "logical_deduction_three_objects": 3,
    "movie_recommendation": 6,
    "navigate": ["Yes", "No"],
    "object_counting": [str(number) for number in range(19)],
    "penguins_in_a_table": 5,
    "reasoning_about_colored_objects": 18,
    "ruin_names": 6,
    "salient_translation_error_detection": 6,
    "snarks": 2,
    "sports_understanding": ["yes", "no"],
    "temporal_sequences": 4,
    "tracking_shuffled_objects_five_objects": 5,
    "tracking_shuffled_objects_seven_objects": 7,
    "tracking_shuffled_objects_three_objects": 3,
    "web_of_lies": ["Yes", "No"],
}
MATHS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
GPQA = ("gpqa_diamond", "gpqa_extended", "gpqa_main")
MUSR = {
    "murder_mysteries": ["the gardener", "the cook"],
    "object_placements": ["the shelf", "the drawer", "the attic", "the car", "the hall"],
    "team_allocation": ["Ada paints and Ben plays", "Ben paints and Ada plays", "Both of them paint"],
}
_THINGS = ["a lamp", "a violin", "a wheel", "a map", "a kettle", "a rope", "a bell", "a coin", "a mirror", "a broom"]


def write_data_2(folder: Path) -> Path:
    """All six, `FOLDER/owner/name/` each."""
    write_hub_layout(folder / "wis-k/instruction-following-eval", {"default": {"train": ifeval_rows()}})
    write_hub_layout(folder / "SaylorTwift/bbh", {name: {"test": _bbh(name)} for name in _CHOICES})
    write_hub_layout(folder / "DigitalLearningGmbH/MATH-lighteval", {name: _maths(name) for name in MATHS})
    write_hub_layout(folder / "Idavidrein/gpqa", {name: {"train": _gpqa(name)} for name in GPQA})
    write_hub_layout(folder / "TAUR-Lab/MuSR", {"default": {name: _musr(name) for name in MUSR}})
    mmlu_pro = {"test": [_mmlu_pro(n) for n in range(4)], "validation": [_mmlu_pro(n) for n in range(10, 15)]}
    write_hub_layout(folder / "TIGER-Lab/MMLU-Pro", {"default": mmlu_pro})
    return folder


def write_hub_layout(folder: Path, configs: Mapping[str, Splits]) -> None:
    """A README whose front matter names configs, splits and files, and the files."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            file = folder / config / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            lines += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def _bbh(name: str) -> list[Row]:
    found = _CHOICES[name]
    choices = [f"({chr(65 + n)})" for n in range(found)] if isinstance(found, int) else found
    shown = [f"{choice} {thing(n)}" for n, choice in enumerate(choices)] if isinstance(found, int) else choices
    options = "\n".join(shown)
    return [
        {
            "input": f"Row {row} of {name}: {thing(row)} stands in the yard. Which is it?\nOptions:\n{options}",
            "target": choices[(3 * row + len(name)) % len(choices)],
        }
        for row in range(4)
    ]


def _maths(subject: str) -> dict[str, list[Row]]:
    """Of four test rows two are of level 5."""
    levels = ["Level 5", "Level 3", "Level 5", "Level 1"]
    first = len(subject) % 3  # in some subjects the first row's answer is 4, in others the second's, or neither's
    test = [_sum(subject, level, 4 - first + row // 2) for row, level in enumerate(levels)]
    return {"train": [_sum(subject, "Level 5", 9)], "test": test}


def _sum(subject: str, level: str, whole: int) -> Row:
    return {
        "problem": f"In {subject}, what is $1 + {whole - 1}$?",
        "level": level,
        "type": subject.replace("_", " ").title(),
        "solution": f"We add the two and find $\\boxed{{{whole}}}$.",
    }


def _gpqa(name: str) -> list[Row]:
    return [
        {
            "Question": f"By {name}, what floats on water, of the kind number {row}?",
            "Correct Answer": f"{thing(row)} of cork",
            "Incorrect Answer 1": f"{thing(row + 1)} of iron ",
            "Incorrect Answer 2": f"{thing(row + 2)} of stone [title] or sand",
            "Incorrect Answer 3": f"{thing(row + 3)} of  lead [see below]",
            "Record ID": f"{name}-{row}",
        }
        for row in range(4)
    ]


def _musr(split: str) -> list[Row]:
    choices = MUSR[split]
    return [
        {
            "narrative": f"It rained at the house. {thing(row).capitalize()} was gone, and nobody spoke. ({row})",
            "question": "What is the likeliest?",
            "choices": repr(choices),  # a list as Python writes it
            "answer_index": row % len(choices),
            "answer_choice": choices[row % len(choices)],
        }
        for row in range(4)
    ]


def _mmlu_pro(number: int) -> Row:
    """Of up to ten options; some rows have fewer, as there."""
    options = [f"{_THINGS[(number + n) % 10]}" for n in range(10 - number % 3)]
    right = number * 3 % len(options)
    return {
        "question_id": number,
        "question": f"Which of these is the heaviest, by list {number}?",
        "options": options,
        "answer": chr(65 + right),
        "answer_index": right,
        "cot_content": "",
        "category": "physics",
        "src": "ours",
    }


def thing(number: int) -> str:
    return _THINGS[number % len(_THINGS)]

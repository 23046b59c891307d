"""Rows of our own for lm-eval's tasks, in the hub's layout, so that its definitions load them unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# prompts with one to three instructions; one asks for sentences and one for words in capitals, which punkt_tab splits
IFEVAL = [
    ("Write about the sea. No commas.", {"punctuation:no_comma": {}}),
    (
        "Write about hills in lower case, and say 'green' twice or more.",
        {
            "change_case:english_lowercase": {},
            "keywords:frequency": {"relation": "at least", "keyword": "green", "frequency": 2},
        },
    ),
    (
        "Answer in at least three sentences, without commas, and end with a postscript P.S.",
        {
            "length_constraints:number_sentences": {"relation": "at least", "num_sentences": 3},
            "punctuation:no_comma": {},
            "detectable_content:postscript": {"postscript_marker": "P.S."},
        },
    ),
    (
        "Shout at least two words.",
        {"change_case:capital_word_frequency": {"capital_relation": "at least", "capital_frequency": 2}},
    ),
    ("Give a title in double angular brackets.", {"detectable_format:title": {}}),
    ("Reply in German only.", {"language:response_language": {"language": "de"}}),
]


def ifeval_rows() -> list[dict[str, Any]]:
    names = sorted({name for _, instructions in IFEVAL for options in instructions.values() for name in options})
    return [
        {
            "key": number,
            "prompt": prompt,
            "instruction_id_list": list(instructions),
            "kwargs": [{name: options.get(name) for name in names} for options in instructions.values()],
        }
        for number, (prompt, instructions) in enumerate(IFEVAL)
    ]


def write_data(folder: Path) -> Path:
    """IFEval under both its names, and GSM8K with seven rows to learn from and four to answer."""
    for name in ("google/IFEval", "wis-k/instruction-following-eval"):
        _write(folder / name, "default", {"train": ifeval_rows()})
    train = [_sum(number, number + 1) for number in range(7)]
    test = [_sum(number, 3 * number) for number in range(10, 14)]
    _write(folder / "openai/gsm8k", "main", {"train": train, "test": test})
    return folder


def _sum(one: int, other: int) -> dict[str, str]:
    whole = one + other
    return {
        "question": f"A shelf holds {one} books and a box {other}. How many books are there?",
        "answer": f"There are {one} + {other} = {whole} books.\n#### {whole}",
    }


def _write(folder: Path, config: str, splits: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    folder.mkdir(parents=True)
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        lines += [f"  - split: {split}", f"    path: {split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")

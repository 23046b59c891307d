"""AlpacaEval's files, made up: a data set in the hub's layout, as `fetch alpaca-eval` leaves it."""

from __future__ import annotations

import json
from pathlib import Path

from gamed_file import write_gamed_file

DATA_SET = Path("tatsu-lab", "alpaca_eval")
BASELINES = {"alpaca_eval.json": "text_davinci_003", "alpaca_eval_gpt4_baseline.json": "gpt4_1106_preview"}


def instructions(count: int) -> list[str]:
    return [f"Say in a word what colour thing {number} has." for number in range(count)]


def write_data(folder: Path, count: int = 12) -> Path:
    """`folder`, with instructions, both versions' baseline outputs and rows of gamed models."""
    place = folder / DATA_SET
    place.mkdir(parents=True, exist_ok=True)
    for name, baseline in BASELINES.items():
        rows = [
            {
                "instruction": text,
                "output": f"{baseline} says blue. " * (1 + n % 5),
                "generator": baseline,
                "dataset": "d",
            }
            for n, text in enumerate(instructions(count))
        ]
        (place / name).write_text(json.dumps(rows))
    write_gamed_file(place / "df_gamed.csv", instructions=count)
    return folder

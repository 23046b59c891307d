"""A file like AlpacaEval 2's df_gamed.csv, which can't be had offline: a brief and a verbose baseline, made up."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

COLUMNS = ("model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")


def write_gamed_file(path: Path, *, instructions: int = 805, seed: int = 0) -> Path:
    """Each model's rows in a block, index 0 to instructions - 1; preferences in (0, 1) that follow length."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1.5, instructions)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for model, shift in (("baseline_concise", 1.0), ("baseline_verbose", -1.0)):
            lengths = rng.normal(shift, 1, instructions)
            preferences = 1 / (1 + np.exp(0.8 * np.tanh(lengths) - 0.3 * difficulty))
            for index, row in enumerate(zip(preferences, lengths, difficulty, strict=True)):
                preference, length, hard = map(float, row)
                writer.writerow([model, preference, index, length, hard, False])
    return path

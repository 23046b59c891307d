"""Rows and settings of tiny training runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIALOGUES = [
    {"messages": [{"role": "user", "content": f"Say {word}."}, {"role": "assistant", "content": f"{word}!"}]}
    for word in ("red", "green", "blue", "yellow", "black", "white")
]
PAIRS = [
    {
        "prompt": f"Name colour {number}.",
        "chosen": [
            {"role": "user", "content": f"Name colour {number}."},
            {"role": "assistant", "content": f"Blue {number}."},
        ],
        "rejected": [
            {"role": "user", "content": f"Name colour {number}."},
            {"role": "assistant", "content": "I am not at all sure which colour is meant."},
        ],
    }
    for number in range(6)
]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


DSFT = {"data": [{"file": "dialogues.jsonl"}], "learning_rate": 1e-3, "global_batch": 4, "epochs": 2}
DDPO = {"data": [{"file": "pairs.jsonl"}], "learning_rate": 1e-3, "global_batch": 4, "epochs": 2, "beta": 0.1}

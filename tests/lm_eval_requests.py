"""Requests of lm-eval's own tasks, in the leaderboards' shots: what scoring is compared and timed by.

Real rows lie in ../shared/data/open_llm, in the hub's layout. HellaSwag is not among them: its rows are made of ours,
joined to HellaSwag's lengths (a context of some 55 tokens, four endings of some 25).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_bench.benchmarks import lm_eval_run, open_benchmark
from zephyr_bench.benchmarks.open_llm import OpenLlm

REAL = Path(__file__).parents[2] / "shared" / "data" / "open_llm"
_OWN_HELLASWAG = Path(__file__).parents[1] / "benchmarks" / "open-llm-mini" / "Rowan" / "hellaswag" / "data"


@dataclass(frozen=True)
class Shape:
    """One task of lm-eval's in a number of shots, and so many of its questions; `target`: ours over lm-eval's speed."""

    name: str
    suite: str
    task: str
    shots: int
    questions: int
    target: float


SHAPES = (
    Shape("mmlu-5", "open-llm-1", "mmlu_high_school_biology", 5, 32, 6.0),
    Shape("hellaswag-10", "open-llm-1", "hellaswag", 10, 4, 4.0),
    Shape("arc-25", "open-llm-1", "arc_challenge", 25, 4, 4.0),
    Shape("truthfulqa-0", "open-llm-1", "truthfulqa_mc2", 0, 6, 5.0),
    Shape("winogrande-5", "open-llm-1", "winogrande", 5, 16, 1.8),
    Shape("bbh-3", "open-llm-2", "leaderboard_bbh_date_understanding", 3, 6, 3.0),
)


def requests_of(shape: Shape, own: Path) -> list[Any]:
    """lm-eval's Instances; `own` holds HellaSwag's rows."""
    data = own if shape.task == "hellaswag" else REAL
    benchmark = open_benchmark(shape.suite, data=data, tasks=[shape.task])
    assert isinstance(benchmark, OpenLlm)
    leaves = [(leaf, shape.shots) for (task,) in [benchmark.tasks] for leaf in benchmark._leaves[task.task]]
    ((task,),) = [list(lm_eval_run.loaded(leaves, name=shape.name, place=benchmark._place)["tasks"].values())]
    task.build_all_requests(limit=shape.questions, rank=0, world_size=1)
    return list(task.instances)


def write_hellaswag(folder: Path) -> None:
    """In the hub's layout: 40 rows to learn from and 40 to answer."""
    rows = [json.loads(line) for path in sorted(_OWN_HELLASWAG.glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    place = folder / "Rowan" / "hellaswag"
    place.mkdir(parents=True)
    (place / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: train.jsonl\n  - split: validation\n    path: validation.jsonl\n---\n",
        encoding="utf-8",
    )
    for split, first in (("train", 1), ("validation", 2)):
        lines = (json.dumps(_joined(rows, number, first)) for number in range(40))
        (place / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _joined(rows: Sequence[dict[str, Any]], number: int, step: int) -> dict[str, Any]:
    """A row with the contexts and endings of others before its own."""
    some = [rows[(number + step * further) % len(rows)] for further in range(3)]
    told = " ".join(row["ctx"] for row in some)
    endings = [" ".join(row["endings"][choice] for row in some[:2]) for choice in range(4)]
    return {**some[0], "ctx": told, "ctx_a": told, "ctx_b": "", "endings": endings, "ind": number}

"""lm-eval's files, made as its releases write them; what a store has of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from zephyr_bench.interop.lm_eval_import import ImportedScores, store_runs
from zephyr_bench.interop.lm_eval_plan import plan_runs
from zephyr_bench.interop.lm_eval_suites import find_suites
from zephyr_bench.store import Store

Row = dict[str, Any]
SHOTS = {"arc_challenge": 25, "hellaswag": 10, "truthfulqa_mc2": 0, "winogrande": 5, "gsm8k": 5}
METRICS = {"arc_challenge": "acc_norm", "hellaswag": "acc_norm"}  # else acc
TIME = "2026-09-21T14-13-20.250000"  # as names have it
OTHERS_OF_VERSION_1 = ("arc_challenge", "hellaswag", "truthfulqa_mc2", "winogrande")


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def scored_row(number: int, values: Mapping[str, Any], *, filter: str | None = "none", task: str = "t") -> Row:
    """Of a task that scores given texts."""
    row: Row = {
        "doc_id": number,
        "doc": {"question": f"{task} {number}"},
        "target": "0",
        "arguments": {
            "gen_args_0": {"arg_0": f"{task} {number}", "arg_1": " yes"},
            "gen_args_1": {"arg_0": f"{task} {number}", "arg_1": " no"},
        },
        "resps": [[["-1.5", "False"]], [["-2.5", "False"]]],
        "filtered_resps": [["-1.5", "False"], ["-2.5", "False"]],
    }
    if filter is not None:
        row |= {"filter": filter, "metrics": list(values), **hashes(task, number)}
    return {**row, **values}


def written_row(number: int, text: str, values: Mapping[str, Any], *, filter: str = "none", task: str = "t") -> Row:
    """Of a task that reads a text."""
    return {
        "doc_id": number,
        "doc": {"question": f"{task} {number}"},
        "target": "42",
        "arguments": {"gen_args_0": {"arg_0": f"Question: {task} {number}\nAnswer:", "arg_1": {"until": ["\n"]}}},
        "resps": [[text]],
        "filtered_resps": [text[:2]],
        "filter": filter,
        "metrics": list(values),
        **hashes(task, number),
        **values,
    }


def hashes(task: str, number: int) -> Row:
    return {f"{what}_hash": digest(f"{what} {task} {number}") for what in ("doc", "prompt", "target")}


def rows(task: str, *values: Any) -> list[Row]:
    metric = METRICS.get(task, "acc")
    return [scored_row(number, {"acc": 0.5, metric: value}, task=task) for number, value in enumerate(values)]


def gsm8k_rows(*strict: float) -> list[Row]:
    """Under both filters, one after the other; the second is always right."""
    both = {"strict-match": strict, "flexible-extract": (1.0,) * len(strict)}
    return [
        written_row(number, f"#### {number}", {"exact_match": value}, filter=name, task="gsm8k")
        for name, values in both.items()
        for number, value in enumerate(values)
    ]


def ifeval_rows(*followed: Sequence[bool]) -> list[Row]:
    """Of each prompt, which instructions were followed."""
    return [
        written_row(
            number,
            "a text",
            {
                "prompt_level_strict_acc": all(parts),
                "inst_level_strict_acc": list(parts),
                "prompt_level_loose_acc": True,
                "inst_level_loose_acc": [True for _ in parts],
            },
            task="leaderboard_ifeval",
        )
        for number, parts in enumerate(followed)
    ]


def results(samples: Mapping[str, Sequence[Row]], *, model: str = "org/m", **other: Any) -> Row:
    """Of 0.4.13, over these rows. `other` replaces fields."""
    tasks = {task: _figures(task, found) for task, found in samples.items()}
    shots = {task: SHOTS.get(task, 5 if task.startswith("mmlu_") else 0) for task in samples}
    found = {
        "results": tasks,
        "group_subtasks": {},
        "configs": {task: {"task": task, "num_fewshot": shots[task]} for task in samples},
        "versions": dict.fromkeys(samples, 1.0),
        "n-shot": shots,
        "higher_is_better": {task: dict.fromkeys(told[0]["metrics"], True) for task, told in samples.items()},
        "n-samples": {task: dict.fromkeys(("original", "effective"), _rows(told)) for task, told in samples.items()},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": model, "dtype": "bfloat16"},
            "batch_size": 1,
            "limit": None,
            "gen_kwargs": None,
            "fewshot_seed": 1234,
        },
        "git_hash": "abc",
        "date": 1790000000.25,
        "pretty_env_info": "a machine",
        "transformers_version": "5.23.0",
        "lm_eval_version": "0.4.13",
        "task_hashes": {task: task_hash(told) for task, told in samples.items()},
        "model_source": "hf",
        "model_name": model,
        "model_name_sanitized": model.replace("/", "__"),
        "system_instruction": None,
        "fewshot_as_multiturn": True,
        "chat_template": None,
    }
    return {**found, **other}


def task_hash(told: Sequence[Row]) -> str:
    return digest("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in told))


def _rows(told: Sequence[Row]) -> int:
    return len({row["doc_id"] for row in told})


def _figures(task: str, told: Sequence[Row]) -> Row:
    found: Row = {"name": task, "alias": task, "sample_len": _rows(told)}
    for row in told:
        for metric in row["metrics"]:
            values = [other[metric] for other in told if other["filter"] == row["filter"]]
            flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
            found[f"{metric},{row['filter']}"] = sum(flat) / len(flat)
            found[f"{metric}_stderr,{row['filter']}"] = "N/A" if isinstance(values[0], list) else 0.01
    return found


def old_results(tasks: Mapping[str, Mapping[str, float]], *, shots: int, model: str = "org/m") -> Row:
    """Of 0.3."""
    return {
        "results": {task: dict(told) for task, told in tasks.items()},
        "versions": dict.fromkeys(tasks, 0),
        "config": {
            "model": "hf-causal-experimental",
            "model_args": f"pretrained={model},use_accelerate=True",
            "num_fewshot": shots,
            "batch_size": "2",
            "device": None,
            "no_cache": True,
            "limit": None,
            "bootstrap_iters": 100000,
            "description_dict": {},
        },
    }


def write(path: Path, content: Any) -> Path:
    """An object as results, rows as lines, a text as it is; gzipped by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = isinstance(content, list)
    text = "".join(f"{json.dumps(row)}\n" for row in content) if lines else json.dumps(content, indent=2)
    text = content if isinstance(content, str) else text
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_all(folder: Path, samples: Mapping[str, Sequence[Row]], *, time: str = TIME, **other: Any) -> list[Path]:
    """Results and samples as lm-eval names them."""
    return [
        write(folder / f"results_{time}.json", results(samples, **other)),
        *(write(folder / f"samples_{task}_{time}.jsonl", list(told)) for task, told in samples.items()),
    ]


def put(store: Store, *paths: Path, benchmark: str | None = None, model: str | None = None) -> list[ImportedScores]:
    return store_runs(store, plan_runs(paths, find_suites(benchmark=benchmark), model=model))


def scores(store: Store, run: str) -> dict[str, float | None]:
    return {score.metric: score.value for score in store.scores_of([run])[run]}


def reasons(store: Store, run: str) -> dict[str, str | None]:
    """Why the run lacks scores."""
    return {sample.metric: sample.reason for sample in store.samples_of(run) if not sample.question}

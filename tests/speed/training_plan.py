"""What `--dry-run` says of a training's memory and time, against what it takes: dSFT and dDPO of the embedded model.

    .venv/bin/python tests/speed/training_plan.py [--json]

Each stage of a small recipe is planned, then trained in a process of its own. The ratio is the smaller of plan and
measured over the larger: 1 where the plan is right, 0.8 where it is a fifth off. Memory is what the process holds at
most, above what it holds with torch imported and no model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ratio_row import HEAD, Row
from training_batches import write_pairs
from training_memory import forget_peak, resident

TARGET = 0.8
RECIPE = """\
description: two stages, to be planned and measured
model: smollm2-135m-instruct
chat_template: {trainers}/templates/chatml.jinja
architecture:
  {{layers: 30, width: 576, attention_width: 576, kv_width: 192, feed_forward: 1536, vocabulary: 49152, tied: true}}
{stage}
"""
STAGES = {
    "dsft": """dsft:
  data: [{{file: {trainers}/smol/dialogues.jsonl}}]
  learning_rate: 1e-5
  global_batch: 32
  micro_batch: 16
  max_length: 256
""",
    "ddpo": """ddpo:
  data: [{{file: pairs.jsonl}}]
  beta: 0.1
  learning_rate: 1e-6
  global_batch: 8
  micro_batch: 4
  max_length: 512
""",
}
PAIRS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    parser.add_argument("--run", choices=tuple(STAGES), help=argparse.SUPPRESS)  # a child that trains
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measured(options.run, options.folder)))
        return
    rows = [row for stage in STAGES for row in compared(stage)]
    print(
        json.dumps([row.told() for row in rows]) if options.json else "\n".join([HEAD, *(row.line() for row in rows)])
    )


class Nearness(Row):
    """Ours is what was planned, the peer's what was taken."""

    @property
    def ratio(self) -> float:
        ((planned, taken),) = self.pairs
        return min(planned, taken) / max(planned, taken)


def compared(stage: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--run", stage, "--folder", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        Nearness(f"plan-{stage}-{what}", unit, [pair], TARGET, less_is_better=True)
        for what, unit, pair in (("memory", "GiB", found["gib"]), ("time", "min", found["minutes"]))
    ]


def measured(name: str, folder: Path) -> dict[str, tuple[float, float]]:
    """(planned, taken) of memory and time."""
    import torch

    from zephyr_bench.catalogue import root
    from zephyr_bench.engines.protocol import EngineOptions
    from zephyr_bench.pipeline.plan import make_plan
    from zephyr_bench.pipeline.training import train_stages
    from zephyr_bench.progress import Progress
    from zephyr_bench.recipe import load_recipe
    from zephyr_bench.store import Store

    torch.ones(8, 8).matmul(torch.ones(8, 8))
    trainers = root() / "trainers"
    (folder / "measured.yaml").write_text(
        RECIPE.format(trainers=trainers, stage=STAGES[name].format(trainers=trainers)), encoding="utf-8"
    )
    write_pairs(folder / "pairs.jsonl", PAIRS)
    recipe = load_recipe(str(folder / "measured.yaml"))
    plan = make_plan(recipe, EngineOptions(), out=folder / "out", store="none")
    (planned,) = (stage.resources for stage in plan.stages)
    assert planned is not None
    before, started = forget_peak(), time.monotonic()
    with Store(f"sqlite:///{folder / 'store.db'}") as store:
        train_stages(recipe, EngineOptions(), store=store, out=folder / "out", progress=Progress(quiet=True))
    minutes = (time.monotonic() - started) / 60
    return {
        "gib": (planned.gib_a_device, (resident("VmHWM") - before) / 2**30),
        "minutes": (60 * planned.hours, minutes),
    }


if __name__ == "__main__":
    main()

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from zephyr_bench.trainers.schedule import learning_rate_share


@pytest.mark.parametrize(
    ("ours", "theirs"), [("cosine", "cosine"), ("linear", "linear"), ("constant", "constant_with_warmup")]
)
@pytest.mark.parametrize("steps", [1, 7, 30])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1])
def test_schedule_is_that_of_transformers(ours: str, theirs: str, steps: int, warmup_ratio: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = -int(-steps * warmup_ratio // 1)
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    for step in range(steps):
        share = learning_rate_share(step, steps=steps, warmup_ratio=warmup_ratio, schedule=ours)  # type: ignore[arg-type]
        assert share == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()

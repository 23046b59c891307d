"""Greedy decoding: the engine against transformers' own generate, the embedded model, batches of unlike length.

    .venv/bin/python tests/speed/decoding.py [--json]

Both run in this process with the same weights and threads, alternating. Before timing, both must give the same texts.
Rows end at unlike times, as answers do; generate pads until the last one ends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.records import GenerationRequest, Sampling

ROUNDS = 3
NEW_TOKENS = 64
TOPICS = ["a lighthouse", "tea", "Norway", "prime numbers", "a bicycle", "rain", "chess", "the moon"]
PROMPTS = [
    f"{ask} {topic}." for topic in TOPICS for ask in ("Name", "Write one sentence about", "Explain in detail", "List")
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    as_json = parser.parse_args().json
    engine: Any = open_engine("smollm2-135m-instruct", EngineOptions(device="cpu"))
    requests = [
        GenerationRequest(str(n), ({"role": "user", "content": text},), Sampling(max_new_tokens=NEW_TOKENS))
        for n, text in enumerate(PROMPTS)
    ]

    def ours() -> list[str]:
        found = {result.key: result.text for result in engine.generate(requests)}
        return [found[request.key] for request in requests]

    ours()  # loads the weights
    model, tokenizer = engine._weights.model, engine._weights.tokenizer

    def peer() -> list[str]:
        tokenizer.padding_side = "left"
        chats = [engine.render(request.messages) for request in requests]
        batch = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)
        return list(tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))

    same = sum(a.strip() == b.strip() for a, b in zip(ours(), peer(), strict=True))
    if same < len(requests) - 1:  # one near tie may fall the other way: the two pad unlike, so sums round unlike
        sys.exit(f"only {same} of {len(requests)} texts agree; nothing was timed")
    times = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS)]
    ratio = statistics.median(theirs / mine for mine, theirs in times)
    row = {
        "name": f"greedy decoding, {len(requests)} chats, at most {NEW_TOKENS} tokens",
        "ours": statistics.median(mine for mine, _ in times),
        "peer": statistics.median(theirs for _, theirs in times),
        "ratio": ratio,
        "target": 1.0,
    }
    if as_json:
        print(json.dumps([row]))
        return
    print(f"{row['name']}; {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, {same} texts the same")
    for name, index in (("engine", 0), ("generate", 1)):
        taken = [pair[index] for pair in times]
        print(f"{name:10} min {min(taken):6.2f} s   median {statistics.median(taken):6.2f} s   max {max(taken):6.2f} s")
    print(f"ratio {ratio:.2f} (generate / engine, median of pairs; target {row['target']:g})")


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

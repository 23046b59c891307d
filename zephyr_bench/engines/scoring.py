"""Log-probabilities of given continuations; what sequences begin with is computed once.

In: token ids of contexts and continuations. Out: each score as it is known. What the model is run over is the
business of tree_scoring.py or, for architectures that take no mask of ours, of group_scoring.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from zephyr_bench.engines.group_scoring import score_in_groups
from zephyr_bench.engines.loading import LoadedModel
from zephyr_bench.engines.score_inputs import model_input, of_nothing
from zephyr_bench.engines.token_tree import planted
from zephyr_bench.engines.tree_scoring import Reads, takes_trees, tree_values
from zephyr_bench.records import ScoredTokens, ScoreRequest


def score(loaded: LoadedModel, requests: Iterable[ScoreRequest], *, max_length: int) -> Iterator[ScoredTokens]:
    """Each request's score, as soon as it is known."""
    asked: list[ScoreRequest] = []
    for request in requests:
        if (nothing := of_nothing(request)) is not None:
            yield nothing
        else:
            asked.append(request)
    if not asked:
        return
    if loaded.scores_along_trees is None:
        loaded.scores_along_trees = takes_trees(loaded.model)
    way = _along_a_tree if loaded.scores_along_trees else score_in_groups
    yield from way(loaded, asked, max_length=max_length)


def _along_a_tree(loaded: LoadedModel, asked: Sequence[ScoreRequest], *, max_length: int) -> Iterator[ScoredTokens]:
    """In the tree's order."""
    inputs, firsts = zip(*(model_input(request, max_length) for request in asked), strict=True)
    rooted = planted(inputs, firsts)
    del inputs  # a token of a tuple takes nine times what it takes in the tree
    ordered = [asked[number] for number in rooted.order]
    nodes = np.concatenate([rooted.nodes[number] for number in rooted.order])  # (reads,) request after request
    targets = np.concatenate([np.array(request.continuation) for request in ordered])
    stops = np.cumsum([len(request.continuation) for request in ordered])
    by_node = np.argsort(nodes, kind="stable")
    log_probs, likeliest = np.empty(len(nodes)), np.empty(len(nodes), dtype=np.bool_)
    done = 0
    for values in tree_values(loaded, rooted.tree, Reads(nodes[by_node], targets[by_node])):
        read = by_node[values.which]
        log_probs[read], likeliest[read] = values.log_probs, values.likeliest
        while done < len(ordered) and nodes[stops[done] - 1] < values.node:
            key, count = ordered[done].key, len(ordered[done].continuation)
            own = slice(stops[done] - count, stops[done])
            yield ScoredTokens(key, float(log_probs[own].sum()), bool(likeliest[own].all()), count)
            done += 1

"""A training in a line: what its steps showed, of the store's record of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

from zephyr_bench.store import Training

_LAST = 10  # steps that the end is a mean of: one alone says little
_FORMS = {"loss": ".4f", "margin": "+.3f", "accuracy": ".0%"}


def training_told(training: Training, *, until: int | None = None) -> str:
    """'smol-ddpo: 14 steps, loss 0.6931 to 0.6120, accuracy 78%; held out after step 14: loss 0.6354'.

    `until`: the last step that made the model in question.
    """
    if until is not None:
        values = {name: [one for one in ones if one[0] <= until] for name, ones in training.values.items()}
        training = replace(training, values=values)
    losses = [value for _, value in training.values.get("loss", ())]
    done = len(losses)
    steps = f"{done} steps" if done == training.steps else f"{done} of {training.steps} steps"
    parts = [steps, *_ends(training)]
    return f"{training.name}: {', '.join(parts)}{''.join(_look(training))}"


def _ends(training: Training) -> Iterator[str]:
    for name in ("loss", "margin", "accuracy"):
        known = [value for _, value in training.values.get(name, ()) if value is not None]
        if known:
            first = f"{known[0]:{_FORMS[name]}} to " if name == "loss" else ""
            yield f"{name} {first}{fmean(known[-_LAST:]):{_FORMS[name]}}"
    tokens, seconds = (
        sum(value or 0.0 for _, value in training.values.get(name, ())) for name in ("tokens", "seconds")
    )
    if seconds:
        yield f"{tokens / seconds:.0f} tokens/s"


def _look(training: Training) -> Iterator[str]:
    """The last one's values."""
    looks = {name: training.values.get(f"held_out/{name}", ())[-1:] for name in _FORMS}
    told = [f"{name} {look[0][1]:{_FORMS[name]}}" for name, look in looks.items() if look and look[0][1] is not None]
    if told:
        yield f"; held out after step {looks['loss'][0][0]}: {', '.join(told)}"
    if (kl := training.values.get("kl")) and kl[-1][1] is not None:
        yield f"; KL to the reference {kl[-1][1]:.4f}"

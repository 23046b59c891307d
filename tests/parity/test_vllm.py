"""Our engine over vLLM against our engine over transformers: the same model, greedy, in float32, by itself and in use.

vLLM pins versions of its own, so it has an interpreter of its own, which ZEPHYR_BENCH_VLLM_PYTHON names (`make
vllm-test` makes it); else this one, where vLLM is installed in it. The work is vllm_checks.py, and of uses (a judge, a
task of lm-eval's, a config of alpaca_eval) vllm_uses.py. Log-probabilities are laid beside those of lm-eval's own vllm
model too (vllm_scored.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from vllm_uses import judge_yaml

from zephyr_bench.engines.locate import locate

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "ZEPHYR_BENCH_VLLM_PYTHON"
# on a machine of two processors vLLM would keep one of them free, and more memory than it needs
CPU = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
TOLERANCE = 1e-3  # of a log-probability: other kernels add in another order
SCORE = 5e-3  # of an expected score, 1 to 9
BY_LM_EVAL = 2e-5  # of a token's log-probability, where lm-eval asks vLLM
BY_TRANSFORMERS = 2e-4  # likewise, by other kernels
# what pip installs as the command; vLLM starts its process by importing it again
COMMAND = "import sys\nfrom zephyr_bench.cli import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"


def _python() -> str | None:
    return os.environ.get(VARIABLE) or (sys.executable if "vllm" in packages_distributions() else None)


@pytest.fixture(scope="module")
def python() -> str:
    found = _python()
    if found is None:
        pytest.skip(f"vLLM is not installed here, and {VARIABLE} names no interpreter that has it: make vllm-test")
    return found


def _run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        env={**CPU, **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        timeout=2400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def found(python: str, embedded_model: str) -> dict[str, Any]:
    done = _run(python, str(ROOT / "tests" / "parity" / "vllm_checks.py"), locate(embedded_model).location)
    told: dict[str, Any] = json.loads(done.stdout)  # and nothing else: vLLM's own messages go to stderr
    return told


@pytest.mark.slow
def test_vllm_engine_conforms(found: dict[str, Any]) -> None:
    assert found["failed"] == {}


@pytest.mark.slow
def test_first_tokens_are_those_of_transformers(found: dict[str, Any]) -> None:
    assert found["same_prompts"]
    assert found["equal_first_tokens"] == found["of"], found["pairs"]


@pytest.mark.slow
def test_log_probabilities_are_those_of_transformers(found: dict[str, Any]) -> None:
    assert found["log_prob_difference"] <= TOLERANCE, found["pairs"]


@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers_but_for_near_ties(found: dict[str, Any]) -> None:
    print(f"{found['equal']} of {found['of']} answers equal, {found['second_turns']} of their second turns")
    assert found["equal"] >= found["of"] - 1, found["pairs"]


@pytest.mark.slow
@pytest.mark.parametrize("use", ["judged", "expected"])
def test_a_judge_of_kind_vllm_says_what_the_same_yaml_of_kind_transformers_says(found: Any, use: str) -> None:
    ours, theirs = _both(found, use)
    assert len(ours) >= 10
    _assert_few_differ(ours, theirs, _reply)
    for key, one in ours.items():
        other = theirs[key]
        assert one[3] == other[3], "tokens of the prompt"
        if _reply(one) == _reply(other):
            assert (one[0] is None) == (other[0] is None), key
            # of kind `expected` the scores are means over probabilities; else they are read from equal replies
            assert one[0] is None or one[0] == pytest.approx(other[0], abs=SCORE if use == "expected" else 0), key
    assert sum(one[0] is not None for one in ours.values()) >= 8


@pytest.mark.slow
def test_an_answer_too_long_for_a_judge_by_vllm_has_no_verdict_and_the_others_have_theirs(found: Any) -> None:
    judged, compared = _both(found, "judged")[0], _both(found, "alpaca_eval_config")[0]["plain"]
    for one in (judged["10"], judged["11"], compared["5"]):
        assert one[:3] == [None, "", "the judge's prompt leaves no room for a reply"]
        assert one[4] == 0


@pytest.mark.slow
def test_expected_scores_are_no_tokens(found: dict[str, Any]) -> None:
    assert all(score is None or score != int(score) for score, *_ in _both(found, "expected")[0].values())


@pytest.mark.slow
def test_plain_texts_are_continued_as_by_transformers(found: dict[str, Any]) -> None:
    ours, theirs = _both(found, "completed")
    _assert_few_differ(ours, theirs, lambda one: one[:3])
    for key, one in ours.items():
        assert _furthest(one[3], theirs[key][3]) <= TOLERANCE, key
    stopped = [one for key, one in ours.items() if key.endswith("/stop")]
    assert all(one[1] == "stop" and "." not in one[0] and "\n\n" not in one[0] for one in stopped)


@pytest.mark.slow
def test_probabilities_are_those_before_temperature_and_top_p(found: dict[str, Any]) -> None:
    ours, theirs = _both(found, "drawn")
    for key, one in ours.items():
        assert len(one) >= 20
        assert _furthest(one, theirs[key]) <= TOLERANCE, key


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gsm8k", "leaderboard_ifeval"])
def test_a_task_of_lm_eval_runs_by_vllm_and_is_not_asked_again(found: dict[str, Any], task: str) -> None:
    ours, theirs = _both(found, "tasks")
    if task not in ours:
        pytest.skip(f"{VARIABLE}: {'; '.join(ours['lacking'])}")
    assert ours[task]["texts"].keys() == theirs[task]["texts"].keys()
    assert all(ours[task]["texts"].values())
    assert ours[task]["scores"] == ours[task]["again"]
    if ours[task]["texts"] == theirs[task]["texts"]:
        assert ours[task]["scores"] == theirs[task]["scores"]
    else:
        _assert_few_differ(ours[task]["texts"], theirs[task]["texts"], str)


@pytest.mark.slow
@pytest.mark.parametrize("texts", ["whole", "cut", "pairs"])
def test_log_probabilities_and_greedy_flags_are_those_of_lm_evals_own_vllm_model(found: Any, texts: str) -> None:
    """Of hand-made texts, of those cut to a shorter model's length, and of a benchmark's."""
    use = "multiple_choice" if texts == "pairs" else "scored"
    ours, theirs = found["uses"]["vllm"][use][texts], found["lm_eval"]["cut" if texts == "cut" else "whole"]
    _assert_same_scores(ours, {pair: theirs[pair] for pair in ours}, BY_LM_EVAL)
    assert {is_greedy for _, is_greedy, _ in ours.values()} == {True, False}


@pytest.mark.slow
def test_texts_are_scored_as_by_transformers(found: dict[str, Any]) -> None:
    ours, theirs = _both(found, "scored")
    _assert_same_scores(ours["whole"], theirs["whole"], BY_TRANSFORMERS)


@pytest.mark.slow
def test_a_multiple_choice_benchmark_runs_by_vllm_and_is_not_asked_again(found: dict[str, Any]) -> None:
    ours, theirs = _both(found, "multiple_choice")
    assert ours["scores"] == ours["again"]
    assert ours["scores"] == pytest.approx(theirs["scores"], abs=0.01)
    _assert_same_scores(ours["pairs"], theirs["pairs"], BY_TRANSFORMERS)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_a_config_of_alpaca_eval_for_vllm_judges_by_vllm(found: dict[str, Any], prompt: str) -> None:
    ours, theirs = (both[prompt] for both in _both(found, "alpaca_eval_config"))
    _assert_few_differ(ours, theirs, lambda one: one[1:2] + one[3:])
    scores = [one[0] for number, one in ours.items() if number != "5"]
    assert set(scores) <= {0.0, 1.0}, "no verdict"
    if prompt == "plain":
        assert set(scores) == {0.0, 1.0}, "of one side only"
        assert all(one[0] == theirs[key][0] for key, one in ours.items() if _reply(one) == _reply(theirs[key]))


@pytest.mark.slow
def test_the_command_answers_and_judges_by_vllm_one_after_the_other(
    python: str, embedded_model: str, tmp_path: Path
) -> None:
    """Each takes the memory for itself. What is there already starts nothing."""
    location = locate(embedded_model).location
    command = [_command(tmp_path), "mtbench", "--benchmark", "mt-bench-mini", "--limit", "1", "--quiet"]
    command += ["--model", location, "--engine", "vllm", "--store", f"sqlite:///{tmp_path}/store.db"]
    command += ["--judge", judge_yaml("vllm", location, tmp_path / "judges", expected=True), "--format", "json"]
    _assert_made_once(python, command)


@pytest.mark.slow
def test_the_command_scores_by_vllm_and_reads_the_scores_again(
    python: str, embedded_model: str, tmp_path: Path
) -> None:
    command = [_command(tmp_path), "open-llm", "--benchmark", "open-llm-mini", "--tasks", "arc_challenge"]
    command += ["--limit", "3", "--quiet", "--model", locate(embedded_model).location, "--engine", "vllm"]
    _assert_made_once(python, [*command, "--store", f"sqlite:///{tmp_path}/store.db", "--format", "json"])


def _command(folder: Path) -> str:
    (folder / "zephyr-bench").write_text(COMMAND)
    return str(folder / "zephyr-bench")


def _assert_made_once(python: str, command: list[str]) -> None:
    """The second run says the same and starts nothing."""
    outputs, seconds = [], []
    for _ in range(2):
        begun = time.perf_counter()
        outputs.append([{**score, "run": None} for score in json.loads(_run(python, *command).stdout)])
        seconds.append(time.perf_counter() - begun)
    print(f"{seconds[0]:.0f} s, and {seconds[1]:.0f} s from the store")
    assert seconds[1] < seconds[0] / 2
    first, again = outputs
    assert first == again
    assert first[0]["value"] is not None


def _assert_same_scores(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 20
    for pair, (log_prob, is_greedy, tokens) in ours.items():
        assert log_prob == pytest.approx(theirs[pair][0], abs=tolerance * tokens, rel=0), pair
        assert [is_greedy, tokens] == theirs[pair][1:], pair
    print(f"{max(abs(one[0] - theirs[pair][0]) / one[2] for pair, one in ours.items()):.1e} a token at most")


def _both(found: dict[str, Any], use: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return found["uses"]["vllm"][use], found["uses"]["transformers"][use]


def _reply(one: list[Any]) -> str:
    return str(one[1])


def _assert_few_differ(ours: dict[str, Any], theirs: dict[str, Any], part: Callable[[Any], Any]) -> None:
    """One of them at most, as two tokens may be all but equally likely."""
    assert ours.keys() == theirs.keys()
    differ = {key: (part(theirs[key]), part(one)) for key, one in ours.items() if part(one) != part(theirs[key])}
    assert len(differ) <= 1, differ


def _furthest(one: dict[str, float], other: dict[str, float]) -> float:
    """The largest difference of log-probabilities of the same text; but for the last place all are the same."""
    shared = one.keys() & other.keys()
    assert len(shared) >= min(len(one), len(other)) - 1
    return max(abs(one[text] - other[text]) for text in shared)

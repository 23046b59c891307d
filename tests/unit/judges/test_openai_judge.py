from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers import fake_openai

from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.judges import JudgeOptions, open_judge
from zephyr_bench.judges.protocol import Judge
from zephyr_bench.records import Match
from zephyr_bench.testing.judges import pair, single

MATCHES = [single(f"Question {number}?", "An answer.") for number in range(6)]


def judge_at(url: str, folder: Path, **changes: Any) -> Judge:
    """The catalogue's gpt-4, with other settings."""
    from zephyr_bench import catalogue

    text = catalogue.find("judge", "gpt-4").read_text()
    values = {"base_url": url, "max_retries": 0, "timeout_seconds": 5, **changes}
    kept = [line for line in text.splitlines() if line.partition(":")[0] not in values]
    path = folder / "local.yaml"
    path.write_text("\n".join([*kept, *(f"{key}: {value}" for key, value in values.items())]) + "\n")
    return open_judge(str(path))


def test_a_rating_comes_with_its_reply_tokens_and_cost(tmp_path: Path) -> None:
    with fake_openai("Fine. Rating: [[8]]") as server:
        (judgment,) = judge_at(server.url, tmp_path).grade(MATCHES[:1])
    assert (judgment.score, judgment.reply) == (8, "Fine. Rating: [[8]]")
    assert (judgment.input_tokens, judgment.output_tokens) == (100, 10)
    assert judgment.cost_usd == pytest.approx((100 * 30 + 10 * 60) / 1e6)


def test_sampling_is_fastchats(tmp_path: Path) -> None:
    with fake_openai("[[8]]") as server:
        list(judge_at(server.url, tmp_path).grade(MATCHES[:1]))
    (body,) = server.requests
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4", 0, 2048)


def test_a_pair_is_one_call_with_the_answer_in_the_first_place(tmp_path: Path) -> None:
    def prefers_the_longer(body: dict[str, Any]) -> str:
        text = body["messages"][1]["content"]
        return "[[A]]" if text.index("a longer one") < text.index("Assistant B's Answer") else "[[B]]"

    with fake_openai(prefers_the_longer) as server:
        judge = judge_at(server.url, tmp_path)
        (better,) = judge.grade([pair("Q?", "a longer one", "short")])
        (worse,) = judge.grade([pair("Q?", "short", "a longer one")])
    assert (better.score, worse.score) == (1, 0)
    assert better.prompt == "pair-v2"
    assert len(server.requests) == 2


@pytest.mark.parametrize("nonsense", ["I like it.", "", "[[nine]]"])
def test_nonsense_is_no_score_with_a_reason(tmp_path: Path, nonsense: str) -> None:
    with fake_openai(nonsense) as server:
        (judgment,) = judge_at(server.url, tmp_path).grade(MATCHES[:1])
    assert judgment.score is None
    assert judgment.reason
    assert judgment.reply == nonsense


def test_a_refused_key_is_the_users_mistake_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    with fake_openai(401) as server, pytest.raises(UserError, match=r"key was refused \(401\).*OPENAI_API_KEY") as told:
        list(judge_at(server.url, tmp_path).grade(MATCHES))
    assert server.keys[0] == "Bearer sk-secret-123"
    assert "sk-secret" not in str(told.value)


@pytest.mark.parametrize(
    ("fault", "told"), [(429, "answered 429 after 1 tries"), (500, "answered 500"), (None, "can't be reached")]
)
def test_a_fault_that_lasts_is_an_outside_failure(tmp_path: Path, fault: int | None, told: str) -> None:
    with fake_openai(fault) as server, pytest.raises(JudgeUnavailable, match=told) as caught:
        list(judge_at(server.url, tmp_path).grade(MATCHES))
    assert caught.value.exit_code == 4


def test_a_fault_that_passes_is_retried(tmp_path: Path) -> None:
    faults = iter([429, 500])
    with fake_openai(lambda _: next(faults, "[[6]]")) as server:
        (judgment,) = judge_at(server.url, tmp_path, max_retries=3).grade(MATCHES[:1])
    assert judgment.score == 6
    assert len(server.requests) == 3


def test_verdicts_finished_before_a_failure_are_yielded_first(tmp_path: Path) -> None:
    def fails_at_the_fourth(body: dict[str, Any]) -> str | int:
        return 500 if "Question 3?" in body["messages"][1]["content"] else "[[5]]"

    taken = []
    with fake_openai(fails_at_the_fourth) as server:
        verdicts = judge_at(server.url, tmp_path, concurrency=1).grade(MATCHES)
        with pytest.raises(JudgeUnavailable):
            taken += (judgment.score for judgment in verdicts)
    assert taken == [5, 5, 5]
    assert len(server.requests) == 4, "nothing is asked after a failure that lasts"


def test_no_answer_at_all_times_out(tmp_path: Path) -> None:
    import threading

    release = threading.Event()

    def silent(_: dict[str, Any]) -> str:
        release.wait(20)
        return "[[5]]"

    with fake_openai(silent) as server:
        judge = judge_at(server.url, tmp_path, timeout_seconds=0.3)
        with pytest.raises(JudgeUnavailable, match=r"did not answer within 0\.3 s"):
            list(judge.grade(MATCHES[:1]))
        release.set()


def test_a_key_is_needed_beyond_this_machine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert judge_at("http://127.0.0.1:9/v1", tmp_path).missing() == []
    (told,) = judge_at("https://judge.example/v1", tmp_path).missing()
    assert "OPENAI_API_KEY" in told


def test_fingerprint_changes_with_what_a_verdict_hangs_on_and_nothing_else(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/v1"
    same = judge_at(url, tmp_path).fingerprint
    for change in ({"model": "gpt-5"}, {"temperature": 0.5}, {"max_tokens": 10}, {"base_url": url + "2"}):
        assert judge_at(url, tmp_path, **change).fingerprint != same  # type: ignore[arg-type]
    for change in ({"concurrency": 2}, {"max_retries": 5}, {"timeout_seconds": 9}, {"description": "x"}):
        assert judge_at(url, tmp_path, **change).fingerprint == same


@pytest.mark.parametrize("url", ["nonsense", "ftp://x/v1", "http://user:pw@127.0.0.1/v1"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="--base-url") as told:
        open_judge("gpt-4", options=JudgeOptions(base_url=url))
    assert "pw" not in str(told.value)


def test_prompt_holds_the_answer_and_braces_in_it_are_text(tmp_path: Path) -> None:
    hostile = Match(MATCHES[0].question, 1, single("x", "{question} {0} {answer.__class__}").answers)
    with fake_openai("[[5]]") as server:
        list(judge_at(server.url, tmp_path).grade([hostile]))
    assert "{question} {0} {answer.__class__}" in server.requests[0]["messages"][1]["content"]


def test_a_rating_off_the_scale_is_no_score(tmp_path: Path) -> None:
    for reply in ("[[95]]", "[[0]]", f"[[{'9' * 400}]]"):
        with fake_openai(reply) as server:
            (judgment,) = judge_at(server.url, tmp_path).grade(MATCHES[:1])
        assert judgment.score is None
        assert "not between 1 and 10" in (judgment.reason or "")


def test_one_request_refused_leaves_the_others_judged(tmp_path: Path) -> None:
    def refuses_the_third(body: dict[str, Any]) -> str | int:
        return 400 if "Question 2?" in body["messages"][1]["content"] else "[[5]]"

    taken = []
    with fake_openai(refuses_the_third) as server:
        verdicts = judge_at(server.url, tmp_path, concurrency=2).grade(MATCHES)
        with pytest.raises(JudgeUnavailable, match=r"refused a request \(400\)"):
            taken += (judgment.score for judgment in verdicts)
    assert (len(taken), len(server.requests)) == (5, 6)


def test_a_key_with_a_line_break_is_told_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-topsecret\nSECOND=1")
    (told,) = judge_at("https://judge.example/v1", tmp_path).missing()
    assert "OPENAI_API_KEY holds blanks or unprintable" in told
    assert "topsecret" not in told


def test_a_password_in_a_judge_file_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a password") as told:
        judge_at("https://user:hunter2@host/v1", tmp_path)
    assert "hunter2" not in str(told.value)

"""Judging by OpenAI's Batch API: what is pending is found again, and nothing is asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batch_server import FakeBatches, fake_batches
from servers import fake_openai
from test_openai_judge import judge_at

from zephyr_bench.engines import openai_batch
from zephyr_bench.errors import JudgeUnavailable, UserError
from zephyr_bench.records import Judgment
from zephyr_bench.testing.judges import single

MATCHES = [single(f"Question {number}?", "An answer.") for number in range(6)]


def judge(server: FakeBatches, folder: Path, **changes: Any) -> Any:
    return judge_at(server.url, folder, batch="true", poll_seconds=0.01, **changes)


class KilledError(BaseException):
    """Stands for kill -9 while a batch is pending."""


def test_verdicts_of_a_batch_at_half_the_price(tmp_path: Path) -> None:
    with fake_batches("[[8]]", looks=3) as server:
        found = list(judge(server, tmp_path).grade(MATCHES))
    assert [judgment.score for judgment in found] == [8] * 6
    assert len(server.batches) == 1
    assert found[0].cost_usd == pytest.approx((100 * 30 + 10 * 60) / 1e6 / 2)


def test_a_restart_finds_the_pending_batch_and_asks_only_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: float) -> None:
        raise KilledError

    with fake_batches("[[8]]", looks=2) as server:
        with monkeypatch.context() as patch:
            patch.setattr(openai_batch.time, "sleep", killed)
            with pytest.raises(KilledError):
                list(judge(server, tmp_path).grade(MATCHES[:4]))
        found = list(judge(server, tmp_path).grade(MATCHES[1:]))
    assert sorted(judgment.key for judgment in found) == sorted(
        match.key(judge(server, tmp_path).fingerprint) for match in MATCHES[1:]
    )
    assert len(server.batches) == 2
    assert len(server.asked) == len(set(server.asked)) == 6, "nothing is asked twice"


def test_a_batch_that_is_done_is_read_after_a_restart(tmp_path: Path) -> None:
    with fake_batches("[[8]]", looks=0) as server:
        verdicts = judge(server, tmp_path).grade(MATCHES)
        next(verdicts)
        verdicts.close()
        assert len(list(judge(server, tmp_path).grade(MATCHES[1:]))) == 5
    assert len(server.batches) == 1


@pytest.mark.parametrize("end", ["failed", "expired"])
def test_a_batch_that_fails_is_an_outside_failure(tmp_path: Path, end: str) -> None:
    with fake_batches("[[8]]", end=end) as server, pytest.raises(JudgeUnavailable, match=f"batch batch-0 is {end}"):
        list(judge(server, tmp_path).grade(MATCHES))


def test_a_refused_request_is_told_after_the_others_verdicts(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str | int:
        return 400 if "Question 2?" in body["messages"][1]["content"] else "[[5]]"

    taken: list[Judgment] = []
    with fake_batches(reply) as server:
        verdicts = judge(server, tmp_path).grade(MATCHES)
        with pytest.raises(JudgeUnavailable, match="1 requests of a batch have no reply"):
            taken += verdicts
    assert len(taken) == 5


def test_a_large_batch_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch, "_MOST_REQUESTS", 4)
    with fake_batches("[[8]]") as server:
        assert len(list(judge(server, tmp_path).grade(MATCHES))) == 6
    assert len(server.batches) == 2


def test_a_server_without_batches_is_told(tmp_path: Path) -> None:
    with fake_openai("[[8]]") as server, pytest.raises((UserError, JudgeUnavailable), match="Batch API"):
        list(judge_at(server.url, tmp_path, batch="true").grade(MATCHES))


def test_verdicts_of_both_ways_are_the_same_judges(tmp_path: Path) -> None:
    with fake_batches("[[8]]") as server:
        fingerprint = judge(server, tmp_path).fingerprint
        assert fingerprint == judge_at(server.url, tmp_path).fingerprint

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zephyr_bench.engines.locate import locate
from zephyr_bench.progress import Progress
from zephyr_bench.trainers.reference import ReferenceLogProbs, reference_log_probs
from zephyr_bench.training_data.tokens import PairExample

EXAMPLES = [PairExample((1, 2, 3), ((4, 5), (6,))), PairExample((1, 2, 3), ((4, 5), (7, 8)))]
QUIET = Progress(quiet=True)


class Sums:
    """A predictor that tells how long each answer is, and counts."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.asked: list[Any] = []
        self._breaks_at = breaks_at

    def __call__(self, trees: list[Any]) -> Any:
        if len(self.asked) == self._breaks_at:
            raise KeyboardInterrupt
        self.asked += trees
        self.sums = torch.tensor([-float(len(branch.ids)) for tree in trees for branch in tree.branches])
        return self


def known(folder: Path, model: Path, **options: Any) -> ReferenceLogProbs:
    return ReferenceLogProbs(locate(str(model)), **{"dtype": "float32", "folder": folder, **options})


def test_each_answer_is_asked_for_once(tmp_path: Path, tiny_model_dir: Path) -> None:
    pairs, sums = EXAMPLES, Sums()
    expected = [(-2.0, -1.0), (-2.0, -2.0)]
    found = reference_log_probs(sums, pairs, known(tmp_path, tiny_model_dir), rows=2, progress=QUIET)
    assert found == expected
    again = Sums()
    assert reference_log_probs(again, pairs, known(tmp_path, tiny_model_dir), rows=2, progress=QUIET) == expected
    assert (len(sums.asked), len(again.asked)) == (2, 0)


def test_what_was_made_before_a_break_is_kept(tmp_path: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        reference_log_probs(Sums(1), EXAMPLES, known(tmp_path, tiny_model_dir), rows=1, progress=QUIET)
    rest = Sums()
    reference_log_probs(rest, EXAMPLES, known(tmp_path, tiny_model_dir), rows=1, progress=QUIET)
    assert len(rest.asked) == 1


@pytest.mark.parametrize("change", ["dtype", "model"])
def test_another_model_or_arithmetic_is_another_reference(tmp_path: Path, tiny_model_dir: Path, change: str) -> None:
    from tiny_model import make_tiny_model

    reference_log_probs(Sums(), EXAMPLES, known(tmp_path, tiny_model_dir), rows=2, progress=QUIET)
    if change == "model":
        other = known(tmp_path, make_tiny_model(tmp_path / "other", seed=1))
    else:
        other = known(tmp_path, tiny_model_dir, dtype="bfloat16")
    assert len(other.missing(EXAMPLES)) == 2


def test_a_spoiled_line_is_computed_again(tmp_path: Path, tiny_model_dir: Path) -> None:
    reference_log_probs(Sums(), EXAMPLES, known(tmp_path, tiny_model_dir), rows=2, progress=QUIET)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text("no json\n" + path.read_text()[:-9])
    assert len(known(tmp_path, tiny_model_dir).missing(EXAMPLES)) == 2


def test_a_folder_that_cant_be_written_is_told_and_the_work_goes_on(
    tmp_path: Path, tiny_model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    unkept = known(tmp_path / "file", tiny_model_dir)
    found = reference_log_probs(Sums(), EXAMPLES, unkept, rows=2, progress=Progress(quiet=False))
    assert found == [(-2.0, -1.0), (-2.0, -2.0)]
    assert "the reference is asked again next time" in capsys.readouterr().err


def test_what_comes_after_a_cut_line_is_kept(tmp_path: Path, tiny_model_dir: Path) -> None:
    reference_log_probs(Sums(), EXAMPLES, known(tmp_path, tiny_model_dir), rows=2, progress=QUIET)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_text(path.read_text()[:-9])
    reference_log_probs(Sums(), EXAMPLES, known(tmp_path, tiny_model_dir), rows=2, progress=QUIET)
    assert known(tmp_path, tiny_model_dir).missing(EXAMPLES) == []


def test_what_is_no_number_is_not_kept(tmp_path: Path, tiny_model_dir: Path) -> None:
    known(tmp_path, tiny_model_dir).add(EXAMPLES[:1], [(float("nan"), -1.0)])
    assert known(tmp_path, tiny_model_dir).missing(EXAMPLES[:1]) == EXAMPLES[:1]

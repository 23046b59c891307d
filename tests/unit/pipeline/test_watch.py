"""Checkpoints are evaluated as they appear, each once, by their order; what is broken or goes away stops no other."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tiny_model

from zephyr_bench import __version__
from zephyr_bench.engines.locate import locate_directory
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.pipeline.checkpoint_folders import Settling
from zephyr_bench.pipeline.watch import Watch, prepare, render_watched
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe, load_recipe
from zephyr_bench.store import RunStart, Store

BENCHMARK = "alpaca-eval-mini"
FRESH = ("watched", "_done", "_broken", "_told", "_not_before", "_failures", "_trainings")
Put = Callable[..., Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    return [make_tiny_model(folder / str(seed), seed=seed, max_length=1024) for seed in range(3)]


@pytest.fixture
def put(models: list[Path], tmp_path: Path) -> Put:
    """Writes a checkpoint as transformers does, trainer_state.json last; `without` leaves a file away."""

    def write(name: str, model: int, *, without: str = "") -> Path:
        folder = tmp_path / "out" / name
        shutil.copytree(models[model], folder, dirs_exist_ok=True)
        (folder / without).unlink() if without else None
        finish(folder)
        return folder

    return write


def finish(folder: Path) -> None:
    """Its trainer's last file, with a time of its own: a disk's clock ticks in milliseconds."""
    time.sleep(0.02)
    (folder / "trainer_state.json").write_text("{}")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"description: tiny\nmodel: absent\nevaluate: [{{benchmark: {BENCHMARK}, limit: 2}}]\n")
    return load_recipe(str(path))


class Heard(Progress):
    """Progress that keeps what it said, and may act on it: a trainer goes on while a watch looks."""

    def __init__(self, then: Callable[[str], object] = lambda _: None) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []
        self._then = then

    def say(self, message: str) -> None:
        self.lines.append(message)
        self._then(message)

    def warn(self, message: str) -> None:
        self.say(message)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/store.db") as opened:
        yield opened


@pytest.fixture
def watch(recipe: Recipe, store: Store) -> Watch:
    options = EngineOptions(device="cpu")
    return Watch(recipe, prepare(recipe, options), options, store, Heard())


def again(watch: Watch, **changes: Any) -> Watch:
    """As after a restart."""
    fresh = {name: type(getattr(watch, name))() for name in FRESH}
    return replace(watch, **{**fresh, "progress": Heard(), **changes})


def quick_clock() -> dict[str, Any]:
    """Waiting takes no time."""
    waited: list[float] = []
    return {"wait": waited.append, "_settling": Settling(lambda: time.time() + sum(waited))}


def lines(watch: Watch) -> list[str]:
    assert isinstance(watch.progress, Heard)
    return watch.progress.lines


def test_each_checkpoint_is_evaluated_once_in_the_order_of_steps(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-10", 1)
    put("checkpoint-9", 0)
    first = replace(watch, tags=("nightly",))
    first.once(tmp_path / "out")
    assert [(w.name, w.step) for w in first.watched] == [("checkpoint-9", 9), ("checkpoint-10", 10)]
    runs = watch.store.runs()
    assert [(run.model, run.tags, run.status) for run in runs] == [
        ("checkpoint-10", ("nightly",), "complete"),
        ("checkpoint-9", ("nightly",), "complete"),
    ]
    ids = [run.id for run in runs]
    assert watch.store.kept(ids, "terms-1/win-rate").keys() == set(ids)
    put("checkpoint-11", 2)
    second = again(watch, tags=("nightly", "more"))
    second.once(tmp_path / "out")
    assert [run.id for run in watch.store.runs()][1:] == [run.id for run in runs], "two are known"
    assert {run.tags for run in watch.store.runs()} == {("more", "nightly")}
    assert [w.name for w in second.watched] == ["checkpoint-9", "checkpoint-10", "checkpoint-11"]


@pytest.mark.parametrize("change", ["limit", "seed"])
def test_another_protocol_is_another_evaluation(watch: Watch, put: Put, tmp_path: Path, change: str) -> None:
    put("checkpoint-1", 0)
    watch.once(tmp_path / "out")
    other = {"limit": 1} if change == "limit" else {"recipe": watch.recipe.model_copy(update={"seed": 7})}
    again(watch, **other).once(tmp_path / "out")
    assert len(watch.store.runs()) == 2
    again(watch, **other).once(tmp_path / "out")
    assert len(watch.store.runs()) == 2


def test_one_that_was_broken_off_is_evaluated_again(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-1", 0)

    def interrupt(line: str) -> None:
        if BENCHMARK in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(watch, progress=Heard(interrupt)).once(tmp_path / "out")
    watch.once(tmp_path / "out")
    assert [run.status for run in watch.store.runs()] == ["complete"]


def test_a_broken_checkpoint_is_named_at_the_end_and_stops_no_other(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-1", 0, without="tokenizer.json")
    put("checkpoint-2", 1)
    (tmp_path / "out" / "checkpoint-3").mkdir()
    watch = replace(watch, **quick_clock())
    with pytest.raises(UserError) as told:
        watch.once(tmp_path / "out")
    assert "2 of 3 checkpoints" in str(told.value)
    assert "checkpoint-1: model directory" in str(told.value)
    assert "the tokenizer is missing" in str(told.value)
    assert "checkpoint-3: " in str(told.value)
    assert [w.name for w in watch.watched] == ["checkpoint-2"]


def test_a_checkpoint_that_no_engine_can_run_is_broken_too(watch: Watch, put: Put, tmp_path: Path) -> None:
    folder = put("checkpoint-1", 0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of", "architectures": []}))
    finish(folder)
    put("checkpoint-2", 1)
    with pytest.raises(UserError, match=r"1 of 2 checkpoints in .* can't be evaluated: checkpoint-1: "):
        watch.once(tmp_path / "out")
    assert [w.name for w in watch.watched] == ["checkpoint-2"]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", {"hidden_size": "abc"}, "hidden_size"),
        ("lineage.json", {"name": 5}, "expected a text as name, found 5"),
    ],
)
def test_values_of_another_kind_break_one_checkpoint_and_no_watch(
    watch: Watch, put: Put, tmp_path: Path, file: str, content: dict[str, Any], told: str
) -> None:
    folder = put("checkpoint-1", 0)
    before = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**before, **content}))
    finish(folder)
    put("checkpoint-2", 1)
    with pytest.raises(UserError, match=rf"1 of 2 checkpoints .*: checkpoint-1: .*{told}"):
        watch.once(tmp_path / "out")
    assert [w.name for w in watch.watched] == ["checkpoint-2"]


def test_what_may_pass_is_tried_again_after_a_longer_while_each_time(watch: Watch, put: Put, tmp_path: Path) -> None:
    """A base that comes later, say, or a disk that was full."""
    folder = put("checkpoint-1", 0)
    blocked = tmp_path / "out" / "checkpoint-1" / "chat_template.jinja"
    kept = blocked.read_text()
    blocked.unlink()
    finish(folder)
    seconds = [0.0]
    tries: list[float] = []

    def hear(line: str) -> None:
        if line == f"{BENCHMARK}: checkpoint-1":
            tries.append(seconds[0])

    def wait(every: float) -> None:
        seconds[0] += every
        if seconds[0] > 500:
            raise KeyboardInterrupt

    other = again(watch, wait=wait, clock=lambda: seconds[0], progress=Heard(hear))
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=20)
    assert tries == [0, 60, 180, 420]
    assert len([line for line in lines(other) if "can't be evaluated: " in line]) == 1
    blocked.write_text(kept)
    finish(folder)
    seconds[0] = 440
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=20)
    assert [w.name for w in other.watched] == ["checkpoint-1"]


def test_what_changes_while_it_is_evaluated_gets_no_tag(
    watch: Watch, put: Put, models: list[Path], tmp_path: Path
) -> None:
    folder = put("checkpoint-1", 0)

    def overwrite(line: str) -> None:
        if line == f"{BENCHMARK}: checkpoint-1":
            shutil.copy(models[1] / "model.safetensors", folder)

    other = again(watch, progress=Heard(overwrite), tags=("nightly",), newest=True)
    with pytest.raises(UserError, match="checkpoint-1: it changed while it was evaluated"):
        other.once(tmp_path / "out")
    assert {run.tags for run in watch.store.runs()} == {()}
    assert other.watched == []


def test_another_releases_runs_are_made_anew_of_what_is_stored(
    watch: Watch, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("checkpoint-1", 0)
    watch.once(tmp_path / "out")
    with sqlite3.connect(tmp_path / "store.db") as store:
        store.execute("update runs set version = '0.0.1'")
    again(watch).once(tmp_path / "out")
    assert sorted(run.version for run in watch.store.runs()) == ["0.0.1", __version__]
    keys = [{answer.key for answer in watch.store.answers_of(run.id)} for run in watch.store.runs()]
    assert keys[0] == keys[1]
    again(watch).once(tmp_path / "out")
    assert len(watch.store.runs()) == 2


def test_a_name_with_line_breaks_begins_no_line(watch: Watch, put: Put, tmp_path: Path) -> None:
    folder = put("checkpoint-1", 0)
    (folder / "lineage.json").write_text(json.dumps({"name": "good\n::error::broken"}))
    finish(folder)
    watch.once(tmp_path / "out")
    assert any("good\\n::error::broken" in line for line in lines(watch))
    assert not [line for line in lines(watch) if "\n" in line]


def test_the_newest_of_a_training_that_began_anew_is_its_own(
    watch: Watch, put: Put, models: list[Path], tmp_path: Path
) -> None:
    for name, model, at in (("checkpoint-500", 0, 1e9), ("checkpoint-100", 1, 2e9)):
        os.utime(put(name, model) / "model.safetensors", (at, at))
    other = again(watch, newest=True, **quick_clock())
    other.once(tmp_path / "out")
    assert [w.name for w in other.watched] == ["checkpoint-100"]
    assert "checkpoint-100 was written after checkpoint-500, so it is taken for the newest" in lines(other)


def test_each_training_has_a_curve_of_its_own(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("first/checkpoint-1", 0)
    put("second/checkpoint-2", 1)
    other = again(watch, plot=tmp_path / "curve")
    other.once(tmp_path / "out")
    drawn = {path.name: path.read_text().splitlines()[1:] for path in tmp_path.glob("curve*.csv")}
    assert {name: len(rows) for name, rows in drawn.items()} == {"curve-first.csv": 1, "curve-second.csv": 1}


def test_what_is_still_being_written_is_left_for_the_next_time(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-1", 0)
    growing = put("checkpoint-2", 1)

    def grow(_: float) -> None:
        with (growing / "model.safetensors").open("ab") as file:
            file.write(b"more")

    time.sleep(0.02)
    grow(0)
    other = again(watch, wait=grow)
    other.once(tmp_path / "out")
    assert [w.name for w in other.watched] == ["checkpoint-1"]
    assert "checkpoint-2 is being written; it is left for the next time" in lines(other)


def test_no_finished_checkpoint_is_a_mistake_to_be_told(watch: Watch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished checkpoint there; expected folders such as checkpoint-200"):
        watch.once(tmp_path)


def test_only_the_newest_is_evaluated_where_that_is_asked(watch: Watch, put: Put, tmp_path: Path) -> None:
    for step in range(3):
        put(f"checkpoint-{step}", step)
    replace(watch, newest=True).once(tmp_path / "out")
    assert [run.model for run in watch.store.runs()] == ["checkpoint-2"]


def test_a_newer_one_that_is_broken_does_not_pass_in_silence(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-0", 0, without="config.json")  # an older one is none of its business
    put("checkpoint-1", 1)
    put("checkpoint-2", 2, without="config.json")
    with pytest.raises(UserError, match=r"1 of 3 checkpoints .*: checkpoint-2: .*config.json is missing"):
        replace(watch, newest=True).once(tmp_path / "out")
    assert [run.model for run in watch.store.runs()] == ["checkpoint-1"]


def test_the_newest_checkpoints_run_is_the_tags_newest_though_it_was_known(
    watch: Watch, put: Put, tmp_path: Path
) -> None:
    """After a step back to older weights TAG@latest must not stay with the newer ones."""
    nightly = replace(watch, newest=True, tags=("nightly",))
    put("checkpoint-1", 0)
    nightly.once(tmp_path / "out")
    put("checkpoint-2", 1)
    again(nightly).once(tmp_path / "out")
    answers = {answer.key for run in watch.store.runs() for answer in watch.store.answers_of(run.id)}
    shutil.rmtree(tmp_path / "out" / "checkpoint-2")
    for _ in range(2):
        again(nightly).once(tmp_path / "out")
        runs = watch.store.runs()
        assert [run.model for run in runs] == ["checkpoint-1", "checkpoint-2", "checkpoint-1"]
    assert {answer.key for run in runs for answer in watch.store.answers_of(run.id)} == answers, "nothing asked anew"


def test_one_checkpoint_in_two_folders_is_one_model(watch: Watch, put: Put, tmp_path: Path) -> None:
    """A trainer's final model is its last checkpoint once more."""
    put("checkpoint-1", 0)
    put("final", 0)
    watch.once(tmp_path / "out")
    assert [w.name for w in watch.watched] == ["checkpoint-1", "checkpoint-1"]
    assert len(watch.store.runs()) == 1


def test_a_checkpoint_that_goes_away_meanwhile_is_left_out(watch: Watch, put: Put, tmp_path: Path) -> None:
    """As trainers do that keep the last few."""
    gone = put("checkpoint-1", 0)
    put("checkpoint-2", 1)
    heard = Heard(lambda line: shutil.rmtree(gone) if line == f"{BENCHMARK}: checkpoint-1" else None)
    other = again(watch, progress=heard)
    other.once(tmp_path / "out")
    assert "checkpoint-1 went away while it was evaluated; it is left out" in heard.lines
    assert [w.name for w in other.watched] == ["checkpoint-2"]
    assert {run.status for run in watch.store.runs(model="checkpoint-1")} == {"failed"}


def test_a_watch_sees_what_comes_and_waits_for_what_is_half_there(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-1", 0)

    def trainer() -> Iterator[object]:
        yield put("checkpoint-2", 1, without="model.safetensors")
        yield None  # still half there
        yield put("checkpoint-2", 1)
        yield None

    trained = trainer()

    def wait(_: float) -> None:
        if next(trained, "ended") == "ended":
            raise KeyboardInterrupt

    other = again(watch, wait=wait)
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=1)
    assert [w.name for w in other.watched] == ["checkpoint-1", "checkpoint-2"]
    waited = [line for line in lines(other) if line.startswith("checkpoint-2 isn't ready (")]
    assert len(waited) == 1, "said once"
    assert "no weights" in waited[0]
    assert len(watch.store.runs()) == 2


def test_a_broken_checkpoint_is_tried_again_once_it_changed(watch: Watch, put: Put, tmp_path: Path) -> None:
    folder = put("checkpoint-1", 0)
    template = folder / "chat_template.jinja"
    kept = template.read_text()
    template.unlink()
    finish(folder)

    def trainer() -> Iterator[object]:
        yield None
        yield None
        template.write_text(kept)
        yield finish(folder)
        yield None

    trained = trainer()

    def wait(_: float) -> None:
        if next(trained, "ended") == "ended":
            raise KeyboardInterrupt

    other = again(watch, wait=wait)
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=0)
    assert [run.status for run in watch.store.runs()] == ["complete", "failed"]
    assert len([line for line in lines(other) if "can't be evaluated: " in line]) == 1
    assert "has no chat template" in next(line for line in lines(other) if "can't be evaluated: " in line)


def test_a_file_more_in_a_folder_makes_no_second_line(watch: Watch, put: Put, tmp_path: Path) -> None:
    folder = put("checkpoint-1", 0)

    def wait(_: float) -> None:
        if (folder / "all_results.json").exists():
            raise KeyboardInterrupt
        (folder / "all_results.json").write_text("{}")
        finish(folder)

    other = again(watch, wait=wait)
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=1)
    assert [w.name for w in other.watched] == ["checkpoint-1"]
    assert len(watch.store.runs()) == 1


def test_what_another_process_evaluates_is_left_to_it(watch: Watch, put: Put, tmp_path: Path) -> None:
    folder = put("checkpoint-1", 0)
    put("checkpoint-2", 1)
    model = locate_directory(folder)
    watch.store.put_model(fingerprint=model.fingerprint, name=model.name, location=model.location)
    writer = watch.store.start_run(RunStart(BENCHMARK, "checkpoint-1", model.fingerprint, "engine"))

    def wait(_: float) -> None:
        raise KeyboardInterrupt

    other = again(watch, wait=wait)
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=60)
    assert [w.name for w in other.watched] == ["checkpoint-2"]
    other = again(watch)
    with pytest.raises(UserError, match="checkpoint-1: another process evaluates it now; run the same command again"):
        other.once(tmp_path / "out")
    assert [w.name for w in other.watched] == ["checkpoint-2"]
    writer.finish("failed", [])
    other = again(watch, wait=wait)
    with pytest.raises(KeyboardInterrupt):
        other.on(tmp_path / "out", every=60)
    assert [w.name for w in other.watched] == ["checkpoint-1", "checkpoint-2"]


def test_an_adapter_is_evaluated_on_its_base(watch: Watch, models: list[Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "out" / "checkpoint-5"
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(models[0])
    get_peft_model(base, config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(models[0]).save_pretrained(folder)
    finish(folder)
    watch.once(tmp_path / "out")
    (run,) = watch.store.runs()
    assert (run.model, run.note) == ("checkpoint-5", "adapter, its base not checked")


def test_the_table_is_the_curve_and_machines_get_every_score(watch: Watch, put: Put, tmp_path: Path) -> None:
    put("checkpoint-1", 0)
    put("checkpoint-20", 1)
    other = replace(watch, plot=tmp_path / "curve")
    other.once(tmp_path / "out")
    table = render_watched(other, "markdown").splitlines()
    assert table[0] == f"| step | checkpoint | {BENCHMARK} win-rate |"
    assert [row.split(" | ")[:2] for row in table[2:4]] == [["| 1", "checkpoint-1"], ["| 20", "checkpoint-20"]]
    records = json.loads(render_watched(other, "json"))
    by_run = {run.id: watch.store.scores_of([run.id])[run.id] for run in watch.store.runs()}
    assert len(records) == sum(map(len, by_run.values()))
    for record in records:
        (score,) = (score for score in by_run[record["run"]] if score.metric == record["metric"])
        assert (record["value"], record["stderr"], record["n"]) == (score.value, score.stderr, score.n)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows] == ["step", "1", "20"]


def test_a_recipe_that_evaluates_nothing_is_told(recipe: Recipe) -> None:
    bare = recipe.model_copy(update={"evaluate": ()})
    with pytest.raises(UserError, match="recipe tiny evaluates nothing: add `evaluate:`"):
        prepare(bare, EngineOptions())


def test_a_judge_that_cannot_be_asked_is_told_before_any_look(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    paid = recipe.model_copy(update={"evaluate": (recipe.evaluate[0].model_copy(update={"judge": "gpt-4"}),)})
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        prepare(paid, EngineOptions())

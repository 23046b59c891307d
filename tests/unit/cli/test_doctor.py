"""`doctor --model M` shows the two-turn prompt and warns of what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_model import make_tiny_model
from typer.testing import CliRunner

from zephyr_bench.cli import app
from zephyr_bench.cli import doctor as command


@pytest.fixture
def model(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model_dir, tmp_path / "mine")


@pytest.fixture(autouse=True)
def _only_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each entry of the catalogue needs is another matter, and slow."""
    monkeypatch.setattr(command, "_catalogue", lambda _: iter(()))


def _rows(model: Path) -> dict[str, tuple[str, str]]:
    done = CliRunner().invoke(app, ["doctor", "--model", str(model), "--format", "json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = [(row["part"], row["state"], row["detail"]) for row in json.loads(done.stdout)]
    about = [part for part, _, _ in rows].index("model mine")
    return {part: (state, detail) for part, state, detail in rows[about + 1 :] if part != "FastChat's prompt"}


def _rewrite(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_prompt_of_a_sound_model_is_shown_without_a_warning(model):
    rows = _rows(model)
    assert list(rows) == ["two-turn prompt", "prompt tokens"]
    assert json.loads(rows["two-turn prompt"][1]).endswith("{turn 2}<|im_end|>\n<|im_start|>assistant\n")
    assert 'from 1 "<|im_start|>"' in rows["prompt tokens"][1]
    assert 'end tokens 2 "<|im_end|>"' in rows["prompt tokens"][1]


def test_line_breaks_of_the_prompt_stay_on_one_line_of_the_table(model):
    done = CliRunner().invoke(app, ["doctor", "--model", str(model)], catch_exceptions=False)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("two-turn prompt"))
    assert r"<|im_start|>user\n{turn 1}<|im_end|>\n<|im_start|>assistant\n{answer 1}<|im_end|>\n" in line


def test_what_speaks_against_a_prompt_is_a_row_of_its_own(model):
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    assert _rows(model)["double BOS"][0] == "warn"


def test_model_without_chat_template_is_told_and_the_rest_still_shown(model):
    (model / "chat_template.jinja").unlink()
    rows = _rows(model)
    assert rows["chat template"][0] == "warn"
    assert "mine has no chat template" in rows["chat template"][1]


def test_end_tokens_are_those_of_generation_config(model):
    _rewrite(model / "generation_config.json", eos_token_id=[2, 0])
    assert 'end tokens 0 "<|endoftext|>" 2 "<|im_end|>"' in _rows(model)["prompt tokens"][1]


def test_generation_config_without_end_token_is_told(model):
    _rewrite(model / "generation_config.json", eos_token_id=None)
    assert _rows(model)["missing EOS"][0] == "note"


def test_without_generation_config_the_end_tokens_are_those_of_config(model):
    (model / "generation_config.json").unlink()
    assert "missing EOS" not in _rows(model)
    _rewrite(model / "config.json", eos_token_id=None)
    assert _rows(model)["missing EOS"][0] == "note"


def test_checkpoint_with_another_template_than_its_lineage_says_is_warned_of(model):
    (model / "lineage.json").write_text(json.dumps({"name": "mine", "chat_template": "sha256:" + "0" * 64}))
    assert _rows(model)["chat template"][0] == "warn"


@pytest.mark.parametrize(("name", "template"), [("zephyr-7b-beta", "zephyr"), ("nobody-knows-it", "one_shot")])
def test_fastchats_own_prompt_is_shown_beside_ours(tmp_path, name, template):
    from fastchat.model.model_adapter import get_conversation_template

    model = make_tiny_model(tmp_path / name, seed=1)
    done = CliRunner().invoke(app, ["doctor", "--model", str(model), "--format", "json"], catch_exceptions=False)
    (row,) = (row for row in json.loads(done.stdout) if row["part"] == "FastChat's prompt")
    assert row["state"] == "note"
    assert row["detail"].startswith(f"its template {template}, by the model's name: published scores were made with")
    chat = get_conversation_template(name)
    for number, said in enumerate(("{turn 1}", "{answer 1}", "{turn 2}", None)):
        chat.append_message(chat.roles[number % 2], said)
    assert json.loads(row["detail"].partition("made with ")[2]) == chat.get_prompt()


def test_without_fastchat_nothing_is_said_of_it(model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["doctor", "--model", str(model), "--format", "json"], catch_exceptions=False)
    assert "FastChat" not in done.stdout

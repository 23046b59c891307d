"""LoRA: adapters alone learn, are saved and found again, and are put on no other base than their own."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fake_hub import fake_hub
from safetensors.torch import load_file, save_file
from test_restart import broken_after
from tiny_data import DDPO, DSFT
from typer.testing import CliRunner

from zephyr_bench.cli import app, doctor
from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.file_hashes import cache_folder
from zephyr_bench.engines.loading import load_model, load_tokenizer, load_weights
from zephyr_bench.engines.locate import base_of, locate
from zephyr_bench.engines.piece_messages import pack_engine, unpack_engine
from zephyr_bench.engines.protocol import EngineOptions, ModelSource
from zephyr_bench.errors import UserError
from zephyr_bench.judges import open_judge
from zephyr_bench.pipeline import requirements
from zephyr_bench.pipeline.training import train_stages
from zephyr_bench.progress import Progress
from zephyr_bench.recipe import Recipe
from zephyr_bench.records import ScoreRequest
from zephyr_bench.store import Store
from zephyr_bench.trainers.ddpo import train_ddpo
from zephyr_bench.trainers.dsft import train_dsft
from zephyr_bench.trainers.forward import Predictor
from zephyr_bench.training_data.reading import read_dialogues, read_pairs
from zephyr_bench.training_data.tokens import Example, Tree
from zephyr_bench.training_runs.checkpoint import load_for_training, tokenizer_of

MakeRecipe = Callable[..., Recipe]
PLAIN = {"rank": 4, "alpha": 8}
LORA = {**PLAIN, "dropout": 0.1}
IDS = torch.tensor([[1, 40, 41, 42, 43, 44, 45, 46]])
ADAPTER, CONFIG, LINEAGE = "adapter_model.safetensors", "adapter_config.json", "lineage.json"
OPTIONS = EngineOptions(device="cpu")
QUIET = Progress(quiet=True)


def dsft(recipe: Recipe, out: Path) -> ModelSource:
    assert recipe.dsft is not None
    rows = read_dialogues(*recipe.dsft.data, recipe=recipe).items
    return train_dsft(recipe.dsft, locate(recipe.model), rows, recipe=recipe, out=out, progress=QUIET)


def ddpo(recipe: Recipe, out: Path, start: str = "") -> ModelSource:
    assert recipe.ddpo is not None
    pairs = read_pairs(*recipe.ddpo.data, recipe=recipe).items
    return train_ddpo(recipe.ddpo, locate(start or recipe.model), pairs, recipe=recipe, out=out, progress=QUIET)


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text().splitlines()]


@pytest.fixture
def base(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "models" / "base"))


@pytest.fixture
def trained(make_recipe: MakeRecipe, base: Path, tmp_path: Path) -> Path:
    """An adapter of a short dSFT on `base`."""
    dsft(make_recipe(model=str(base), dsft={**DSFT, "lora": LORA}), tmp_path / "checkpoints" / "dsft")
    return tmp_path / "checkpoints" / "dsft"


@pytest.fixture
def foreign(trained: Path) -> Path:
    """As somebody else's: without lineage and tokenizer."""
    for file in trained.iterdir():
        if file.name not in (ADAPTER, CONFIG):
            file.unlink()
    return trained


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def ours(folder: Path, **how: Any) -> torch.Tensor:
    return logits(load_weights(str(folder), OPTIONS, **{"dtype": torch.float32, "merged": True, **how}))


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def pefts(base: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(base, adapter)


def change(folder: Path, name: str, by: float = 1.0) -> None:
    weights = load_file(folder / name)
    save_file({key: part + by for key, part in weights.items()}, folder / name, metadata={"format": "pt"})


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_adapters_alone_are_left_and_are_what_peft_reads(trained: Path, base: Path) -> None:
    assert not {path.name for path in trained.iterdir()} & {"model.safetensors", "config.json"}
    assert {ADAPTER, CONFIG, LINEAGE, "tokenizer.json", "chat_template.jinja"} <= {p.name for p in trained.iterdir()}
    assert (trained / ADAPTER).stat().st_size < (base / "model.safetensors").stat().st_size / 3
    theirs, found = logits(pefts(plain(base), trained)), ours(trained)
    assert torch.allclose(theirs, found, atol=1e-5)
    assert not torch.allclose(found, logits(plain(base)), atol=1e-2), "nothing was learned"
    lineage = json.loads((trained / LINEAGE).read_text())
    assert lineage["parent"]["fingerprint"] == locate(str(base)).fingerprint
    assert lineage["settings"]["lora"]["rank"] == 4
    assert "peft" in lineage["versions"]


def test_adapters_alone_learn_and_in_float32_over_bfloat16(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(dsft={**DSFT, "dtype": "bfloat16", "lora": {**LORA, "targets": ["q_proj", "down_proj"]}})
    assert recipe.dsft is not None
    model, _ = load_for_training(locate(recipe.model), recipe.dsft, recipe=recipe, device="cpu")
    learned = {name: part.dtype for name, part in model.named_parameters() if part.requires_grad}
    assert set(learned.values()) == {torch.float32}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in learned} == {"q_proj", "down_proj"}
    frozen = {part.dtype for part in model.parameters() if not part.requires_grad}
    assert frozen == {torch.bfloat16}


def test_training_in_bfloat16_learns(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    stage = {**DDPO, "dtype": "bfloat16", "lora": PLAIN, "epochs": 5, "gradient_checkpointing": "selective"}
    ddpo(make_recipe(ddpo=stage), tmp_path / "out")
    log = log_of(tmp_path / "out")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=0.1)
    assert log[-1]["loss"] < 0.6


def test_ddpo_goes_on_from_an_adapter_merged_into_its_base(
    make_recipe: MakeRecipe, trained: Path, base: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(model=str(base), ddpo={**DDPO, "lora": PLAIN, "epochs": 5})
    after = tmp_path / "checkpoints" / "ddpo"
    made = ddpo(recipe, after, start=str(trained))
    log = log_of(after)
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[-1]["loss"] < 0.6
    assert made.lineage["parent"]["fingerprint"] == locate(str(trained)).fingerprint
    assert locate(str(after)).fingerprint == made.fingerprint
    theirs = pefts(pefts(plain(base), trained).merge_and_unload(), after)
    assert torch.allclose(logits(theirs), ours(after), atol=1e-5)
    assert torch.allclose(ours(after, merged=False), ours(after), atol=1e-5)
    assert json.loads((after / CONFIG).read_text())["base_model_name_or_path"] is None, "peft would leave out dSFT"


def test_a_finished_adapter_is_not_trained_again_even_with_its_base_elsewhere(
    make_recipe: MakeRecipe, trained: Path, base: Path
) -> None:
    before = (trained / LINEAGE).read_text()
    moved = base.rename(base.with_name("moved"))
    dsft(make_recipe(model=str(moved), dsft={**DSFT, "lora": LORA}), trained)
    assert (trained / LINEAGE).read_text() == before


def test_an_adapter_is_never_put_on_another_base(trained: Path, base: Path) -> None:
    change(base, "model.safetensors", 0.01)
    told = r"was trained on base \(sha256:\w{8}…\), and \S+base is another model \(sha256:\w{8}…\); put it back"
    with pytest.raises(UserError, match=told):
        locate(str(trained))
    with pytest.raises(UserError, match=told):
        load_model(str(trained), load_tokenizer(str(trained), OPTIONS), OPTIONS, device="cpu", dtype="float32")


def test_another_tokenizer_makes_another_base(trained: Path, base: Path) -> None:
    rewrite(base / "tokenizer_config.json", model_max_length=511)
    with pytest.raises(UserError, match="is another model"):
        locate(str(trained))


def test_a_base_moved_beside_its_adapter_is_found(trained: Path, base: Path) -> None:
    before = locate(str(trained))
    moved = base.rename(trained.parent / "base")
    assert base_of(trained).location == str(moved)
    assert locate(str(trained)).fingerprint == before.fingerprint


def test_a_base_may_be_named_anew_in_the_config(trained: Path, base: Path, tmp_path: Path) -> None:
    before = locate(str(trained))
    moved = base.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"its base base isn't found .* name its place as base_model_name_or_path"):
        locate(str(trained))
    rewrite(trained / CONFIG, base_model_name_or_path=str(moved))
    assert locate(str(trained)).fingerprint == before.fingerprint


def test_the_fingerprint_is_of_base_and_adapter(trained: Path, base: Path) -> None:
    before = locate(str(trained)).fingerprint
    names = json.loads((trained / CONFIG).read_text())["target_modules"]
    rewrite(trained / CONFIG, target_modules=names[::-1])
    assert locate(str(trained)).fingerprint == before
    rewrite(trained / CONFIG, lora_alpha=9)
    other = locate(str(trained)).fingerprint
    change(trained, ADAPTER)
    assert len({before, other, locate(str(trained)).fingerprint, locate(str(base)).fingerprint}) == 4


def test_a_foreign_adapter_goes_on_the_base_it_names_and_that_is_told(
    foreign: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = locate(str(foreign))
    assert source.note == "adapter, its base not checked"
    engine = open_engine(source, OPTIONS)
    assert engine.encode("a") == open_engine(str(base), OPTIONS).encode("a")
    (scored,) = engine.score([ScoreRequest("0", tuple(IDS[0, :4].tolist()), tuple(IDS[0, 4:].tolist()))])
    told = logits(pefts(plain(base), foreign)).log_softmax(-1)[0, 3:-1].gather(1, IDS[0, 4:, None]).sum()
    assert scored.log_prob == pytest.approx(told.item(), abs=1e-4)
    told_once = [line for line in capsys.readouterr().err.splitlines() if "can't be checked: no lineage.json" in line]
    assert len(told_once) == 1


def test_in_bfloat16_the_adapter_stays_beside_the_weights(trained: Path, base: Path) -> None:
    """Merged, steps smaller than a weight's last digit would be lost."""
    change(trained, ADAPTER, 1e-3)
    tokenizer = load_tokenizer(str(trained), OPTIONS)
    model = load_model(str(trained), tokenizer, OPTIONS, device="cpu", dtype="bfloat16").model
    weights = {name: part for name, part in model.named_parameters() if "lora_" not in name}
    expected = load_file(base / "model.safetensors")
    assert any("lora_" in name for name, _ in model.named_parameters())
    for name, part in expected.items():
        mine = weights.get(name, weights.get(name.replace(".weight", ".base_layer.weight")))
        assert mine is not None
        assert torch.equal(mine, part.to(torch.bfloat16))
    assert torch.allclose(logits(model).float(), ours(trained), atol=0.5)


def test_of_a_chain_the_missing_link_is_named(
    make_recipe: MakeRecipe, trained: Path, base: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(model=str(trained), dsft={**DSFT, "lora": LORA})
    dsft(recipe, tmp_path / "checkpoints" / "dsft2")
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"adapter \S+/dsft: its base base isn't found \(model directory \S+ does not"):
        locate(str(tmp_path / "checkpoints" / "dsft2"))


@pytest.mark.parametrize("what", ["name", "weights", "kind", "whole", "none"])
def test_what_is_no_adapter_of_its_base_is_told_in_one_sentence(trained: Path, base: Path, what: str) -> None:
    weights = load_file(trained / ADAPTER)
    if what == "name":
        weights = {key.replace("layers.1", "layers.7"): part for key, part in weights.items()}
        save_file(weights, trained / ADAPTER)
        told = "doesn't fit its base: only one of them has base_model.model.model.layers"
    elif what == "weights":
        (trained / ADAPTER).unlink()
        told = "adapter_model.safetensors is missing"
    elif what == "kind":
        rewrite(trained / CONFIG, peft_type="IA3")
        told = "peft_type is IA3; expected LORA"
    elif what == "whole":
        shutil.copy(base / "model.safetensors", trained)
        told = "holds an adapter and whole weights; keep one of them there"
    else:
        (trained / LINEAGE).unlink()
        rewrite(trained / CONFIG, base_model_name_or_path=None)
        told = r"its base  ?isn't found \(adapter_config.json names none\)"
    with pytest.raises(UserError, match=told):
        ours(Path(locate(str(trained)).location))


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (["q_pro"], "the model has no module q_pro. Did you mean q_proj"),
        (["lm_head"], "is the head"),
        (["mlp"], "mlp: can't all be adapted"),
    ],
)
def test_unfit_targets_are_told(make_recipe: MakeRecipe, tmp_path: Path, targets: list[str], told: str) -> None:
    recipe = make_recipe(dsft={**DSFT, "lora": {**LORA, "targets": targets}})
    with pytest.raises(UserError, match=f"lora.targets: .*{told}"):
        dsft(recipe, tmp_path / "out")


def test_restart_points_hold_what_learns_and_end_in_the_same_bits(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """With dropout, whose random numbers go on too."""
    recipe = make_recipe(dsft={**DSFT, "global_batch": 2, "micro_batch": 1, "save_minutes": 0, "lora": LORA})
    broken_after(3, recipe, tmp_path / "broken")
    (state,) = (load_file(p / "state.safetensors") for p in (tmp_path / ".broken-restart").glob("*3"))
    names = {name for name in state if not name.startswith("random/")}
    assert names
    assert all(".lora_" in name for name in names)
    assert sum(name.startswith("optimizer/") for name in names) == 3 * sum(n.startswith("weight/") for n in names)
    dsft(recipe, tmp_path / "broken")
    dsft(recipe, tmp_path / "whole")
    assert (tmp_path / "broken" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()


@pytest.mark.parametrize("how", [True, "selective"])
def test_what_is_computed_twice_changes_no_adapters_gradient(make_recipe: MakeRecipe, how: Any) -> None:
    found = []
    for checkpointing in (False, how):
        recipe = make_recipe(dsft={**DSFT, "gradient_checkpointing": checkpointing, "lora": PLAIN})
        assert recipe.dsft is not None
        model, _ = load_for_training(locate(recipe.model), recipe.dsft, recipe=recipe, device="cpu")
        tree = Tree(Example(tuple(IDS[0].tolist()), (True,) * IDS.shape[1]))
        Predictor(model.train(), pad=0)([tree]).log_probs.sum().backward()
        found.append({name: part.grad for name, part in model.named_parameters() if part.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any(part.abs().max() > 0 for part in found[0].values())
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, atol=1e-6), name


def test_vllm_says_what_to_do_with_an_adapter(trained: Path) -> None:
    (told,) = missing_for(str(trained), EngineOptions(engine="vllm"))
    assert "is an adapter, and vllm runs whole models here; use engine transformers" in told


def test_doctor_tells_the_base_and_whether_it_is_the_one(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_catalogue", lambda _: iter(()))

    def row() -> tuple[str, str]:
        done = CliRunner().invoke(app, ["doctor", "--model", str(trained), "--format", "json"], catch_exceptions=False)
        (found,) = (row for row in json.loads(done.stdout) if row["part"].startswith("base "))
        return found["state"], found["detail"]

    state, detail = row()
    assert state == "ok"
    assert detail.endswith("it was trained on it")
    (trained / LINEAGE).unlink()
    state, detail = row()
    assert state == "note"
    assert detail.endswith("can't be checked: no lineage.json")


def test_an_adapter_on_the_hub_comes_with_its_lineage(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    files = {path.name: path.read_bytes() for path in trained.iterdir()}
    commit = "0123456789" * 4
    info = {"id": "someone/lora", "sha": commit, "siblings": [{"rfilename": name} for name in files]}
    tree = [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for name, content in files.items()
    ]

    def reply(path: str) -> bytes | None:
        if path.startswith("/api/"):
            return json.dumps(tree if "/tree/" in path else info).encode()
        return files.get(path.rpartition("/")[2])

    with fake_hub(reply, commit=lambda: commit) as address:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # this hub is on this machine
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        files_at = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files_at)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("zephyr_bench.hub.reachable", lambda: True)
        source = locate("someone/lora")
    assert (source.name, source.fingerprint) == ("someone/lora", locate(str(trained)).fingerprint)
    assert torch.allclose(ours(Path(source.location)), ours(trained))


@pytest.fixture
def included(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for --include that declares packaged model `mine`, the tiny one; as if it were converted already."""
    package = tmp_path / "site" / "carries_mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "mine.gguf").write_bytes(b"a model")
    monkeypatch.syspath_prepend(str(package.parent))
    digest = hashlib.sha256(b"a model").hexdigest()
    declared = {"package": "carries-mine==1", "module": package.name, "file": "mine.gguf", "sha256": digest}
    folder = tmp_path / "included" / "trainers" / "models"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump({"description": "mine", "hub": "someone/mine", **declared}))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(tiny_model_dir, cache_folder() / "models" / f"mine-{digest[:16]}-1")
    return tmp_path / "included"


def test_a_base_that_only_an_included_folder_names_is_trained_on(
    make_recipe: MakeRecipe, included: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(
        model="mine",
        dsft={**DSFT, "lora": PLAIN},
        ddpo={**DDPO, "lora": PLAIN},
        decontaminate={"against": ["mt-bench-mini"]},
    )
    options = EngineOptions(device="cpu", include=(included,))
    with Store("sqlite://") as store:
        made = train_stages(recipe, options, store=store, out=tmp_path / "out", progress=QUIET).models
    assert made["ddpo"].lineage["parent"]["fingerprint"] == made["dsft"].fingerprint
    with pytest.raises(UserError, match="another model"):
        locate(made["ddpo"].location)
    tokenizer = tokenizer_of(made["dsft"], recipe, include=(included,))
    assert tokenizer.chat_template


def test_a_helper_process_knows_the_folders_that_name_a_base(included: Path) -> None:
    options = EngineOptions(device="cpu", include=(included,))
    model = locate("mine", include=options.include)
    assert unpack_engine(json.loads(json.dumps(pack_engine(model, options))))[1] == options


def test_a_reward_models_adapter_is_refused(trained: Path, tmp_path: Path) -> None:
    spec = {"kind": "reward-model", "description": "d", "model": str(trained)}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(spec))
    (told,) = open_judge(str(tmp_path / "judge.yaml")).missing()
    assert "is an adapter; merge it into its base first" in told


@pytest.mark.parametrize("stage", [{"lora": {**LORA, "quantize": "nf4"}}, {"optimizer": "paged_adamw_32bit"}])
def test_a_missing_bitsandbytes_is_told_before_any_work(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any]
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    assert requirements.recipe_parts(make_recipe(dsft=DSFT), OPTIONS, [], []) == []
    (told,) = requirements.recipe_parts(make_recipe(dsft={**DSFT, **stage}), OPTIONS, [], [])
    assert told == "bitsandbytes, for dsft in few bits: run `pip install 'zephyr-bench[qlora]'`"


@pytest.fixture
def quantized_recipe(make_recipe: MakeRecipe) -> Recipe:
    pytest.importorskip("bitsandbytes")
    stage = {"lora": {**LORA, "quantize": "nf4"}, "optimizer": "paged_adamw_32bit", "dtype": "float32"}
    steps = {"global_batch": 2, "micro_batch": 1, "save_minutes": 0}
    return make_recipe(dsft={**DSFT, **steps, **stage})


@pytest.mark.slow
def test_gradients_through_four_bits_are_those_of_the_weights_they_stand_for(quantized_recipe: Recipe) -> None:
    from bitsandbytes.functional import dequantize_4bit

    recipe, stage = quantized_recipe, quantized_recipe.dsft
    assert stage is not None
    assert stage.lora is not None
    model, _ = load_for_training(locate(recipe.model), stage, recipe=recipe, device="cpu")
    whole = stage.model_copy(update={"lora": stage.lora.model_copy(update={"quantize": None})})
    plain, _ = load_for_training(locate(recipe.model), whole, recipe=recipe, device="cpu")
    places = dict(plain.named_parameters())
    four_bits = [name for name, part in model.named_parameters() if part.dtype == torch.uint8]
    assert len(four_bits) == 14
    with torch.no_grad():
        for name, part in model.named_parameters():
            if part.dtype == torch.uint8:
                assert part.quant_state.nested, "constants are quantised too"
                places[name].copy_(dequantize_4bit(part.data, part.quant_state))
            else:
                places[name].copy_(part)
        for one in (model, plain):
            one.eval()  # no dropout
            for name, part in one.named_parameters():
                if ".lora_B." in name:
                    part.fill_(0.05)
    tree = Tree(Example(tuple(IDS[0].tolist()), (True,) * IDS.shape[1]))
    losses = []
    for one in (model, plain):
        losses.append(Predictor(one, pad=0)([tree]).log_probs.sum())
        losses[-1].backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    found = {name: part.grad for name, part in model.named_parameters() if part.requires_grad}
    for name, gradient in found.items():
        assert torch.allclose(gradient, places[name].grad, rtol=1e-4, atol=1e-5), name


@pytest.mark.slow
def test_four_bit_training_goes_on_to_the_same_bits_and_is_evaluated_on_whole_weights(
    quantized_recipe: Recipe, tmp_path: Path
) -> None:
    """bitsandbytes counts steps by an int, and keeps its states in memory of its own."""
    broken_after(3, quantized_recipe, tmp_path / "broken")
    dsft(quantized_recipe, tmp_path / "broken")
    made = dsft(quantized_recipe, tmp_path / "whole")
    assert (tmp_path / "broken" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    assert "bitsandbytes" in made.lineage["versions"]
    theirs = logits(pefts(plain(Path(quantized_recipe.model)), tmp_path / "whole"))
    assert torch.allclose(theirs, ours(tmp_path / "whole"), atol=1e-5)


@pytest.mark.slow
def test_ddpo_in_four_bits_goes_on_from_an_adapter_in_four_bits(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    stage = {"lora": {**LORA, "quantize": "nf4"}, "dtype": "bfloat16", "gradient_checkpointing": True}
    undropped = {**stage, "lora": {name: value for name, value in stage["lora"].items() if name != "dropout"}}
    recipe = make_recipe(dsft={**DSFT, **stage}, ddpo={**DDPO, **undropped, "epochs": 5})
    ddpo(recipe, tmp_path / "ddpo", start=dsft(recipe, tmp_path / "dsft").location)
    log = log_of(tmp_path / "ddpo")
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert log[-1]["loss"] < 0.6

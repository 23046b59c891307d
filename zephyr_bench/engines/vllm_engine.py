"""The engine `vllm`: a directory of safetensors or a hub id, run by vLLM's offline batch in a process of its own.

In: chats, rendered and encoded by the engine `transformers`, so that both ask with the same tokens. Out: each answer at
the step that ends it; what follows from it joins those under way. vLLM is imported with the weights, never before.
What it is asked for log-probabilities is vllm_scores.py's matter.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import count
from multiprocessing import active_children
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from zephyr_bench.engines import chat_tokens, loading
from zephyr_bench.engines.locate import hub_place
from zephyr_bench.engines.model_files import is_adapter
from zephyr_bench.engines.protocol import CompletionRequest, EngineOptions, FollowUp, ModelSource
from zephyr_bench.engines.quiet import quiet_transformers
from zephyr_bench.engines.score_inputs import of_nothing
from zephyr_bench.engines.token_texts import told_tokens
from zephyr_bench.engines.transformers_engine import TransformersEngine
from zephyr_bench.engines.vllm_scores import UNREAD, Abilities, scores, text_of
from zephyr_bench.errors import ServiceError, UserError
from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.records import Generation, GenerationRequest, Message, ScoredTokens, ScoreRequest

if TYPE_CHECKING:
    from zephyr_bench.engines.rows import Row

# what vLLM reads from the environment when it is imported; whoever set one of them meant it
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for results
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",  # it reports to its makers else
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would share our threads and the device
}
_CPU_KV_BYTES = 2 << 30  # vLLM would take nine tenths of the memory else; its VLLM_CPU_KVCACHE_SPACE goes before
_AS_FITS = -1  # vLLM's word for as many tokens as its memory holds, or for no limit
_SEEDS = 1 << 63  # it takes 64 bits, and -1 for no seed at all


class VllmEngine:
    """Generates, completes and scores with one causal language model."""

    def __init__(self, model: ModelSource, options: EngineOptions) -> None:
        self.model = model
        self._options = options
        self._texts = TransformersEngine(model, options)  # for its tokenizer and template: it loads no weights
        self._loaded: Any | None = None  # vllm's LLMEngine
        self._watch: subprocess.Popen[bytes] | None = None
        self._names = count()  # of requests; none is used twice, for word of an aborted one may come late

    def missing(self) -> list[str]:
        """What it lacks, a sentence each with what to do; no network, and nothing is imported."""
        if is_adapter(self.model.location):
            return [
                f"engine vllm: model {self.model.name} is an adapter, and vllm runs whole models here; "
                "use engine transformers, or merge it into its base first"
            ]
        if _vllm_version() is not None:
            return []
        return ['engine vllm: the vllm package is not installed; run `pip install "zephyr-bench[vllm]"`']

    @cached_property
    def fingerprint(self) -> str:
        self._check_installed()
        return fingerprint(
            {
                "model": self.model.fingerprint,
                "dtype": self._dtype,
                "backend": "vllm",
                "versions": [_vllm_version(), version("torch")],
                "chat_tokens": chat_tokens.VERSION,
            }
        )

    def generate(self, requests: Iterable[GenerationRequest], *, then: FollowUp | None = None) -> Iterator[Generation]:
        self._check_installed()
        tokenized = self._texts.tokenized
        first = self._texts.checked(map(tokenized, requests))
        return self._complete(first, lambda result: map(tokenized, then(result) if then else ()))

    def complete(self, requests: Iterable[CompletionRequest]) -> Iterator[Generation]:
        self._check_installed()
        return self._complete(self._texts.checked(requests), lambda _: [])

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[ScoredTokens]:
        self._check_installed()
        requests = list(requests)
        yield from filter(None, map(of_nothing, requests))
        texts = [text_of(request, self.max_length) for request in requests if request.continuation]
        if not texts:
            return
        longest = max(len(text.tokens) for text in texts)
        self._check_room(longest + 1, f"a text of {longest} tokens to score")
        yield from scores(texts, Abilities.of(self._engine), ask=self._ask, step=self._step, abort=self._abort)

    @property
    def max_length(self) -> int:
        return self._texts.max_length

    @property
    def longest_scored(self) -> int:
        return self._texts.max_length - UNREAD

    @property
    def start_token(self) -> int:
        return self._texts.start_token

    @property
    def end_token(self) -> int:
        return self._texts.end_token

    @property
    def chat_template(self) -> str | None:
        return self._texts.chat_template

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return self._texts.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, tokens: Iterable[int]) -> str:
        return self._texts.decode(tokens)

    def render(self, messages: Iterable[Message], *, add_generation_prompt: bool = True) -> str:
        return self._texts.render(messages, add_generation_prompt=add_generation_prompt)

    def close(self) -> None:
        if self._loaded is not None:
            atexit.unregister(self.close)
            self._loaded.engine_core.shutdown()  # ends the process that holds the weights
            self._loaded = None
            if self._watch is not None:
                self._watch.kill()
                self._watch.communicate()

    def _check_installed(self) -> None:
        for part in self.missing():
            raise UserError(f"{part}.")

    def _complete(
        self, requests: list[CompletionRequest], then: Callable[[Generation], Iterable[CompletionRequest]]
    ) -> Iterator[Generation]:
        """What `then` raises of a user's mistake is raised once what is under way has ended."""
        if not requests:
            return
        from zephyr_bench.engines.rows import Rows

        rows = Rows(then, self._texts.max_length)
        waiting = deque(map(rows.row, requests))
        under_way: dict[str, Row] = {}
        try:
            while waiting or under_way:
                while waiting:
                    row = waiting.popleft()
                    if row.known:
                        waiting.extend(row.following)
                    elif row.limit > 0:
                        under_way[self._begin(row)] = row
                    else:
                        result = Generation(row.request.key, "", "length", len(row.prompt), 0)
                        yield result
                        waiting.extend(rows.after(row, result))
                for output in self._step() if under_way else ():
                    row = under_way.pop(output.request_id)
                    result = self._result(row, output)
                    yield result
                    waiting.extend(rows.after(row, result))
        finally:
            self._abort(under_way)
        if rows.refused is not None:
            raise rows.refused

    def _begin(self, row: Row) -> str:
        self._check_room(
            row.longest,
            f"a prompt of {len(row.prompt)} tokens with an answer of up to {row.limit}",
            instead="ask for shorter answers, or ",
        )
        return self._ask(row.prompt, sampling_arguments(row.request, limit=row.limit, ends=self._end_tokens))

    def _check_room(self, tokens: int, what: str, *, instead: str = "") -> None:
        room = self._engine.model_config.max_model_len
        if tokens > room:
            raise UserError(
                f"model {self.model.name}: {what} needs more than the {room} tokens that vLLM has room for here; "
                f"{instead}leave it more of the device's memory."
            )

    def _ask(self, prompt: Sequence[int], arguments: dict[str, Any]) -> str:
        """Asks vLLM, which takes up by itself what has to wait for a place. Returns its name there."""
        engine = self._engine
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        name = str(next(self._names))
        params = SamplingParams(**arguments, output_kind=RequestOutputKind.FINAL_ONLY)
        engine.add_request(name, {"type": "token", "prompt_token_ids": list(prompt)}, params)
        return name

    def _abort(self, names: Iterable[str]) -> None:
        if self._loaded is not None and (names := list(names)):
            self._loaded.abort_request(names)

    def _step(self) -> Iterator[Any]:
        """vLLM's RequestOutput of each request that ended at this step."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            outputs = self._engine.step()
        except EngineDeadError:
            self.close()
            raise ServiceError(
                f"model {self.model.name}: vLLM's process ended in the middle of its work; its messages say why, "
                "and what was answered before is kept."
            ) from None
        for output in outputs:
            if output.finished:
                (completion,) = output.outputs
                if completion.finish_reason not in ("stop", "length"):
                    raise ServiceError(f"model {self.model.name}: vLLM gave an answer up ({completion.finish_reason}).")
                yield output

    def _result(self, row: Row, output: Any) -> Generation:
        (completion,) = output.outputs
        made: Sequence[int] = completion.token_ids
        if isinstance(completion.stop_reason, str):
            text = before_stop(self._decode(made), row.request.sampling.stop)
        else:
            text = self._decode(made[:-1] if completion.finish_reason == "stop" else made)
        likeliest = [{token: told.logprob for token, told in place.items()} for place in completion.logprobs or ()]
        told = tuple(told_tokens(self._tokenizer, made, likeliest))
        return Generation(row.request.key, text, completion.finish_reason, len(row.prompt), len(made), told)

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    @cached_property
    def _dtype(self) -> str:
        device = self._options.device
        return loading.resolve_dtype(
            self._options.dtype, loading.resolve_device(device) if device == "auto" else device
        )

    @cached_property
    def _tokenizer(self) -> Any:
        return loading.load_tokenizer(self.model.location, self._options)

    @cached_property
    def _end_tokens(self) -> frozenset[int]:
        """Those of the generation config that transformers loads beside the weights, and the tokenizer's own."""
        own = self._tokenizer.eos_token_id
        declared = loading.config_ends(self.model.location, self._options)
        return declared.union(() if own is None else (own,))

    @property
    def _engine(self) -> Any:
        if self._loaded is None:
            before = set(active_children())
            self._loaded = self._start()
            self._watch = _ended_with_us(child.pid for child in active_children() if child not in before)
            atexit.register(self.close)  # before multiprocessing's own, which would wait for vLLM's process for ever
        return self._loaded

    def _start(self) -> Any:
        """vLLM's LLMEngine with the weights. Raises UserError for what can't be read or run."""
        dtype = self._dtype
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm import LLM
        from vllm.platforms import current_platform

        device = current_platform.device_type
        if self._options.device not in ("auto", device):
            raise UserError(
                f"--device {self._options.device}: this vLLM ({_vllm_version()}) runs on {device or 'no device'} here; "
                "leave --device out, and choose among several GPUs by CUDA_VISIBLE_DEVICES."
            )
        # compiling takes longer than it saves on a CPU
        on_cpu = {"enforce_eager": True, "kv_cache_memory_bytes": _CPU_KV_BYTES} if device == "cpu" else {}
        rows = {} if self._options.batch_size is None else {"max_num_seqs": self._options.batch_size}
        try:
            with quiet_transformers():
                place, revision = hub_place(self.model.location)
                return LLM(
                    model=place,
                    revision=revision,
                    tokenizer_revision=revision,
                    dtype=dtype,
                    trust_remote_code=self._options.trust_remote_code,
                    load_format="safetensors",  # a pickle can run code
                    generation_config="vllm",  # end tokens come with each request; of the rest nothing is wanted
                    max_model_len=_AS_FITS,
                    max_logprobs=_AS_FITS,
                    use_tqdm_on_load=False,
                    **on_cpu,
                    **rows,
                ).llm_engine
        except ValidationError as error:
            raise self._not_loaded(error.errors()[0]["msg"]) from error
        except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
            raise self._not_loaded(str(error).strip() or type(error).__name__) from error

    def _not_loaded(self, reason: str) -> UserError:
        return UserError(f"model {self.model.location} can't be loaded by vLLM: {reason.splitlines()[0]}")


def sampling_arguments(request: CompletionRequest, *, limit: int, ends: Iterable[int]) -> dict[str, Any]:
    """vLLM's SamplingParams, by keyword. Ours cuts the text at stop strings; vLLM reads along only to know when."""
    sampling = request.sampling
    chance = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed % _SEEDS}
    return {
        **(chance if sampling.temperature > 0 else {"temperature": 0.0}),
        "max_tokens": limit,
        "stop_token_ids": sorted(ends),
        "stop": list(sampling.stop),
        "detokenize": bool(sampling.stop),
        "logprobs": request.top_logprobs or None,
    }


def before_stop(text: str, stops: Iterable[str]) -> str:
    """The text up to the first of the stop strings."""
    return text[: min((text.index(stop) for stop in stops if stop in text), default=None)]


def _ended_with_us(processes: Iterable[int | None]) -> subprocess.Popen[bytes]:
    """Ends these processes once this one has died, be it of kill -9: they would live on, and hold the memory."""
    pids = " ".join(map(str, processes))
    command = ["sh", "-c", f"read _; kill {pids}"]  # reads until the other end of the pipe is gone with us
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def _vllm_version() -> str | None:
    """Of what is installed; vLLM for other devices than GPUs is distributed under other names."""
    try:
        return version("vllm")
    except PackageNotFoundError:
        return next(map(version, packages_distributions().get("vllm", ())), None)

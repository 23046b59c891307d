"""A third party's judge: a package of its own, built and installed, found by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "length-judge"
version = "1.0"

[project.entry-points."zephyr_bench.judges"]
length = "length_judge:LengthJudge"

[tool.setuptools]
py-modules = ["length_judge"]
"""
MODULE = '''
from typing import Literal

from zephyr_bench.fingerprint import fingerprint
from zephyr_bench.judges.protocol import refuse_server
from zephyr_bench.recipe import Entry
from zephyr_bench.records import Judgment


class LengthSpec(Entry):
    kind: Literal["length"]
    description: str
    wanted: int


class LengthJudge:
    """Ten for an answer of the wanted length, less for each character beside it."""

    Spec = LengthSpec

    def __init__(self, spec, *, name, folder, options):
        refuse_server(name, options)
        self.name = name
        self.wanted = spec.wanted
        self.fingerprint = fingerprint({"kind": "length", "wanted": spec.wanted})

    def missing(self):
        return []

    def cost_usd(self, input_tokens, output_tokens):
        return 0.0

    def grade(self, matches):
        for match in matches:
            own, rival = (self.off(side) for side in (match.answers, match.rival))
            score = max(1.0, 10.0 - own) if rival is None else 0.5 if own == rival else float(own < rival)
            yield Judgment(match.key(self.fingerprint), self.name, score)

    def off(self, answers):
        return None if answers is None else abs(len(answers[-1].text or "") - self.wanted)
'''
YAML = "kind: length\ndescription: likes answers of one length\nwanted: 12\n"
CHECKS = """
from zephyr_bench.judges import open_judge
from zephyr_bench.testing.judges import CHECKS, pair, single

for check in CHECKS:
    check(lambda: open_judge("length.yaml"), [single("Q?", "twelve chars"), pair("Q?", "one", "another one")])
print(len(CHECKS), open_judge("length.yaml").grade([single("Q?", "twelve chars")]).__next__().score)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package's sources, its YAML, and `site` where it is installed."""
    folder = tmp_path_factory.mktemp("plug-in")
    for name, text in (("pyproject.toml", PYPROJECT), ("length_judge.py", MODULE), ("length.yaml", YAML)):
        (folder / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(folder)], check=True, capture_output=True, text=True)
    return folder


def in_its_place(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_passes_the_conformance_suite(installed: Path) -> None:
    done = in_its_place(installed, sys.executable, "-c", CHECKS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "10.0"
    assert int(done.stdout.split()[0]) >= 5


def test_it_judges_from_the_command_line(installed: Path, tiny_model_dir: Path) -> None:
    command = str(Path(sys.executable).with_name("zephyr-bench"))
    words = ["mtbench", "--benchmark", "mt-bench-mini", "--limit", "2", "--model", str(tiny_model_dir)]
    done = in_its_place(installed, command, *words, "--judge", "length.yaml", "--store", "sqlite:///s.db")
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout


def test_without_the_package_the_kind_is_unknown(installed: Path) -> None:
    command = str(Path(sys.executable).with_name("zephyr-bench"))
    words = [command, "mtbench", "--model", "smollm2-135m-instruct", "--judge", str(installed / "length.yaml")]
    done = subprocess.run([*words, "--dry-run"], cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown kind 'length'" in done.stderr

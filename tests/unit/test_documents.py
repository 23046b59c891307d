"""Commands and links that the documents show are ones that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(
    r"(?:^|`|/| )zephyr-bench ((?:(?:runs|store|import|export) )?[a-z][a-z-]*)((?: [^`\n#]*)?)", re.MULTILINE
)


def options_of(command: str) -> str:
    """The generated reference of a command; `make lint` keeps it true to --help."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = re.search(rf"^## zephyr-bench {re.escape(command)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"no command '{command}'"
    return section[1]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_every_option_that_is_shown_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    for command, rest in COMMAND.findall("\n".join(fenced or inline for fenced, inline in code)):
        known = options_of(command)
        for option in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", known), f"zephyr-bench {command} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_path_in_the_readmes_table_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("## Where things are") :]
    for path in re.findall(r"`([\w/.]+(?:/|\.py))`", table):
        assert (ROOT / path).exists(), path

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zephyr_bench.judges.python_process import passes

RIGHT = "def f(x):\n    return 2 * x\n"


def test_right_code_passes() -> None:
    assert passes(RIGHT, ["assert f(2) == 4", "assert f(0) == 0 and f('a') == 'aa'"])


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return 5\n",
        "def f(x:\n",
        "",
        RIGHT + "raise SystemExit(0)\n",
        RIGHT + "import os; os._exit(0)\n",
    ],
    ids=["wrong", "syntax", "empty", "exit", "hard-exit"],
)
def test_wrong_code_fails(code: str) -> None:
    assert not passes(code, ["assert f(2) == 4"])


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()\n",
        "class A:\n    def __repr__(self): return '4 if 1 else 0'\ndef f(x): return A()\n",
        "import sys\nprint('[\"4\"]')\ndef f(x): return 0\n",
        "import builtins\nbuiltins.repr = lambda value: '5'\ndef f(x): return 0\n",
        "import json\njson.dumps = lambda value: 'true'\ndef f(x): return 0\n",
        "import os\nfor fd in range(3, 16):\n"
        "    try: os.write(fd, b'[true]')\n    except OSError: pass\ndef f(x): return 0\n",
    ],
    ids=["equal-to-all", "forged-repr", "printed", "patched-repr", "patched-json", "written-to-the-pipe"],
)
def test_a_forged_verdict_is_none(code: str) -> None:
    assert not passes(code, ["assert f(2) == 4"])


def test_true_is_not_one_where_identity_is_asked() -> None:
    assert passes("def f(x): return True", ["assert f(1) is True"])
    assert not passes("def f(x): return 1", ["assert f(1) is True"])


def test_an_endless_loop_is_ended() -> None:
    started = time.monotonic()
    assert not passes("while True:\n    pass\n", ["assert f(2) == 4"], seconds=1)
    assert time.monotonic() - started < 30


def test_memory_is_limited() -> None:
    assert not passes("x = bytearray(4 << 30)\ndef f(x): return 4\n", ["assert f(2) == 4"])


def test_no_file_is_written(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    code = f"import os\nfile = open({str(target)!r}, 'w')\nfile.write('x' * 10000)\nfile.flush()\n{RIGHT}"
    assert not passes(code, ["assert f(2) == 4"])
    assert not target.exists() or target.read_text() == ""


@pytest.mark.parametrize(
    "deed",
    [
        "os.remove(PATH)",
        "open(PATH, 'w').close()",
        "os.truncate(PATH, 0)",
        "os.rename(PATH, PATH + '.gone')",
        "open(PATH).read()",
        "os.system('true')",
        "os.fork()",
        "__import__('subprocess').run(['true'])",
        "__import__('ctypes').CDLL(None)",
        "__import__('socket').socket()",
    ],
)
def test_a_deed_beyond_computing_is_refused(deed: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    code = f"import os\nPATH = {str(victim)!r}\n{deed}\n{RIGHT}"
    assert not passes(code, ["assert f(2) == 4"])
    assert victim.read_text() == "precious"


def test_a_child_that_runs_away_holds_nobody_up() -> None:
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n" + RIGHT
    started = time.monotonic()
    passes(code, ["assert f(2) == 4"])
    assert time.monotonic() - started < 20


def test_the_standard_library_is_there() -> None:
    code = "import collections, re, math, itertools, json, random, datetime, dataclasses, statistics\n" + RIGHT
    assert passes(code, ["assert f(2) == 4"])


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert passes("import os\ndef f(): return os.environ.get('OPENAI_API_KEY')", ["assert f() is None"])

from __future__ import annotations

import socket
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


def test_no_child_process_survives(tmp_path: Path) -> None:
    code = "import os, time\nif os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)\n" + RIGHT
    started = time.monotonic()
    passes(code, ["assert f(2) == 4"], seconds=1)
    assert time.monotonic() - started < 20


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert passes("import os\ndef f(): return os.environ.get('OPENAI_API_KEY')", ["assert f() is None"])


def test_nothing_listens_to_it() -> None:
    """Where the kernel gives a namespace of its own there is no network, not even this machine's."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1)\n{RIGHT}"
        if passes(code, ["assert f(2) == 4"]):
            pytest.skip("this kernel gives users no network namespace")

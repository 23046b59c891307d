"""The inside of python_process.py: limits itself, runs the code, tells what the expressions are worth.

Run as a script by an isolated interpreter; imports nothing of this package.
"""

import ctypes
import json
import os
import resource
import sys

_MEMORY = 1 << 30
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def _limit(seconds: float) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def main() -> None:
    pipe = int(sys.argv[1])
    job = json.load(sys.stdin)
    # where the kernel allows it: no network, and a user of its own, so that RLIMIT_NPROC binds root as well
    ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _limit(job["seconds"])
    space: dict[str, object] = {"__name__": "answer"}
    exec(compile(job["code"], "answer", "exec"), space)
    values = [repr(eval(expression, space)) for expression in job["expressions"]]
    os.write(pipe, json.dumps(values).encode())


main()

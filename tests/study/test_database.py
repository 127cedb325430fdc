"""A real PostgreSQL, restarted while a search is under way."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

import nas_space as ns
from tests.problems import Various, slow_worth, worth

pytestmark = pytest.mark.slow


def binaries():
    """Where PostgreSQL's programs are; ``None`` if they are not."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]
    on_path = shutil.which("pg_ctl")
    candidates = [Path(on_path)] if on_path else sorted(found)
    return candidates[-1].parent if candidates else None


class Server:
    """A server in a folder of its own, run by an ordinary user."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = binaries()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self.run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "searcher", "--no-sync",
            "-E", "UTF8", "--locale=C",
        )  # fmt: skip

    def run(self, program, *arguments):
        subprocess.run(
            [str(self.programs / program), *arguments], check=True, user=self.user,
            stdout=subprocess.DEVNULL, cwd=self.folder, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = f"{self.folder}/log"
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-l", log, "-w", "-o", options, "start")

    def stop(self, mode):
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-m", mode, "-w", "stop")

    @property
    def address(self):
        return f"postgresql+psycopg://searcher@127.0.0.1:{self.port}/postgres"


@pytest.fixture
def server():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: `make services`")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Server(folder)
        made.start()
        yield made
        made.stop("immediate")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_is_restarted_is_waited_for(mode, server):
    def restart(_study, trial):
        if trial.user_attrs["number"] == 5:
            server.stop(mode)
            threading.Timer(1.0, server.start).start()

    result = ns.search(
        Various(), slow_worth, trials=15, storage=server.address, callbacks=[restart]
    )
    assert [outcome.number for outcome in result.outcomes] == list(range(15))
    whole = ns.search(Various(), worth, trials=15)
    assert [o.arch for o in result.outcomes] == [o.arch for o in whole.outcomes]

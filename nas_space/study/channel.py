"""The line from a process that evaluates to the driver, which says whether a trial may go on.

A process that was sent a trial connects to the driver that sent it, tells what the trial reports,
and is answered whether to go on.  Messages are JSON, so nothing that comes over the line is
unpickled; who connects must know a key that was sent with the trials.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    answer_challenge,
    deliver_challenge,
)

from ..errors import StorageError

__all__ = ["PruningClient", "PruningServer"]

_LONGEST = 1000
"""Bytes of a message."""

_LINES: dict[tuple[bytes, int, int], Connection] = {}
"""The lines that are open, by their keys, processes and threads: each has a line of its own, or one
would read what another is answered; a process that was forked has inherited lines of others."""


@dataclass(frozen=True)
class PruningClient:
    """How a process reaches the driver.

    Attributes
    ----------
    hosts, port
        Where the driver may be reached.
    key
        What proves that the trials are its.
    """

    hosts: tuple[str, ...]
    port: int
    key: bytes

    def asking(self, attempt: int) -> Callable[[float, int], bool]:
        """Return what tells the driver a value of a trial, and whether the trial is to end."""

        def ask(value: float, step: int) -> bool:
            mine = self.key, os.getpid(), threading.get_ident()
            line = _LINES.pop(mine, None) or self._connected()
            try:
                line.send_bytes(json.dumps([attempt, value, step]).encode())
                answer = bool(json.loads(line.recv_bytes(_LONGEST)))
            except (OSError, EOFError) as error:
                line.close()
                raise StorageError(
                    f"the process that leads the search answers no more ({error!r}), so it cannot "
                    "be asked whether the trial is to be stopped early"
                ) from error
            _LINES[mine] = line
            return answer

        return ask

    def _connected(self) -> Connection:
        for other in [each for each in list(_LINES) if each[0] != self.key]:
            if line := _LINES.pop(other, None):  # of a search that is over, or else made again
                line.close()
        for host in self.hosts:
            with suppress(OSError, AuthenticationError):
                return Client((host, self.port), authkey=self.key)
        raise StorageError(
            f"the process that leads the search is not reached at {' or '.join(self.hosts)}, port "
            f"{self.port}, to ask whether a trial is to be stopped early; search without a pruner, "
            "or where machines reach each other"
        )


class PruningServer:
    """Answers processes that evaluate, as long as a search lasts.

    Parameters
    ----------
    decide
        Takes a trial, a value and a step; gives whether the trial is to end.
    local
        Whether only processes of this machine may connect.
    """

    def __init__(self, decide: Callable[[int, float, int], bool], *, local: bool) -> None:
        self._decide = decide
        self._key = secrets.token_bytes(32)
        self._socket = socket.create_server(("127.0.0.1" if local else "", 0))
        port = int(self._socket.getsockname()[1])
        hosts = ("127.0.0.1",) if local else _own_addresses()
        self.client = PruningClient(hosts, port, self._key)
        self._lines: list[Connection] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                line = Connection(self._socket.accept()[0].detach())
                self._lines.append(line)
                threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _answer(self, line: Connection) -> None:
        with suppress(AuthenticationError, OSError, EOFError, ValueError, TypeError), line:
            deliver_challenge(line, self._key)
            answer_challenge(line, self._key)
            while True:
                attempt, value, step = json.loads(line.recv_bytes(_LONGEST))
                decided = self._decide(int(attempt), float(value), int(step))
                line.send_bytes(json.dumps(bool(decided)).encode())

    def close(self) -> None:
        """Answer no more."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._socket.close()
        for line in self._lines:
            with suppress(OSError):
                line.close()


def _own_addresses() -> tuple[str, ...]:
    """Return where this machine may be reached: by others, by its name, and by itself."""
    found = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: says which address would be used
        found.append(probe.getsockname()[0])
    return (*dict.fromkeys(found), socket.gethostname(), "127.0.0.1")

"""Storages that fail in the midst: one error, that names the address and never a password."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import traceback

import optuna
import pytest

import nas_space as ns
from nas_space.cli import main
from nas_space.errors import StorageError, UsageError
from nas_space.runs.folder import RunFolder
from nas_space.study import load_search, report, storage
from nas_space.study.passwords import hidden, without_password
from nas_space.study.storage import reading
from tests.problems import Various, worth

SECRET = "s3cretW0rd"  # noqa: S105 - of nothing


def told(error):
    """All that a traceback prints of an error."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ada:PW@host:5432/x", "postgresql://ada:***@host:5432/x"),
        ("postgresql+psycopg://ada:PW@host/x", "postgresql+psycopg://ada:***@host/x"),
        ("redis://:PW@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://ada:P@/:?#W@host:6379/0", "rediss://ada:***@host:6379/0"),
        ("mysql://host/x?user=ada&password=PW", "mysql://host/x?user=ada&password=***"),
        ("mysql://host/x?passwd=PW&charset=utf8", "mysql://host/x?passwd=***&charset=utf8"),
        ("postgresql://ada@host/x", "postgresql://ada@host/x"),
        ("postgresql://host:5432/x", "postgresql://host:5432/x"),
        ("postgresql:/ada:PW@host/x", "postgresql:/ada:***@host/x"),
        ("sqlite:///C:/runs/search.db", "sqlite:///C:/runs/search.db"),
        ("runs/a:b@c.db", "runs/a:b@c.db"),
        ("C:/runs/a:b@c.db", "C:/runs/a:b@c.db"),
    ],
)
def test_passwords_of_addresses_are_hidden(address, shown):
    assert without_password(address) == shown


def test_a_drivers_words_are_told_without_the_password():
    address = "postgresql://ada:ab%40c/d@host/x"
    for words in (f"no such host in {address}", "login 'ab@c/d' failed", "port 'ab%40c' is none"):
        assert not re.search(r"ab@c|ab%40c", hidden(words, address))
    assert hidden("a disk is full", address) == "a disk is full"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql+psycopg://ada:{SECRET}@127.0.0.1:1/none",
        f"nosuchthing://ada:{SECRET}@host/x",
        f"postgresql://ada:{SECRET}/more@host/x",
        f"postgresql://ada:{SECRET}:more@host/x",
        f"redis://ada:{SECRET}/more@127.0.0.1:1/0",
        f"mysql://127.0.0.1:1/x?password={SECRET}",
    ],
)
@pytest.mark.parametrize("look_up", [
    lambda address: ns.search(Various(), worth, trials=2, storage=address), load_search,
    lambda address: main(["show", address]),
    lambda address: main(["show", address.replace("://", ":/")]),
])  # fmt: skip
def test_no_password_is_told_of_an_address_that_does_not_answer(
    address, look_up, capfd, monkeypatch
):
    monkeypatch.setattr(storage, "_PAUSES", ())
    with pytest.raises((StorageError, SystemExit)) as raised:
        look_up(address)
    assert SECRET not in told(raised.value)
    assert isinstance(raised.value, SystemExit) or "***" in str(raised.value)
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err


def test_damage_in_a_database_is_told_without_its_password():
    address = f"postgresql://ada:{SECRET}@host/x"
    for failure in (StorageError("trial 3 is damaged"), LookupError(f"no {address}")):
        with pytest.raises(StorageError, match=r"\*\*\*@host") as raised, reading(address):
            raise failure
        assert SECRET not in told(raised.value)


def test_a_run_that_keeps_its_trials_elsewhere_hides_the_password(tmp_path):
    folder = RunFolder(tmp_path / "run", resume=False)
    address = f"postgresql://ada:{SECRET}@host/x"
    settings = {"fingerprint": "f", "storage": address}
    folder.claim(settings, {}, ())
    again = RunFolder(tmp_path / "run", resume=True)
    with pytest.raises(
        UsageError, match=r"storage is 'postgresql://ada:\*\*\*@host/x' there"
    ) as no:
        again.claim({**settings, "storage": f"postgresql://ada:{SECRET}@other/x"}, {}, ())
    assert SECRET not in str(no.value)
    # Who has changed the password meanwhile goes on.
    changed = address.replace(SECRET, "another")
    again.claim({**settings, "storage": changed}, {}, ())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["storage"] == changed


class EngineError(Exception):
    """What an engine raises that this library does not know."""


CALLS = [
    "create_new_trial", "set_trial_user_attr", "set_trial_state_values", "get_all_trials",
    "get_trial", "set_trial_intermediate_value", "get_trial_number_from_id",
    "create_new_study", "set_study_user_attr",
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "workers"), [*((call, 1) for call in CALLS), ("set_trial_state_values", 2)]
)
def test_an_engine_that_fails_is_told_as_a_storage_that_fails(call, workers, monkeypatch):
    engine = optuna.storages.InMemoryStorage()
    count = 0

    def down(*arguments, **named):
        nonlocal count
        count += 1
        if count > (0 if "study" in call else 3):
            raise EngineError("the engine is gone")
        return whole(*arguments, **named)

    whole = getattr(engine, call)
    monkeypatch.setattr(engine, call, down)

    with pytest.raises(StorageError, match=r"InMemoryStorage.*the engine is gone; check that"):
        ns.search(Various(), reporting, trials=8, storage=engine, workers=workers)


def reporting(_network, arch):
    report(worth(None, arch), 0)
    return worth(None, arch)


@pytest.mark.parametrize("name", ["search.db", "search.journal"])
@pytest.mark.parametrize("at", [2, 7])
def test_a_folder_that_vanishes_in_the_midst_ends_the_search(name, at, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()

    def vanishes(_study, trial):
        if trial.number == at:
            shutil.rmtree(folder)

    with pytest.raises(StorageError, match=re.escape(str(folder / name))):
        ns.search(
            Various(), worth, trials=8, storage=folder / name, callbacks=[vanishes], keep_networks=0
        )


def test_a_callback_that_fails_is_not_told_as_the_storage():
    def callback(_study, _trial):
        raise EngineError("a callback")

    with pytest.raises(EngineError):
        ns.search(
            Various(), worth, trials=3, storage=optuna.storages.InMemoryStorage(),
            callbacks=[callback],
        )  # fmt: skip


def test_a_redis_that_ends_in_the_midst_is_a_storage_that_fails(tmp_path):
    pytest.importorskip("redis", reason="redis is not installed")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [program, "--port", str(port), "--requirepass", SECRET, "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    address = f"redis://:{SECRET}@127.0.0.1:{port}/0"
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        found = ns.search(Various(), worth, trials=4, storage=address)
        assert [o.arch for o in load_search(address).outcomes] == [o.arch for o in found.outcomes]
        with pytest.raises(StorageError, match=r"redis://:\*\*\*@127") as wrong:
            load_search(address.replace(SECRET, "WrOng"))
        assert "WrOng" not in str(wrong.value)

        def ends(_study, trial):
            if trial.number == 5:
                server.kill()
                server.wait()

        with pytest.raises(StorageError, match=r"redis://:\*\*\*@127.*check that") as raised:
            ns.search(Various(), worth, trials=9, storage=address, resume=True, callbacks=[ends])
        assert SECRET not in told(raised.value)
    finally:
        server.kill()
        server.wait()

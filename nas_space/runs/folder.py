"""``RunFolder``: the folder of a run, with the settings that it was begun with."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import StorageError, UsageError
from ..files import replacing, writing
from ..schema import checked
from ..study import signs
from ..study.fingerprint import differences
from ..study.passwords import without_password
from .contents import SettingsFile
from .files import read_json, write_json
from .plan import Plan

__all__ = [
    "COMPRESSED",
    "COMPRESSION",
    "DECISIONS",
    "EXPORTS",
    "ONE_SHOT_STATE",
    "STUDY",
    "UNFINISHED",
    "WORKER_FILE",
    "RunFolder",
    "settings_of",
]

STUDY = "study.db"
"""The file that holds the trials, unless the plan names another storage."""

ONE_SHOT_STATE = "work/search.safetensors"
"""The file with the state of a one-shot search."""

COMPRESSION = "compress"
"""What stands for the strategy in the settings of a compression."""

EXPORTS = "exports.json"
COMPRESSED = "compressed.json"
"""The file with what a compression has found."""

DECISIONS = "decisions.json"
"""The file with what was decided where in the winner: the rows of its picture."""

WORKER_FILE = "work/worker"
"""The file that names the process which works at the run, or did last."""


UNFINISHED = "work/unfinished"
"""The file that stands for files which are still to be written, pictures included."""


class RunFolder:
    """The folder of a run: all that the run needs to go on, and what it has found.

    Parameters
    ----------
    path
        The folder; made by :meth:`claim`.
    resume
        Whether to go on with a run that is there.

    Raises
    ------
    UsageError
        The folder holds a run and ``resume`` is not given, or something else.
    """

    def __init__(self, path: Path | str, *, resume: bool) -> None:
        self.path = Path(path)
        self.work = self.path / "work"
        self.there = settings_of(self.path)
        if self.there is not None and not resume:
            raise UsageError(
                f"{path} holds a run already; go on with it by --resume, or choose another --out"
            )
        if self.there is None and self.path.is_dir() and not self._is_hardly_begun():
            raise UsageError(f"{path} holds other files; choose another --out")

    def claim(
        self, settings: Mapping[str, Any], described: Mapping[str, Any], flexible: Collection[str]
    ) -> None:
        """Make the folder that of a run, after comparing it with the run that is there.

        Parameters
        ----------
        settings
            Of the run.
        described
            Its space, as :func:`nas_space.study.describe` gives it.
        flexible
            The settings that may differ from those of the run in the folder.

        Raises
        ------
        UsageError
            The run there is of another space, or has other settings; nothing is written then.
        """
        # In the form in which a file gives them back, where tuples are lists, to compare like with
        # like. A setting that an earlier version did not write is not compared.
        here = json.loads(json.dumps({**settings, "described": described}))
        if self.there is not None:
            self._compare(self.there, here, flexible)
        # The mark comes before the settings: where a finished run is to go on with more trials, its
        # files are those of fewer from here on. A process that is killed in between leaves a folder
        # without settings, which is as good as an empty one.
        with writing(self.path):
            self.work.mkdir(parents=True, exist_ok=True)
            (self.path / UNFINISHED).touch()
        write_json(self.path / "run.json", here)
        with replacing(self.path / WORKER_FILE) as file:
            file.write_text(signs.new_name(), encoding="utf-8")

    def _is_hardly_begun(self) -> bool:
        """Tell whether there is nothing but what :meth:`claim` writes before the settings."""
        begun = (self.work, self.path / UNFINISHED)
        found = (*self.path.iterdir(), *self.work.glob("*"))
        return all(each in begun or each.name.startswith(".run.json.") for each in found)

    def _compare(
        self, there: Mapping[str, Any], here: Mapping[str, Any], flexible: Collection[str]
    ) -> None:
        if there.get("fingerprint") != here["fingerprint"]:
            what = differences(there.get("described", {}), here["described"])
            raise UsageError(
                f"the run in {self.path} is of another space: {'; '.join(what)}; go on with the "
                "space as it was, or begin anew in another --out"
            )
        # Of a storage, the password may have been changed since; it is not told, either.
        there, here = (
            {k: without_password(v) if k == "storage" and v else v for k, v in settings.items()}
            for settings in (there, here)
        )
        differing = [k for k in here if k not in flexible and k in there and there[k] != here[k]]
        if differing:
            raise UsageError(
                f"the run in {self.path} has other settings: "
                + ", ".join(f"{k} is {there[k]!r} there, {here[k]!r} here" for k in differing)
            )

    def finish(self) -> None:
        """Note that every file of the run is written."""
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def checkpoint(self, training: str) -> Path:
        """Return the file with the state of a training, by the name of it."""
        return self.work / f"{training.replace(' ', '-')}.safetensors"


class RunSettings(dict[str, Any]):
    """The settings in a file; one that is missing means that the file is damaged."""

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise StorageError(f"{self.file} is damaged: {key} is missing; restore a copy")


def settings_of(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the run in a folder; ``None`` if there is no run.

    Those of earlier versions are given in today's form: ``recipe`` is one with the others, and
    ``max_macs`` and ``max_latency`` are ``budgets``.

    Raises
    ------
    StorageError
        They cannot be read, or one is of another type than it can be.
    UsageError
        The folder is a file.
    """
    file = folder / "run.json"
    if folder.is_file():
        raise UsageError(f"{folder} is a file, and a run is a folder")
    if not file.exists():
        return None
    found = read_json(file, SettingsFile)
    found = RunSettings(file, {**found, **checked(found.pop("recipe", {}), SettingsFile, file)})
    plan = [each.name for each in fields(Plan) if each.name in found]
    checked({name: found[name] for name in plan}, Plan, file)
    limits = {name: found.pop(f"max_{name}", None) for name in ("macs", "latency")}
    found.setdefault("budgets", {k: limit for k, limit in limits.items() if limit is not None})
    return found

"""``StoredRun``: a search that is stored, looked at without doing anything of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from optuna.trial import TrialState

from ..errors import StorageError, UsageError, suggest
from ..schema import checked
from ..strategy.base import unrestricted
from ..study import SearchResult, describe, load_search, signs
from ..study.definition import SearchDefinition
from ..study.fingerprint import Described, differences
from ..study.passwords import without_password
from ..study.shared_ledger import WORKER
from ..study.snapshot import snapshot
from ..study.storage import file_of, reading
from .contents import Compressed, Conclusion, DrawnDecision, check_alike
from .files import read_json
from .folder import (
    COMPRESSED,
    COMPRESSION,
    DECISIONS,
    EXPORTS,
    ONE_SHOT_STATE,
    STUDY,
    UNFINISHED,
    WORKER_FILE,
    settings_of,
)
from .record import rows_of

__all__ = ["StoredRun", "find_runs", "open_run"]


class _History(TypedDict):
    history: list[tuple[int, dict[str, list[float]]]]


class _OneShotState(TypedDict):
    run: _History


@dataclass(frozen=True)
class StoredRun:
    """A search that is stored: a folder of the shell's, or a storage of a script's.

    Attributes
    ----------
    place
        The folder, or the address of the storage.
    settings
        Of the run, where it is a folder.
    """

    place: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The place for people to read: without the password that an address may have in it."""
        return without_password(self.place)

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        return Path(self.place) if self.settings else None

    @cached_property
    def result(self) -> SearchResult | None:
        """Its trials; ``None`` before the first.

        Raises
        ------
        StorageError
            If the storage cannot be reached.
        """
        if self.folder is None:
            with reading(self.place):
                return load_search(self._copy(self.place))
        storage = self.settings.get("storage") or self.folder / STUDY
        if (file := file_of(storage)) is not None and not file.exists():
            return None
        with reading(storage):
            return load_search(self._copy(storage), self.settings.get("name"))

    @staticmethod
    def _copy(storage: Any) -> Any:
        """Return a copy of a file's trials, where that can be had; it takes a tenth of the time."""
        file = file_of(storage)
        copy = None if file is None else snapshot(file)
        return storage if copy is None else copy

    @property
    def strategy(self) -> str:
        """The name of the strategy, as far as it is known."""
        return str(self.settings.get("strategy", "")) or "?"

    @property
    def trials(self) -> int | None:
        """How many trials there shall be, if that is known."""
        trials = self.settings.get("trials")
        return None if trials is None else int(trials)

    @property
    def facts(self) -> dict[str, str]:
        """How far it is, and what it looks for, in words."""
        facts = {}
        if self.steps is not None:
            facts["steps"] = f"{self.steps[0]:,} of {self.steps[1]:,}"
        if self.result is not None:
            total = "" if self.trials is None else f" of {self.trials:,}"
            states = [outcome.state for outcome in self.result.outcomes]
            counts = ", ".join(
                f"{states.count(state):,} {state}"
                for state in ("complete", "pruned", "failed")
                if state in states
            )
            facts["trials"] = f"{len(states):,}{total}: {counts}"
            facts["objectives"] = ", ".join(
                f"{o.direction} {o.name}" for o in self.result.objectives
            )
        return facts

    @property
    def steps(self) -> tuple[int, int] | None:
        """Of a one-shot run how many steps are done, of how many; ``None`` of one over trials."""
        if self.folder is None or self.trials is not None or self.compressed is not None:
            return None
        file = self.folder / "metrics.jsonl"
        done = checked([row["at"] for row in rows_of(file, "search")], list[int], file)
        return (done[-1] if done else 0), int(self.settings["steps"])

    @cached_property
    def policy(self) -> dict[str, list[tuple[int, list[float]]]]:
        """The policy of a one-shot run: label to steps with the probabilities of its values."""
        file = None if self.steps is None else Path(self.place) / ONE_SHOT_STATE
        if file is None or not file.exists():
            return {}
        from ..strategy.oneshot.policy import over_time
        from ..training import load_state

        state: _OneShotState = checked(load_state(file), _OneShotState, file)
        found = over_time(state["run"]["history"])
        for label, told in self.described.get("labels", {}).items():
            if told.get("kind") != "Categorical" or label not in found:
                continue
            if {len(vector) for _, vector in found[label]} != {len(told.get("values", ()))}:
                raise StorageError(
                    f"{self.place} is damaged: run.json and {ONE_SHOT_STATE} have another number "
                    f"of values for {label!r}; restore copies"
                )
        return found

    @cached_property
    def described(self) -> Described:
        """The space as :func:`~nas_space.study.describe` gives it, as far as it is known."""
        if "described" in self.settings:
            described: Described = self.settings["described"]
            return described
        if self.result is None:
            return {}
        if self.result.space is not None:
            return describe(self.result.space)
        definition = SearchDefinition.in_study(self.result.study)
        return {} if definition is None else definition.space

    @property
    def decisions(self) -> list[DrawnDecision]:
        """What was decided where in the winner, as its picture shows it; empty before its end."""
        found: list[DrawnDecision] = self._read(DECISIONS, list[DrawnDecision])
        return found

    @property
    def space_name(self) -> str:
        """The class of the space."""
        if self.settings:
            return str(self.settings["space"])
        return str(self.described.get("space", "?"))

    @property
    def state(self) -> str:
        """'finished', 'running', 'interrupted', or 'stored' where the end is not known."""
        # A process that lives comes first, for a finished run may go on with more trials. So does
        # the mark of unfinished files, before what was written at the end with fewer.
        if self.folder is not None:
            worker = self.folder / WORKER_FILE
            if worker.exists() and signs.lives(worker.read_text("utf-8", "replace")):
                return "running"
            written = (self.folder / "architecture.json").exists()
            if written and not (self.folder / UNFINISHED).exists():
                return "finished"
            if (self.folder / COMPRESSED).exists():
                return "finished"
        trials = [] if self.result is None else self.result.study.get_trials(deepcopy=False)
        # Of a trial that another machine evaluates it is not known whether its process lives.
        if any(
            WORKER not in trial.user_attrs or signs.lives(trial.user_attrs[WORKER]) is not False
            for trial in trials
            if trial.state == TrialState.RUNNING
        ):
            return "running"
        return "stored" if self.folder is None else "interrupted"

    @property
    def compressed(self) -> list[Compressed] | None:
        """Of a compression the original and what it was made, as far as known; else ``None``."""
        if self.folder is None or self.strategy != COMPRESSION:
            return None
        file = self.folder / COMPRESSED
        found: list[Compressed] = read_json(file, list[Compressed])
        check_alike(found, file)
        return found

    @property
    def conclusion(self) -> Conclusion | None:
        """What the run ended with: the architecture and its scores; ``None`` before its end."""
        file = Path(self.place) / "architecture.json"
        if self.folder is None or not file.exists():
            return None
        found: Conclusion = read_json(file, Conclusion)
        return found

    @property
    def exports(self) -> dict[str, str]:
        """What was written of it for runtimes: the network and the runtime, and what was found."""
        found: dict[str, str] = self._read(EXPORTS, dict[str, str])
        return found

    def _read(self, name: str, kind: Any) -> Any:
        """What a file of the folder says; empty if there is none, as for a storage."""
        return kind() if self.folder is None else read_json(self.folder / name, kind)

    def make_space(self, *, trust: bool = False) -> Any:
        """Return the space, with fresh weights; ``None`` for a storage, which only describes it.

        Parameters
        ----------
        trust
            Whether a module that the run's folder names may be imported, and so run.

        Raises
        ------
        UsageError
            If it is another one by now.
        """
        from ..hub.registry import check_trusted, find_space

        if not self.settings:
            return None
        if self.compressed is not None:
            raise UsageError(
                f"the space of {self.place} was made of a network: `nas-space resume "
                f"{self.place}` makes it again, and writes the report"
            )
        check_trusted(self.settings["space"], self.place, trust=trust)
        space = find_space(self.settings["space"]).build(self.settings["arguments"])
        what = differences(self.settings["described"], describe(unrestricted(space)))
        if what:
            raise UsageError(f"the run in {self.place} is of another space: {'; '.join(what)}")
        return space


def open_run(place: str | Path) -> StoredRun:
    """Return the run in a folder, or the search in a storage.

    Raises
    ------
    UsageError
        If there is none.
    StorageError
        If the storage cannot be reached, or holds no search.
    """
    name = str(place)
    if "://" not in name and not Path(name).is_file():
        settings = settings_of(Path(name))
        if settings is None:
            near = suggest(name, map(str, find_runs(Path(name).parent)))
            raise UsageError(
                f"there is no run in {without_password(name)!r}{near}; `nas-space runs` lists them"
            )
        return StoredRun(name, settings)
    run = StoredRun(name, {})
    assert run.result is not None  # or it raises
    return run


def find_runs(root: Path) -> list[Path]:
    """Return the folders of runs in a folder, the latest first."""
    files = sorted(root.glob("*/run.json"), key=lambda file: -file.stat().st_mtime)
    return [file.parent for file in files]

"""``TableEvaluator``: score architectures by a table of what others have measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, NasSpaceError, UsageError, suggest
from ..files import replacing
from ..mutable import MutableSymbol, Sample
from ..strategy.base import unrestricted
from .objectives import Objective, Objectives, objectives_of
from .table_files import ARCH, TableColumns, read_columns

__all__ = ["TableEvaluator"]

Key = Callable[[Sample], "str | int"]
"""Gives the name of an architecture's row, or its place, from 0."""


class TableEvaluator:
    """Look up in a table what was measured of an architecture.

    Give it to ``search`` in the place of a function that trains.  Rows are found by the labels of
    the space, where the table has a column for each (or a record's ``arch``); or by the name or
    place that ``key`` gives for an architecture, as published tables have it.

    Parameters
    ----------
    space
        The space that the table is about, restricted or not.
    records
        A record for each architecture: numbers by their names, and labels or ``arch``.  Lists
        and nested records are spread: ``acc[0]``, ``cifar10.test``.  Or the columns of a file.
    key
        Gives the name or the place of an architecture's row; by default labels tell.
    names
        The column with the names of the rows, where ``key`` gives names.
    objectives
        What to search for, as ``search`` takes it: names of columns are maximised.  By default
        the first column of numbers.

    Raises
    ------
    DataError
        If rows cannot be told apart, or a value is none of its label.
    UsageError
        If there is no such column.

    Examples
    --------
    >>> from nas_space.hub import NasBenchMacro
    >>> space = NasBenchMacro(init_channels=8)
    >>> records = [
    ...     {"arch": space.architecture_of("00000000"), "accuracy": [45.3, 45.4]},
    ...     {"arch": space.architecture_of("22222222"), "accuracy": [92.9, 93.0]},
    ... ]
    >>> table = TableEvaluator(space, records, objectives="accuracy[0]")
    >>> table(None, space.architecture_of("22222222"))
    {'accuracy[0]': 92.9, 'accuracy[1]': 93.0}
    """

    weights = "none"

    def __init__(
        self,
        space: Any,
        records: Sequence[Mapping[str, Any]] | TableColumns,
        *,
        key: Key | None = None,
        names: str | None = None,
        objectives: Objectives | None = None,
    ) -> None:
        if not isinstance(records, TableColumns):
            if not records:
                raise DataError("a table needs rows, but got none")
            records = TableColumns.of_records(records)
        self.space, self.key, self._rows = unrestricted(space), key, records.rows
        self._archs: list[Sample] = []
        columns, rows = dict(records.columns), list(records.names)
        if names is not None:
            if names not in columns:
                raise UsageError(
                    f"the table has no column {names!r}{suggest(names, columns)}; it has "
                    f"{list(columns)}"
                )
            rows = [str(name) for name in columns.pop(names)]
        if key is None:
            if rows and ARCH not in columns:
                raise DataError(
                    f"the rows of the table are named, such as {rows[0]!r}: give key=, "
                    "which gives the name of an architecture"
                )
            self._archs = self._architectures(columns)
            rows = [self.space.arch_id(arch) for arch in self._archs]
            for label in (ARCH, *self.space.simplify()):
                columns.pop(label, None)
        self._is_named = bool(rows)
        self._place: dict[str | int, int] = {}
        given: Iterable[str | int] = rows or range(self._rows)
        for row, name in enumerate(given):
            if name in self._place:
                raise DataError(
                    f"rows {self._place[name]} and {row} of the table are both "
                    f"{self._archs[row] if self._archs else name}: keep one, or give the trainings "
                    "of one architecture as columns"
                )
            self._place[name] = row
        self.columns: dict[str, list[float | None]] = {
            name: cells for name, cells in columns.items() if _is_numeric(cells)
        }
        self.objectives = self._checked(objectives)

    @classmethod
    def read(
        cls,
        path: Path | str,
        space: Any,
        *,
        key: Key | None = None,
        names: str | None = None,
        objectives: Objectives | None = None,
    ) -> TableEvaluator:
        """Return the table of a file.

        Parameters
        ----------
        path
            A file that ends in ``.json``, ``.csv`` (either perhaps with ``.gz``), ``.npz`` or
            ``.npy``.  JSON is a list of records, an object with a record or a number for each
            named architecture, or an object of columns.
        space, key, names, objectives
            As for the class.

        Raises
        ------
        DataError
            If there is no such file, or it cannot be read; nothing is ever unpickled.
        """
        table = read_columns(Path(path))
        return cls(space, table, key=key, names=names, objectives=objectives)

    @classmethod
    def of(cls, result: Any) -> TableEvaluator:
        """Return the table of what a search has measured.

        Parameters
        ----------
        result
            A :class:`SearchResult` that has its space.
        """
        if result.space is None:
            raise UsageError("a table is about a space: open the study with it")
        records = [
            {ARCH: outcome.arch, **outcome.values, **outcome.metrics} for outcome in result.complete
        ]
        return cls(result.space, records, objectives=result.objectives)

    def write(self, path: Path | str) -> None:
        """Write the table as JSON, a record for each architecture; :meth:`read` reads it.

        Raises
        ------
        UsageError
            If rows are known by a key, so that the architectures are not in the table.
        """
        if self.key is not None:
            raise UsageError("the rows of this table are known by a key: keep the file they are of")
        records = [
            {ARCH: arch, **{name: cells[row] for name, cells in self.columns.items()}}
            for row, arch in enumerate(self._archs)
        ]
        with replacing(path) as file:
            file.write_text(json.dumps(records, indent=0) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return self._rows

    def __call__(self, network: object, arch: Sample) -> dict[str, float]:
        """Return what was measured of an architecture, by the name of the column.

        Parameters
        ----------
        network
            Not looked at.
        arch
            An architecture of the space.

        Raises
        ------
        DataError
            If the table does not have it.
        """
        row = self._row(arch)
        found = {name: cells[row] for name, cells in self.columns.items()}
        return {name: cell for name, cell in found.items() if cell is not None}

    def _row(self, arch: Sample) -> int:
        """Return the row of an architecture."""
        found = self.space.arch_id(arch) if self.key is None else self.key(dict(arch))
        if isinstance(found, str | int) and found in self._place:
            return self._place[found]
        if self.key is None:
            raise DataError(f"the table of {self._rows} rows does not have {dict(arch)}")
        if isinstance(found, str) and self._is_named:
            near = suggest(found, list(map(str, self._place))[:1000])
            raise DataError(f"the table has no row named {found!r}{near}, for {dict(arch)}")
        wanted = (
            "the name of a row" if self._is_named else f"a row's place from 0 to {self._rows - 1}"
        )
        raise DataError(f"key must give {wanted}, but gave {found!r} for {dict(arch)}")

    def _architectures(self, columns: Mapping[str, list[Any]]) -> list[Sample]:
        """Return the architecture of each row, by its labels."""
        symbols = self.space.symbols()
        if ARCH not in columns and not any(label in columns for label in symbols):
            raise DataError(
                f"the table has no column for any label of the space ({list(symbols)}), but "
                f"{list(columns)}; give key=, which names an architecture as the table does"
            )
        written = {name: _reader(symbol) for name, symbol in symbols.items()}
        found = []
        for row in range(self._rows):
            cells = columns[ARCH][row] if ARCH in columns else {
                label: columns[label][row] for label in symbols if label in columns
            }  # fmt: skip
            try:
                arch = {
                    label: written[label](cell) if label in written else cell
                    for label, cell in cells.items()
                    if cell is not None or ARCH in columns
                }
                found.append(self.space.canonical(arch))
            except (NasSpaceError, AttributeError) as error:
                raise DataError(f"row {row} of the table is no architecture: {error}") from error
        return found

    def _checked(self, objectives: Objectives | None) -> tuple[Objective, ...]:
        """Return the objectives, whose columns there are."""
        if not self.columns:
            raise DataError("the table has no column of numbers beside those of labels")
        found = objectives_of(next(iter(self.columns)) if objectives is None else objectives)
        for objective in found:
            if objective.expression is None and objective.name not in self.columns:
                raise UsageError(
                    f"the table has no numbers called {objective.name!r}"
                    f"{suggest(objective.name, self.columns)}; it has {list(self.columns)}"
                )
        return found

    def __repr__(self) -> str:
        return f"TableEvaluator({self._rows} architectures, {list(self.columns)})"


def _reader(symbol: MutableSymbol[Any]) -> Callable[[Any], Any]:
    """Return what reads values of a label as a file has them: as they are, or as text."""
    few = symbol.size if symbol.size is not None and symbol.size <= 4096 else 0
    texts = {str(value): value for value in symbol.decode(np.arange(few))}

    def read(cell: Any) -> Any:
        """Return the value that a cell stands for; what is none is left to the space to refuse."""
        try:
            symbol.code(cell)
        except NasSpaceError:
            return texts.get(str(cell), cell)
        return cell

    return read


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Whether a column is of numbers, some perhaps missing."""
    numbers = [isinstance(c, (int, float)) and not isinstance(c, bool) for c in cells]
    return any(numbers) and all(n or c is None for n, c in zip(numbers, cells, strict=True))

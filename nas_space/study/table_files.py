"""Tables of measurements from files: JSON, CSV or NumPy, compressed by gzip or not.

Whatever the form, what is read is a :class:`TableColumns`: a column of numbers or texts for each
name, and a name for each row where the file has one.  Nothing is unpickled.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["ARCH", "TableColumns", "read_columns"]

ARCH = "arch"
"""The entry of a record that holds a whole architecture."""


@dataclass
class TableColumns:
    """A table by columns.

    Attributes
    ----------
    columns
        Name to cells, as many for each.
    names
        The name of each row; empty where the file has none.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values()), self.names))

    @classmethod
    def of_records(
        cls, records: Sequence[Mapping[str, Any]], names: Sequence[str] = ()
    ) -> TableColumns:
        """Return the columns of some records; what a record lacks is ``None``."""
        flat = [dict(_flattened(record)) for record in records]
        known = dict.fromkeys(key for record in flat for key in record)
        return cls({key: [record.get(key) for record in flat] for key in known}, list(names))


def read_columns(path: Path) -> TableColumns:
    """Return the table of a file.

    Parameters
    ----------
    path
        Ends in ``.json``, ``.csv``, ``.npz`` or ``.npy``; the first two perhaps with ``.gz``.

    Raises
    ------
    DataError
        If the file is not there, or not of such a form.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    readers: dict[str, Callable[[bytes], TableColumns]] = {
        ".json": lambda data: _from_json(json.loads(data)),
        ".csv": _from_csv,
        ".npz": _from_numpy,
        ".npy": _from_numpy,
    }
    if not kind or kind[0] not in readers or (packed and kind[0].startswith(".np")):
        raise DataError(
            f"a table is a file of JSON, CSV (either perhaps .gz) or NumPy (.npz, .npy), but got "
            f"{str(path)!r}; what is pickled (.pkl, .pth) is not read, for loading runs code"
        )
    try:
        data = path.read_bytes()
        found = readers[kind[0]](gzip.decompress(data) if packed else data)
    except FileNotFoundError:
        raise DataError(f"there is no table at {str(path)!r}") from None
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the table {str(path)!r}: {error}") from error
    lengths = {name: len(cells) for name, cells in found.columns.items()}
    if len({*lengths.values(), *([len(found.names)] if found.names else [])}) != 1:
        raise DataError(
            f"the table {str(path)!r} has no rows, or columns of different lengths: {lengths}"
        )
    return found


def _from_json(data: Any) -> TableColumns:
    """Return the table that a JSON value stands for.

    An object of records or numbers has a row for each name.  One of lists may have a column for
    each name, beside remarks, or a row, of several trainings; there are more rows than trainings.
    """
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        return TableColumns.of_records(data)
    if isinstance(data, dict) and data:
        lists = {name: cells for name, cells in data.items() if isinstance(cells, list)}
        if not lists or (len(lists) == len(data) > max(map(len, lists.values()))):
            rows = [v if isinstance(v, dict) else {"value": v} for v in data.values()]
            return TableColumns.of_records(rows, list(data))
        return TableColumns.of_records(
            [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        )
    raise DataError(
        "a table in JSON is a list of records, an object with a record or number for each named "
        "architecture, or an object of columns"
    )


def _flattened(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the cells of a record: those of what is nested as ``a.b`` and ``a[0]``."""
    for name, value in record.items():
        if name == ARCH:
            yield name, value
        elif isinstance(value, Mapping):
            for inner, cell in _flattened(value):
                yield f"{name}.{inner}", cell
        elif isinstance(value, list):
            for place, cell in enumerate(value):
                yield from _flattened({f"{name}[{place}]": cell})
        else:
            yield str(name), value


def _from_csv(data: bytes) -> TableColumns:
    """Return the table of a CSV file with a header; numbers are read as such, blanks as none."""
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    rows = [row for row in reader if row]
    if len(rows) < 2:
        raise DataError("a table in CSV has a header and rows")
    header, *rows = rows
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"row {number} has {len(row)} cells, the header {len(header)}")
    return TableColumns(
        {name: [_cell(row[place]) for row in rows] for place, name in enumerate(header)}
    )


def _cell(text: str) -> Any:
    """Return a number where a text is one, but for codes such as '00012'."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    if text.isdigit() and len(text) > 1 and text[0] == "0":
        return text
    return int(text) if text.lstrip("+-").isdigit() else number


def _from_numpy(data: bytes) -> TableColumns:
    """Return the table of named arrays, of a structured array, or of one of numbers."""
    loaded: Any = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        names = loaded.dtype.names
        arrays = {name: loaded[name] for name in names} if names else {"value": loaded}
    else:
        arrays = {name: loaded[name] for name in loaded.files}
    if not arrays or any(array.ndim == 0 for array in arrays.values()):
        raise DataError("a table in NumPy's form has arrays with an entry for each row")
    columns: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        flat = array.reshape(len(array), -1)
        for place in range(flat.shape[1]):
            column = name if array.ndim == 1 else f"{name}[{place}]"
            columns[column] = flat[:, place].tolist()
    return TableColumns(columns)

"""Tables of how long blocks take."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from ..errors import DataError, UsageError
from ..extensions import call
from ..files import replacing
from .correction import Correction

__all__ = ["LatencyTable", "decimal"]

_FORMAT = "nas_space latency table, version 1"
_UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
"""Milliseconds in each unit."""

_MOST = 1e7
"""Milliseconds above which a time is taken for one in another unit."""


_DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_BEYOND = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
"""What YAML calls infinite or no number; told with the name of its block."""


def decimal(text: str) -> float:
    """Return the number that is written in decimal digits.

    Python reads ``1_000`` and the digits of every script, and YAML reads ``010`` as 8 and ``1:30``
    as 90: whoever wrote them in a table meant something else as likely as not.

    Raises
    ------
    ValueError
        If it is written otherwise.
    """
    if not _DECIMAL.fullmatch(text):
        raise ValueError(
            f"{text!r} is not written as a number is here: decimal digits 0 to 9 without a zero "
            "in front, such as 8, 0.25 or 1.5e-3"
        )
    return float(text)


class _Plain(yaml.SafeLoader):
    """Reads YAML in which no key occurs twice, and numbers are decimal ones.

    The safe loader takes the last of several values of a key, and octal numbers, in silence.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        scalars = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        # As keys of blocks they are texts in the end, in which 1 and "1" are the same.
        keys = Counter(
            key.value if key.tag.endswith(":merge") else str(self.construct_object(key))
            for key in scalars
        )
        twice = next((key for key, count in keys.items() if count > 1), None)
        if twice is not None:
            raise DataError(f"the key {twice!r} occurs twice")
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_number(self, node: Any) -> int | float:
        """Return a number, if it is written in decimal digits."""
        text = self.construct_scalar(node)
        make: Any = self.construct_yaml_int
        if node.tag.endswith(":float"):
            make = self.construct_yaml_float
            if _BEYOND.fullmatch(text):
                return float(make(node))
        try:
            decimal(text)
        except ValueError as error:
            place = node.start_mark
            raise DataError(
                f"line {place.line + 1}, column {place.column + 1}: {error}; a text stands "
                "between quotation marks"
            ) from None
        number: int | float = make(node)
        return number


for _kind in ("int", "float"):
    _Plain.add_constructor(f"tag:yaml.org,2002:{_kind}", _Plain.construct_number)


class LatencyTable:
    """How long each block takes on a device.

    Parameters
    ----------
    milliseconds
        Key of a block to its time, in milliseconds.
    about
        How it was measured: ``runtime``, ``version``, ``threads``, ``device``, ``input_shape`` (of
        one sample), ``batch_size``, ``dtype`` and whatever else is worth knowing.
    published
        Whether keys are those of a published table, which a space translates to by its method
        ``latency_key``.
    correction
        What blocks take within a network, if that is known; see
        :func:`~nas_space.profiler.calibrate_latency`.

    Raises
    ------
    DataError
        If a time is missing, negative, infinite or no number.

    Examples
    --------
    >>> table = LatencyTable({"a": 1.5, "b": 0.25})
    >>> table.microseconds("a")
    1500
    >>> table.merge(LatencyTable({"c": 3})).milliseconds
    {'a': 1.5, 'b': 0.25, 'c': 3.0}
    """

    def __init__(
        self,
        milliseconds: Mapping[str, float],
        about: Mapping[str, Any] | None = None,
        *,
        published: bool = False,
        correction: Correction | None = None,
    ) -> None:
        self.milliseconds = _checked(milliseconds)
        self.about = dict(about or {})
        self.published = published
        self.correction = correction

    def microseconds(self, key: str) -> int:
        """Return the time of a block in whole microseconds, rounded."""
        return round(self.milliseconds[key] * 1000)

    def require(self, **wanted: Any) -> None:
        """Refuse the table if it was measured otherwise than is wanted.

        Parameters
        ----------
        wanted
            Names in :attr:`about` with what they are to be. A table that says nothing of some of
            them, or was measured with another ``version``, is warned of.

        Raises
        ------
        UsageError
            If the table says otherwise; the error says what.

        Examples
        --------
        >>> LatencyTable({"a": 1.0}, {"runtime": "openvino"}).require(runtime="torch")
        Traceback (most recent call last):
          ...
        nas_space.errors.UsageError: the latency table is of another runtime: it was measured with \
'openvino', and 'torch' is asked for; measure another table
        """
        for name, value in wanted.items():
            known = self.about.get(name, value)
            if known == value:
                continue
            told = (
                f"the latency table is of another {name}: it was measured with {known!r}, and "
                f"{value!r} is asked for"
            )
            if name != "version":
                raise UsageError(f"{told}; measure another table")
            warnings.warn(told, stacklevel=3)
        silent = [name for name in wanted if name not in self.about]
        if silent:
            warnings.warn(
                f"the latency table does not say with which {', '.join(silent)} it was measured; "
                f"it is taken for one with {', '.join(repr(wanted[name]) for name in silent)}",
                stacklevel=3,
            )

    def __len__(self) -> int:
        return len(self.milliseconds)

    def __contains__(self, key: object) -> bool:
        return key in self.milliseconds

    def __repr__(self) -> str:
        about = ", ".join(f"{name}={value!r}" for name, value in self.about.items())
        about += ", corrected" if self.correction is not None else ""
        return f"LatencyTable({len(self)} blocks{', ' + about if about else ''})"

    def _repr_html_(self) -> str:
        return str(call("html", self))

    # -- files ----------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a table.

        Parameters
        ----------
        path
            A YAML file that :meth:`write` made; one in the format that the authors of
            ProxylessNAS published; or a CSV file with the columns ``key`` and
            ``milliseconds``, whose other columns are not looked at.

        Raises
        ------
        DataError
            If it is none of these, or has holes or impossible times.
        UsageError
            If this is no path.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"a latency table, or the file it is in, is needed, but got {path!r}")
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the latency table {file} cannot be read: {error}") from error
        try:
            return cls._of_csv(text) if file.suffix.lower() == ".csv" else cls._of_yaml(text)
        except (DataError, ArithmeticError, LookupError, TypeError, ValueError, csv.Error) as error:
            raise DataError(f"{file}: {error}") from error

    @classmethod
    def _of_csv(cls, text: str) -> Self:
        reader = csv.DictReader(text.splitlines())
        names = reader.fieldnames or []
        if "key" not in names or "milliseconds" not in names:
            raise DataError(
                f"a CSV table needs the columns 'key' and 'milliseconds', but has {list(names)}"
            )
        if len(set(names)) < len(names):
            raise DataError(f"a column occurs twice: {list(names)}")
        found: dict[str, Any] = {}
        for row in reader:
            where = f"line {reader.line_num}"
            if row["key"] in found:
                raise DataError(f"{where}: the block {row['key']!r} occurs twice")
            if None in row:  # as a comma in a number makes it
                raise DataError(f"{where} has more cells than there are columns, {list(names)}")
            given = (row["milliseconds"] or "").strip()
            try:
                found[row["key"]] = decimal(given) if given else None
            except ValueError as error:
                raise DataError(
                    f"{where}, column 'milliseconds': the time of {row['key']!r} must be a number "
                    f"of milliseconds, but {error}"
                ) from None
        return cls(found)

    @classmethod
    def _of_yaml(cls, text: str) -> Self:
        try:
            content = yaml.load(text, _Plain)  # noqa: S506 - a safe loader
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise DataError(f"this is no YAML of plain values: {error}") from error
        if not isinstance(content, dict) or not content:
            raise DataError("a latency table is a mapping from blocks to times, but this is none")
        if "blocks" not in content:
            return cls._of_published(content)
        if content.get("format") != _FORMAT:
            raise DataError(
                f"the format must be {_FORMAT!r}, but is {content.get('format')!r}; "
                "this file was made by another version"
            )
        unit = content.get("unit")
        if unit not in _UNITS:
            raise DataError(f"the unit must be one of {list(_UNITS)}, but is {unit!r}")
        blocks = content["blocks"]
        if not isinstance(blocks, dict):
            raise DataError("blocks must be a mapping from keys to times")
        scaled = {
            # true is a number to Python, and no time.
            key: time * _UNITS[unit] if type(time) in (int, float) else time
            for key, time in blocks.items()
        }
        told = {k: v for k, v in content.items() if k not in ("format", "unit", "blocks")}
        found = told.pop("correction", None)
        return cls(scaled, told, correction=None if found is None else Correction.of_dict(found))

    @classmethod
    def _of_published(cls, content: dict[Any, Any]) -> Self:
        """The format of ProxylessNAS: key to ``mean`` in milliseconds, among others."""
        found: dict[str, Any] = {}
        for key, entry in content.items():
            if not isinstance(entry, dict) or "mean" not in entry:
                raise DataError(
                    f"{key!r} has no 'mean': this is neither a table of nas_space, which has "
                    "'blocks', nor one in ProxylessNAS's published format"
                )
            found[str(key)] = entry["mean"]
        about: dict[str, Any] = {}
        for key in found:
            stem = re.fullmatch(r"Conv-input:(\d+)x(\d+)x(\d+)-output:.*", key)
            if stem:
                height, width, channels = map(int, stem.groups())
                about["input_shape"] = [channels, height, width]
        return cls(found, about, published=True)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table as YAML, or as CSV if the name ends so; never half of it.

        Raises
        ------
        UsageError
            If it is in a published format: what it was made of is better kept; or if it is
            corrected, and a CSV, which holds times of blocks alone, would lose that.
        """
        if self.published:
            raise UsageError("a table in a published format is only read; keep its file")
        file = Path(path)
        if self.correction is not None and file.suffix.lower() == ".csv":
            raise UsageError(f"{file} would lose the correction of this table: write a .yaml")
        with replacing(file) as part, part.open("w", encoding="utf-8", newline="") as stream:
            if file.suffix.lower() == ".csv":
                writer = csv.writer(stream)
                writer.writerow(("key", "milliseconds"))
                writer.writerows(self.milliseconds.items())
            else:
                content = {"format": _FORMAT, "unit": "ms", **self.about}
                content["blocks"] = self.milliseconds
                if self.correction is not None:
                    content["correction"] = self.correction.to_dict()
                yaml.safe_dump(content, stream, sort_keys=False, width=1000)

    # -- two tables -----------------------------------------------------------------------------

    def diff(self, other: LatencyTable) -> dict[str, tuple[float | None, float | None]]:
        """Return the blocks on which two tables differ.

        Returns
        -------
        dict
            Key to the milliseconds here and there; ``None`` where a block is missing.
        """
        keys = dict.fromkeys((*self.milliseconds, *other.milliseconds))
        pairs = {key: (self.milliseconds.get(key), other.milliseconds.get(key)) for key in keys}
        return {key: (mine, theirs) for key, (mine, theirs) in pairs.items() if mine != theirs}

    def merge(self, other: LatencyTable) -> LatencyTable:
        """Return a table of the blocks of both; where both have one, the time of the other counts.

        If both know the same blocks' times within networks, or one of them does, so does the
        result.

        Raises
        ------
        UsageError
            If they were not measured alike: on another runtime or device, or with another batch or
            type; or if they are corrected in different ways.
        """
        if self.published != other.published:
            raise UsageError("a table in a published format has other keys than one that is not")
        if None not in (self.correction, other.correction) and self.correction != other.correction:
            raise UsageError(
                "both tables are corrected, each by networks of its own; merge those before"
            )
        for name in ("runtime", "device", "batch_size", "dtype", "threads"):
            mine, theirs = self.about.get(name), other.about.get(name)
            if None not in (mine, theirs) and mine != theirs:
                raise UsageError(
                    f"these tables were not measured alike: {name} is {mine!r} here and "
                    f"{theirs!r} there"
                )
        return LatencyTable(
            {**self.milliseconds, **other.milliseconds},
            {**other.about, **self.about},
            published=self.published,
            correction=self.correction or other.correction,
        )


def _checked(milliseconds: Mapping[str, Any]) -> dict[str, float]:
    if not isinstance(milliseconds, Mapping):
        raise DataError(f"a latency table maps blocks to milliseconds, but got {milliseconds!r}")
    holes = [key for key, time in milliseconds.items() if time is None]
    if holes:
        raise DataError(f"{len(holes)} blocks have no time: {', '.join(map(repr, holes))}")
    for key, time in milliseconds.items():
        if isinstance(time, bool) or not isinstance(time, (int, float)):
            raise DataError(f"the time of {key!r} must be a number, but is {time!r}")
        if not 0 <= time <= _MOST:  # nor NaN
            raise DataError(
                f"the time of {key!r} must be between 0 and {_MOST:.0f} milliseconds, but is "
                f"{time!r}"
            )
    return {str(key): float(time) for key, time in milliseconds.items()}

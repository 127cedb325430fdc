"""``SampleBatch``: many architectures as columns of codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from ..errors import UsageError
from ..extensions import call
from .columns import Column, Columns, Mask, Source, activity
from .mutable import Mutable, Sample, Values
from .node import Node
from .random_words import Words
from .word_layout import Layout

__all__ = ["SampleBatch", "draw_one"]

_CHUNK = 8192
"""Rows drawn at a time: few enough for their words to stay in the processor's cache."""


class SampleBatch(Sequence[Sample]):
    """Many architectures of one space, held as a column of codes for each label.

    Indexing gives dictionaries of the active labels; slicing gives batches.

    Parameters
    ----------
    root
        The structure of the space, or an expression.
    codes
        Symbol to column of codes (of values, for a continuous symbol).
    size
        How many architectures there are.
    active
        Symbol to whether it is active, in order; worked out from the structure by default.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a, b = Categorical([2, 3], label="a"), Categorical([5, 7], label="b")
    >>> batch = SampleBatch.from_samples(a * b, [{"a": 2, "b": 7}, {"a": 3, "b": 5}])
    >>> batch[1]
    {'a': 3, 'b': 5}
    >>> (a * b).evaluate(batch)
    array([14, 15])
    """

    def __init__(
        self,
        root: Node | None,
        codes: Mapping[Any, Column],
        size: int,
        active: dict[Any, Mask] | None = None,
    ) -> None:
        self.root = root
        self.size = size
        self.codes = dict(codes)
        self.active = active or {}  # if not known yet: what decides is active where it does
        if active is not None:
            return
        masks = {} if root is None else activity(root, self.columns())
        nowhere = np.zeros(size, dtype=np.bool_)
        self.active = {s: masks.get(s, nowhere) for s in Layout.of(root).symbols}

    # -- making batches -------------------------------------------------------------------

    @classmethod
    def draw(cls, mutable: Mutable, n: int, words: Words) -> SampleBatch:
        """Draw ``n`` architectures, each label by its own distribution; constraints do not count.

        Row ``i`` depends on the words and on ``i`` alone, not on ``n``.
        """
        if n < 0:
            raise UsageError(f"the number of architectures must not be negative, but got {n}")
        root = mutable.structure()
        layout = Layout.of(root)
        parts = []
        for start in range(0, n, _CHUNK):
            rows = min(_CHUNK, n - start)
            raw = words(rows * layout.words).reshape(rows, layout.words)
            codes = {s: s.draw_column(raw[:, o : o + s.words]) for s, o in layout.offsets.items()}
            parts.append(cls(root, codes, rows))
        return cls.concatenate(parts) if parts else cls._empty(root)

    @classmethod
    def _empty(cls, root: Node | None) -> SampleBatch:
        return cls(root, {s: np.zeros(0, dtype=np.int64) for s in Layout.of(root).symbols}, 0)

    @classmethod
    def concatenate(cls, parts: Sequence[SampleBatch]) -> SampleBatch:
        """Return one batch of several over the same space."""
        first = parts[0]
        if len(parts) == 1:
            return first
        made = cls.__new__(cls)
        made.root = first.root
        made.size = sum(part.size for part in parts)
        made.codes = {s: np.concatenate([part.codes[s] for part in parts]) for s in first.codes}
        made.active = {s: np.concatenate([part.active[s] for part in parts]) for s in first.active}
        return made

    @classmethod
    def from_samples(cls, mutable: Mutable, samples: Iterable[Mapping[str, Any]]) -> SampleBatch:
        """Return the batch of some architectures given as dictionaries.

        Raises
        ------
        SampleValidationError
            If one of them is not in the space.
        """
        root = mutable.structure()
        known = [mutable.read(sample).active for sample in samples]
        codes: dict[Any, Column] = {}
        for symbol in Layout.of(root).symbols:
            values = [sample.get(symbol.name) for sample in known]
            if symbol.size is None:
                codes[symbol] = np.array([np.nan if value is None else value for value in values])
            else:
                present = [symbol.name in sample for sample in known]
                numbers = [
                    symbol.code(value) if there else 0
                    for value, there in zip(values, present, strict=True)
                ]
                codes[symbol] = np.array(numbers, dtype=np.int64 if symbol.size < 2**62 else object)
        return cls(root, codes, len(known))

    # -- looking at them --------------------------------------------------------------------

    def columns(self) -> Columns:
        """Return the batch as columns on which expressions can be evaluated."""
        return Columns(Source(self.codes, self.active, self.root), self.size)

    def evaluate(self, expression: Any) -> Column:
        """Return the value of an expression for each architecture."""
        return self.columns().get(expression)

    def labels(self) -> list[str]:
        """Return the labels that some architecture may have."""
        return [symbol.name for symbol in self.codes]

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice | Column) -> SampleBatch: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            place = range(self.size)[index]
            return {
                s.name: s.decode(self.codes[s][place : place + 1])[0]
                for s, mask in self.active.items()
                if mask[place]
            }
        part = type(self).__new__(type(self))
        part.root = self.root
        part.codes = {s: column[index] for s, column in self.codes.items()}
        part.active = {s: mask[index] for s, mask in self.active.items()}
        part.size = len(np.arange(self.size)[index])
        return part

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, self.size, _CHUNK):
            stop = min(self.size, start + _CHUNK)
            decoded = [
                (s.name, s.decode(self.codes[s][start:stop]), mask[start:stop].tolist())
                for s, mask in self.active.items()
            ]
            for row in range(stop - start):
                yield {label: values[row] for label, values, mask in decoded if mask[row]}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleBatch):
            return NotImplemented
        if self.root is not other.root or self.size != other.size:
            return False
        return all(
            bool((mask == other.active[s]).all())
            and bool((self.codes[s][mask] == other.codes[s][mask]).all())
            for s, mask in self.active.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        return str(call("html", self))

    def __repr__(self) -> str:
        return f"SampleBatch({self.size} architectures over {len(self.codes)} labels)"


def draw_one(mutable: Mutable, words: Words) -> Sample:
    """Return the first architecture of :meth:`SampleBatch.draw`, without making a batch."""
    layout = Layout.of(mutable.structure())
    raw = words(layout.words)
    numbers = raw.tolist()
    values = Values()
    known, active, drawers = values.known, values.active, layout.drawers
    for leaf in layout.needed(known):
        drawer = drawers.get(leaf)
        if drawer is None:
            known[leaf] = leaf.visit(active, values)  # a constraint
        else:
            known[leaf] = active[leaf.name] = drawer(numbers, raw)
    values.check_constraints(active)
    return active

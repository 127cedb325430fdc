"""Layout of random words: which words of a row draw which symbol of a structure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import LabelError
from .lazy import needed
from .node import Leaf, Node, leaves

__all__ = ["Layout", "two_of_one_label"]


class Layout:
    """The leaves of a structure in order, and where in a row of words each finds its own.

    Parameters
    ----------
    root
        The structure; ``None`` where nothing differs between architectures.

    Attributes
    ----------
    symbols
        The leaves that are drawn, in the order in which they occur.
    offsets
        Symbol to the place of its first word.
    drawers
        Symbol to what draws it from a row of words; see :data:`.symbols.Drawer`.
    words
        How many random words an architecture takes.

    Raises
    ------
    LabelError
        If two different choices carry one label.
    """

    def __init__(self, root: Node | None) -> None:
        self.root = root
        self.symbols: list[Any] = []
        self.offsets: dict[Any, int] = {}
        self.drawers: dict[Leaf, Any] = {}
        self.words = 0
        # Each symbol has words of its own, whether it is active or not.  So what a label draws
        # does not depend on which others are active, architectures can be drawn column by column,
        # and row i of a batch is the same however many rows are drawn.
        by_name: dict[str, Leaf] = {}
        for leaf in leaves(root):
            if not leaf.words:
                continue
            known = by_name.setdefault(leaf.name, leaf)
            if known is not leaf:
                raise two_of_one_label(known, leaf)
            self.symbols.append(leaf)
            self.offsets[leaf] = self.words
            self.drawers[leaf] = self.symbols[-1].drawer(self.words)
            self.words += leaf.words

    def needed(self, known: dict[Node, Any]) -> Iterator[Leaf]:
        """Return the leaves that an architecture needs; see :func:`.lazy.needed`."""
        return iter(()) if self.root is None else needed(self.root, known)

    @staticmethod
    def of(root: Node | None) -> Layout:
        """Return the layout of a structure; made once."""
        return _EMPTY if root is None else root.remember("_layout", Layout)


_EMPTY = Layout(None)


def two_of_one_label(one: Any, other: Any) -> LabelError:
    """Return the error for two different choices of one name."""
    return LabelError(
        f"two different choices carry the label {str(one.label)!r}: {one!r} and {other!r}; "
        "give one of them another label, or make them the same"
    )

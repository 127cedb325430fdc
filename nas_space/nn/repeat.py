"""``Repeat``: a variable number of blocks, one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch import nn

from ..errors import DomainError
from ..mutable import Categorical, MutableExpression, distinct_values
from ..mutable.containers import side_by_side
from ..mutable.node import Node
from .activation import required
from .construction import slim
from .freezing import Freezer
from .module import MutableModule
from .structure import Survey

__all__ = ["Block", "Repeat"]

Block = nn.Module | Callable[[int], nn.Module]


class Repeat(MutableModule):
    """The first so many of a list of blocks, in sequence.

    Parameters
    ----------
    blocks
        A function that makes the block of an index; a module, of which every block is a
        deep copy; or a list of these, one for each index.
    depth
        How many: a number, an inclusive range ``(low, high)``, or an expression of whole
        numbers.  0 blocks pass the input on.
    label
        The name of the choice, where the depth is a range.

    Raises
    ------
    DomainError
        If the depth is not a whole number, or there are too few blocks.

    Examples
    --------
    >>> body = Repeat(lambda index: nn.Linear(4, 4), (1, 3), label="depth")
    >>> body.freeze({"depth": 2})
    Sequential(
      (0): Linear(in_features=4, out_features=4, bias=True)
      (1): Linear(in_features=4, out_features=4, bias=True)
    )
    """

    def __init__(
        self,
        blocks: Block | Sequence[Block],
        depth: int | tuple[int, int] | MutableExpression[int],
        *,
        label: str | None = None,
    ) -> None:
        super().__init__()
        choice = _depth(depth, label)
        self.depth_choice = choice
        self.depths = _depths_of(choice)
        self.min_depth, self.max_depth = self.depths[0], self.depths[-1]
        only = slim()
        wanted = self.max_depth if only is None else only(choice)
        self.blocks = nn.ModuleList(_made(blocks, wanted, self.max_depth))

    @property
    def label(self) -> str | None:
        """The label of the depth, if it is a plain choice."""
        choice: Any = self.expression("depth_choice")
        return str(choice.label) if hasattr(choice, "label") else None

    def __getitem__(self, index: int) -> nn.Module:
        return self.blocks[index]

    def __len__(self) -> int:
        only = slim()  # built for one architecture, it has the depth of that one
        depth = self.max_depth if only is None else only(self.expression("depth_choice"))
        return int(depth)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.blocks)

    def describe(self, survey: Survey) -> Node | None:
        choice = self.expression("depth_choice")
        parts = [survey(block) for block in self.blocks]
        cases = {
            depth: side_by_side([part for part in parts[:depth] if part is not None])
            for depth in self.depths
        }
        if not isinstance(choice, Node):
            return cases[choice]
        if all(case is None for case in cases.values()):
            return choice
        found: Node = MutableExpression.switch_case(choice, cases)
        return found

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        depth = freezer.values(self.expression("depth_choice"))
        blocks = (
            freezer.child(f"blocks.{index}", block)
            for index, block in enumerate(islice(self.blocks, depth))
        )
        return freezer.substitute(self, nn.Sequential(*blocks))

    def forward(self, x: Any) -> Any:
        """Run as many blocks as are active."""
        choice = self.expression("depth_choice")
        if isinstance(choice, Node):
            return required(self).repeat(choice, self.blocks, x)
        for block in islice(self.blocks, choice):
            x = block(x)
        return x

    def extra_repr(self) -> str:
        return f"depth={self.expression('depth_choice')}"


def _depth(depth: Any, label: str | None) -> Any:
    if isinstance(depth, (tuple, list)):
        if (
            len(depth) != 2
            or not all(isinstance(end, int) for end in depth)
            or not 0 <= depth[0] <= depth[1]
        ):
            raise DomainError(
                f"a range of depths is (low, high) with 0 <= low <= high, but got {depth}"
            )
        return Categorical(range(depth[0], depth[1] + 1), label=label)
    if isinstance(depth, Node) or (isinstance(depth, int) and not isinstance(depth, bool)):
        if label is not None:
            raise DomainError(f"label={label!r} names a range of depths, but the depth is {depth}")
        return depth
    raise DomainError(
        f"a depth is a number, a range (low, high) or an expression, but got {depth!r}"
    )


def _depths_of(choice: Any) -> list[int]:
    """Return the depths that there are, in ascending order."""
    if isinstance(choice, Categorical):
        depths: list[Any] = list(choice.values)
    else:
        depths = [depth for (depth,) in distinct_values([choice])]
    for depth in depths:
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
            raise DomainError(
                f"a depth is a whole number, 0 or more, but {choice} can be {depth!r}"
            )
    return sorted(depths)


def _made(blocks: Any, wanted: int, most: int) -> list[nn.Module]:
    if isinstance(blocks, nn.ModuleList):
        raise DomainError(
            "give the blocks as a list, not as a ModuleList, which would be one block: list(blocks)"
        )
    if isinstance(blocks, (list, tuple)):
        if len(blocks) < most:
            raise DomainError(f"up to {most} blocks are needed, but only {len(blocks)} are given")
        each: list[Any] = list(blocks[:wanted])
    elif isinstance(blocks, nn.Module):
        each = [blocks if index == 0 else copy.deepcopy(blocks) for index in range(wanted)]
    else:
        each = [blocks] * wanted
    made = [
        block if isinstance(block, nn.Module) else block(index) for index, block in enumerate(each)
    ]
    for index, block in enumerate(made):
        if not isinstance(block, nn.Module):
            raise DomainError(f"block {index} must be a module, but the builder made {block!r}")
    return made

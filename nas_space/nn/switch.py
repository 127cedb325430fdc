"""``Switch``: the module that the value of an expression picks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from ..mutable import MutableExpression
from ..mutable.node import Node
from .activation import required
from .construction import slim
from .module import MutableModule
from .structure import Survey

if TYPE_CHECKING:
    from .freezing import Freezer

__all__ = ["Switch"]


class Switch(MutableModule):
    """Run one of some modules, by the value of an expression over labels that are there already.

    Where a :class:`~nas_space.nn.LayerChoice` adds a label, a switch follows from others: what
    reads a cell must downsample where the cell before has, and that is for the depth to say.

    Parameters
    ----------
    value
        An expression.
    modules
        For each of its values a function that makes the module.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> depth = Categorical([1, 2], label="depth")
    >>> switch = Switch(depth == 1, {True: nn.ReLU, False: nn.Identity})
    >>> switch.freeze({"depth": 1})
    ReLU()
    """

    def __init__(self, value: Any, modules: Mapping[Any, Callable[[], nn.Module]]) -> None:
        super().__init__()
        self.value = value
        only = slim()
        wanted = modules if only is None else [only(value)]
        self.places = {choice: str(place) for place, choice in enumerate(modules)}
        self.instances = nn.ModuleDict(
            {self.places[choice]: modules[choice]() for choice in wanted}
        )

    def describe(self, survey: Survey) -> Node | None:
        instances = self.instances
        cases = {
            choice: survey(instances[place]) if place in instances else None
            for choice, place in self.places.items()
        }
        found: Node = MutableExpression.switch_case(self.expression("value"), cases)
        return found

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        freezer.refuse_hooks(self)
        place = self.places[freezer.values(self.expression("value"))]
        return freezer.child(f"instances.{place}", self.instances[place])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module that is picked."""
        return required(self).choose(
            self.expression("value"),
            lambda chosen: self.instances[self.places[chosen]],
            args,
            kwargs,
        )

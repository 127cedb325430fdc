"""`Traced`: one architecture, which remembers what it used of elastic layers."""

from __future__ import annotations

from typing import Any

from ...mutable import Values
from ..activation import Activation
from ..blueprint import Form


class Traced(Activation):
    """An architecture made active, that notes which part of each elastic layer it uses.

    Attributes
    ----------
    used
        Each elastic layer that ran, with the form it had.
    """

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.used: list[tuple[Any, Form]] = []

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        self.used.append((layer, layer.form(self.values)))
        return super().elastic(layer, *args, **kwargs)

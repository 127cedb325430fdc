"""Explanations: an architecture module by module, with what decided it and what it costs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..mutable import Sample
from ..nn import MutableModule
from ..profiler import ModuleCost, profile
from ..profiler.misread import read_otherwise
from ..profiler.profile import Profile
from ..strategy.base import unrestricted

if TYPE_CHECKING:
    from rich.table import Table

from .colours import CHOSEN, INK, MUTED, SHARE
from .decisions import beside_space, labels_of
from .figures import WIDTH, new_figure, save
from .html import plain
from .notebooks import html_of
from .numbers import labelled, readable

__all__ = ["ExplainedModule", "Explanation", "explain"]


@dataclass(frozen=True)
class ExplainedModule:
    """A module of a network.

    Attributes
    ----------
    path
        Where it is in the network.
    kind
        Its class.
    decided
        The labels that decided what it is, and their values.
    inputs, outputs
        Shapes of the tensors it is given and gives, the batch included; empty if it did not run.
    macs
        Multiply-adds for one sample, those of the modules in it included.
    params
        Parameters, likewise.
    """

    path: str
    kind: str
    decided: dict[str, Any]
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    macs: int
    params: int


@dataclass(frozen=True)
class Explanation:
    """An architecture, explained; what :func:`explain` gives.

    Printed, it is a table; so it is by Rich, in colour.

    Attributes
    ----------
    space
        The class of the space.
    arch_id
        Of the architecture.
    arch
        Its active labels.
    inactive
        The labels that it does not need.
    parts
        The network itself and the modules in it, each before those in it.
    misread
        A sentence for layers of the space that read a concatenation in another order than their
        width says, so that architectures share weights of channels that have nothing to do with
        each other; see :func:`nas_space.nn.decisions.misread`.
    """

    space: str
    arch_id: str
    arch: Sample
    inactive: list[str]
    parts: list[ExplainedModule]
    misread: list[str]

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole network for one sample."""
        return self.parts[0].macs

    @property
    def params(self) -> int:
        """Parameters of the whole network."""
        return self.parts[0].params

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries, for JSON."""
        told = {**asdict(self), "macs": self.macs, "params": self.params}
        plain: dict[str, Any] = json.loads(json.dumps(told))
        return plain

    def rows(self, depth: int | None = None) -> Iterator[tuple[str, ...]]:
        """Return path, class, deciding labels, shapes, multiply-adds and parameters, in words.

        Parameters
        ----------
        depth
            How deep to look into modules; to the end by default.
        """
        for part in self.parts:
            if depth is not None and part.path.count(".") >= depth:
                continue
            decided = labelled(part.decided, ", ")
            shapes = (
                "" if not part.outputs else f"{_written(part.inputs)} → {_written(part.outputs)}"
            )
            macs, params = (f"{number:,}" if number else "" for number in (part.macs, part.params))
            yield part.path or f"({self.space})", part.kind, decided, shapes, macs, params

    def table(self, depth: int | None = None) -> Table:
        """Return the same as a table of Rich."""
        from rich.table import Table

        left = "\n".join(self._notes()) or None
        table = Table(title=f"{self.space} {self.arch_id}", caption=left, box=None)
        for name in ("module", "class", "decided by", "shapes"):
            table.add_column(name, overflow="fold")
        for name in ("MACs", "parameters"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows(depth):
            table.add_row(*row)
        return table

    def _repr_html_(self) -> str:
        return html_of(self)

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        rows = [("module", "class", "decided by", "shapes", "MACs", "parameters"), *self.rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place < 4 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.space} {self.arch_id}", *lines, *self._notes()])

    def _notes(self) -> list[str]:
        unused = [f"not used: {', '.join(self.inactive)}"] if self.inactive else []
        return unused + self.misread

    def picture(self, path: str | os.PathLike[str], depth: int = 2) -> None:
        """Draw the modules that cost something: how many multiply-adds and parameters each has.

        Parameters
        ----------
        path
            The file; its ending says which format.
        depth
            How deep to look into modules.
        """
        shown = [p for p in self.parts if p.path and p.path.count(".") < depth]
        inner = {p.path.rpartition(".")[0] for p in shown}
        shown = [p for p in shown if p.path not in inner and (p.macs or p.params)]
        figure = new_figure(WIDTH, 0.6 + 0.42 * len(shown), constrained=False)
        axes = figure.add_axes((0.03, 0.0, 0.94, 1.0))
        axes.set_xlim(0, 1)
        axes.set_ylim(len(shown), -0.6 / 0.42)
        axes.axis("off")
        title = f"{self.space} {self.arch_id}"
        axes.text(0, -1.1, plain(title), fontsize=10, weight="bold", color=INK, va="center")
        for x, name, colour in ((0, "multiply-adds", SHARE), (0.34, "parameters", CHOSEN)):
            axes.barh([-0.45], [0.03], left=x, height=0.18, color=colour)
            axes.text(x + 0.04, -0.45, name, fontsize=8, color=MUTED, va="center")
        most = [max(1, *sizes) for sizes in zip(*((p.macs, p.params) for p in shown), strict=True)]
        for place, part in enumerate(shown):
            told = f"{readable(part.macs)}, {readable(part.params)}"
            axes.text(0, place + 0.25, plain(_caption(part)), fontsize=8, color=INK, va="center")
            axes.text(1, place + 0.25, told, fontsize=8, color=MUTED, va="center", ha="right")
            for y, size, whole, colour in (
                (0.55, part.macs, most[0], SHARE),
                (0.73, part.params, most[1], CHOSEN),
            ):
                axes.barh([place + y], [size / whole], height=0.14, color=colour)
        save(figure, path)


def _caption(part: ExplainedModule) -> str:
    decided = ", ".join(map(str, part.decided.values()))
    return f"{part.path}  {decided or part.kind}"


def _written(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)


def explain(
    space: Any, arch: Mapping[str, Any], input_shape: tuple[int, ...] | None = None
) -> Explanation:
    """Say what an architecture is, module by module: what decided it, its shapes, its costs.

    It is what ``space.explain(arch)`` calls.

    Parameters
    ----------
    space
        A space, or a restriction of one.
    arch
        The architecture.
    input_shape
        The shape of one sample, without the batch; by default ``example_shape`` of the space's
        class.  Without either, there are neither shapes nor multiply-adds.

    Raises
    ------
    SampleValidationError
        If the architecture is not in the space.
    SpaceError
        If the network does not run on such an input, or calls what nobody knows the cost of.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> space = ProxylessNAS(width_mult=0.25)
    >>> told = explain(space, space.sample(seed=0), (3, 32, 32))
    >>> told.parts[0].kind, told.parts[0].outputs
    ('ProxylessNAS', [(1, 1000)])
    """
    space.validate(arch)
    space = unrestricted(space)
    shape = space.example_shape if input_shape is None else input_shape
    active = space.canonical(arch)
    # On the meta device: shapes and counts of parameters need no memory and no arithmetic.
    network = space.freeze(active, device="meta").eval()
    dtype = next((parameter.dtype for parameter in network.parameters()), None)
    followed = None if shape is None else profile(network, shape, dtype=dtype)
    ran, misread = dict[str, ModuleCost](), list[str]()
    if followed is not None:
        ran = _by_path(followed)
        calls = (call for _, call in followed.root.functions())
        misread = read_otherwise(space, calls, *followed.inputs.given)
    unknown = ModuleCost("", "", 0, [], [], 0)
    parts = []
    for path, _, origins, module in beside_space(space, network, active):
        cost = ran.get(path, unknown)
        parts.append(
            ExplainedModule(
                path,
                type(module).__name__,
                _decided(origins, active),
                cost.inputs,
                cost.outputs,
                cost.macs,
                sum(parameter.numel() for parameter in module.parameters()),
            )
        )
    inactive = [label for label in space.symbols() if label not in active]
    return Explanation(
        type(space).__name__, space.arch_id(active), active, inactive, parts, misread
    )


def _by_path(followed: Profile) -> dict[str, ModuleCost]:
    """Return shapes and costs of a network's modules by path; costs of several calls are summed."""
    found: dict[str, ModuleCost] = {}
    for row in followed.modules({}):
        before = found.get(row.path)
        found[row.path] = row if before is None else replace(row, macs=row.macs + before.macs)
    return found


def _decided(origins: list[Any], active: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels that decided what a module is, and their values, as far as active."""
    decisive = [origin for origin in origins if isinstance(origin, MutableModule)]
    labels = [label for origin in decisive for label in labels_of(origin)]
    return {label: active[label] for label in labels if label in active}

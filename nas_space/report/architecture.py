"""A picture of one architecture: which block stands where, and how wide it is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..files import replacing
from ..mutable import Values
from ..nn import LayerChoice, ModelSpace, Repeat
from ..training.modes import preserved_modes
from . import html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "Unit", "architecture_picture", "blocks_of", "units_of"]

# Okabe and Ito's palette, which colour-blind readers can tell apart; fixed parts are grey.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#F0E442", "#999933")
_FIXED = "#C8C8C8"


@dataclass
class Unit:
    """One block of an architecture.

    Attributes
    ----------
    path
        Of its module in the space.
    text
        What was chosen, or the class of a fixed part.
    chosen
        Whether there was a choice.
    shape
        Of its output, without the batch.
    """

    path: str
    text: str
    chosen: bool
    module: nn.Module
    shape: tuple[int, ...] = ()


def units_of(
    space: ModelSpace, arch: Mapping[str, Any], input_shape: tuple[int, ...]
) -> list[Unit]:
    """The blocks that an architecture runs, in the order in which they run, with their shapes.

    Sequences, repeats and choices are looked into; every other module is one block.
    """
    found: list[Unit] = []
    _collect(space, "", space.read(arch), found)
    order: list[Unit] = []
    hooks = []
    for unit in found:

        def after(_module: nn.Module, _inputs: Any, output: Any, unit: Unit = unit) -> None:
            if isinstance(output, torch.Tensor):
                unit.shape = tuple(output.shape[1:])
                order.append(unit)

        hooks.append(unit.module.register_forward_hook(after))
    try:
        reference = next(iter(space.parameters()), torch.zeros(()))
        images = torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype)
        with torch.no_grad(), preserved_modes(space), space.activate(arch):
            space.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _collect(module: nn.Module, path: str, values: Values, found: list[Unit]) -> None:
    if isinstance(module, LayerChoice):
        name = values(module.expression("choice"))
        candidate = module[name]
        found.append(Unit(f"{path}.{name}".lstrip("."), str(name), True, candidate))
        return
    children = dict(module.named_children())
    if isinstance(module, Repeat):
        depth = values(module.expression("depth_choice"))
        children = {f"blocks.{i}": block for i, block in enumerate(module.blocks) if i < depth}
    elif not (path == "" or type(module) is nn.Sequential):
        found.append(Unit(path, type(module).__name__.removeprefix("Mutable"), False, module))
        return
    for name, child in children.items():
        _collect(child, f"{path}.{name}".lstrip("."), values, found)


def architecture_picture(
    space: ModelSpace,
    arch: Mapping[str, Any],
    input_shape: tuple[int, ...],
    path: Path | str,
    title: str = "",
) -> None:
    """Draw an architecture into a PNG file.

    A bar for each block, in order: its height is the number of channels that come out, its
    colour what was chosen, and below it stands the size of the image.

    Parameters
    ----------
    space, arch
        What to draw.
    input_shape
        Of one sample, without the batch.
    path
        The file.
    title
        What stands above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    units = [unit for unit in units_of(space, arch, input_shape) if unit.shape]
    figure = Figure(figsize=(max(7.0, 0.52 * len(units) + 1.5), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    options = sorted({unit.text for unit in units if unit.chosen})
    colours = {text: COLOURS[i % len(COLOURS)] for i, text in enumerate(options)}
    heights = [unit.shape[0] for unit in units]
    axes.bar(
        range(len(units)),
        heights,
        color=[colours.get(unit.text, _FIXED) if unit.chosen else _FIXED for unit in units],
        edgecolor="white",
        width=0.86,
    )
    for place, unit in enumerate(units):
        axes.text(place, unit.shape[0], f"{unit.shape[0]}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(units)))
    axes.set_xticklabels(
        [html.plain(unit.text) for unit in units], rotation=60, ha="right", fontsize=8
    )
    _mark_sizes(axes, units)
    axes.set_yscale("log", base=2)
    axes.set_ylim(max(1, min(heights) / 2), max(heights) * 1.7)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("channels out")
    axes.set_title(html.plain(title or type(space).__name__), loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as file:
        figure.savefig(file, dpi=120)


def _mark_sizes(axes: Axes, units: list[Unit]) -> None:
    """Where the size of the image changes, a line and the new size."""
    last: tuple[int, ...] | None = None
    for place, unit in enumerate(units):
        size = unit.shape[1:]
        if size != last and size:
            if last is not None:
                axes.axvline(place - 0.5, color="#BBBBBB", linewidth=0.8, linestyle=":")
            axes.text(
                place - 0.45, 0.985, "×".join(map(str, size)), fontsize=8, color="#555555",
                transform=axes.get_xaxis_transform(), va="top",
            )  # fmt: skip
        last = size or last


def blocks_of(space: Any, arch: Mapping[str, Any], input_shape: tuple[int, ...]) -> str:
    """Return the same picture as a part of a page."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "architecture.png")
        architecture_picture(space, arch, input_shape, picture)
        return html.image(picture.read_bytes(), "png", "The blocks that it runs, in their order.")

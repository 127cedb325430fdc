"""Which strategies support which primitives: tried, on a small space for each primitive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ..errors import NasSpaceError
from ..mutable import Categorical, Numerical
from ..nn import (
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableBatchNorm2d,
    MutableConv2d,
    MutableGroupNorm,
    MutableLayerNorm,
    MutableLinear,
    MutableModule,
    Repeat,
)
from ..nn.generic_layers import generic_layer
from ..randomness import preserved_randomness, seed_globally
from ..strategy import ONE_SHOT, STRATEGIES, Evaluated, SearchState, Strategy, get_strategy
from ..strategy.oneshot import OneShot, Run
from ..training import Task

__all__ = ["PRIMITIVES", "Support", "probe_of", "tried", "tries"]


class _Picked(nn.Module):
    """Some of three inputs, or none."""

    def __init__(self, n_chosen: int | None, reduction: Any) -> None:
        super().__init__()
        self.ops = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))
        self.pick = InputChoice(3, n_chosen=n_chosen, reduction=reduction, label="inputs")
        self.last = nn.Conv2d(8 if reduction == "concat" else 4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        picked = self.pick([op(x) for op in self.ops])
        y: Tensor = self.last(x if picked is None else picked)
        return y


class _WidthResidual(nn.Module):
    def __init__(self, width: Any) -> None:
        super().__init__()
        self.conv = MutableConv2d(width, width, 3, padding=1)
        self.norm = MutableBatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.norm(self.conv(x)).relu()
        return y


class _ChannelsLast(nn.Module):
    """Runs layers on the channels as the last dimension."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.movedim(1, -1)).movedim(-1, 1)
        return y


class _Joined(nn.Module):
    """Two elastic branches, concatenated; something is done with their channels."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        width, other = _width(), _width("other")
        self.run = run
        self.first, self.second = _conv(4, width), _conv(4, other)
        self.last = _conv(width + other, 4)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.first(x), self.second(x)], 1)
        y: Tensor = self.last(self.run(joined))
        return y


def _put(x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x


class _Scaled(MutableModule):
    """A layer of a user that reads a choice as a number."""

    factor: Any

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor  # type: ignore[no-any-return]


def _conv(inputs: Any, outputs: Any, kernel: Any = 3, **more: Any) -> nn.Module:
    return MutableConv2d(inputs, outputs, kernel, padding=kernel // 2, **more)


def _width(name: str = "width") -> Any:
    return Categorical([2, 4, 6], label=name)


def _choice() -> nn.Module:
    return LayerChoice([nn.Conv2d(4, 4, 3, padding=1), nn.Identity()], label="op")


def _norm_of(width: Any) -> nn.Module:
    return nn.Sequential(_conv(4, width), MutableBatchNorm2d(width), nn.ReLU(), _conv(width, 4))


def _depthwise() -> nn.Module:
    width, kernel = _width(), Categorical([3, 5], label="kernel")
    return nn.Sequential(
        _conv(4, width, 1), _conv(width, width, kernel, groups=width), _conv(width, 4, 1)
    )


def _around(part: Callable[[Any], nn.Module], *, last: bool = False) -> nn.Module:
    """Return a part of elastic width between layers of that; channels may be the last dimension."""
    width = _width()
    if last:
        return _ChannelsLast(MutableLinear(4, width), part(width), MutableLinear(width, 4))
    return nn.Sequential(_conv(4, width), part(width), _conv(width, 4))


PRIMITIVES: dict[str, Callable[[], nn.Module]] = {
    "LayerChoice": _choice,
    "InputChoice, one": lambda: _Picked(1, "sum"),
    "InputChoice, any number": lambda: _Picked(None, "mean"),
    "InputChoice, joined": lambda: _Picked(2, "concat"),
    "Repeat": lambda: Repeat(lambda _: nn.Conv2d(4, 4, 3, padding=1), (0, 2), label="depth"),
    "choice within a Repeat": lambda: Repeat(
        lambda i: LayerChoice([nn.Conv2d(4, 4, 1), nn.Identity()], label=f"op{i}"),
        (1, 2),
        label="depth",
    ),
    "width, with batch norm": lambda: _norm_of(_width()),
    "width as an expression": lambda: _norm_of(_width() * Categorical([1, 2], label="ratio")),
    "kernel": lambda: _conv(4, 4, Categorical([1, 3, 5], label="kernel")),
    "depthwise groups": _depthwise,
    "residual of a width": lambda: _around(_WidthResidual),
    "groups": lambda: _conv(4, 4, groups=Categorical([1, 2], label="groups")),
    "linear width": lambda: _around(lambda _: nn.ReLU(), last=True),
    "size of layer norm": lambda: _around(MutableLayerNorm, last=True),
    "size of group norm": lambda: _around(lambda width: MutableGroupNorm(2, width)),
    "concatenated widths": lambda: _Joined(torch.relu),
    "softmax over a width": lambda: _Joined(partial(torch.softmax, dim=1)),
    "channels moved": lambda: _Joined(partial(torch.flip, dims=(1,))),
    "channels set in place": lambda: _Joined(_put),
    "stride": lambda: MutableConv2d(4, 4, 3, padding=1, stride=Categorical([1, 2], label="stride")),
    "dilation": lambda: MutableConv2d(
        4, 4, 3, padding=1, dilation=Categorical([1, 2], label="dilation")
    ),
    "padding, another shape": lambda: MutableConv2d(
        4, 4, 3, padding=Categorical([0, 1], label="padding")
    ),
    "numerical label": lambda: generic_layer("Dropout")(Numerical(0.1, 0.5, label="share")),
    "choice read as a number": lambda: _Scaled(Categorical([1, 2], label="factor")),
}
"""Name to what makes a part of a network: images with four channels in, and four out."""


class _Probe(ModelSpace):
    def __init__(self, primitive: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.body = PRIMITIVES[primitive]()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
        return y


def probe_of(primitive: str) -> Any:
    """Return a small space of networks for 3×8×8 images and three classes, with one primitive.

    Parameters
    ----------
    primitive
        A name of :data:`PRIMITIVES`.
    """
    return _Probe(primitive)


@dataclass(frozen=True)
class Support:
    """Whether a strategy supports a primitive.

    Attributes
    ----------
    outcome
        'works'; 'refused', with an error of this library before anything was trained; or 'fails'.
    reason
        What the error says.
    """

    outcome: Literal["works", "refused", "fails"]
    reason: str = ""


def tried(strategy: Strategy | OneShot, primitive: str) -> Support:
    """Search the probe of a primitive for two steps, and run the network that it finds.

    Parameters
    ----------
    strategy
        Over trials, or one-shot.
    primitive
        A name of :data:`PRIMITIVES`.

    Examples
    --------
    >>> from nas_space.strategy import DARTS, RandomOneShot
    >>> tried(RandomOneShot(candidates=2), "stride").outcome, tried(DARTS(), "stride").outcome
    ('works', 'refused')
    """
    with preserved_randomness():
        seed_globally(0, "support", 0)
        space = probe_of(primitive)
        try:
            begin = _begun if isinstance(strategy, OneShot) else _checked
            going_on = begin(space, strategy)  # type: ignore[arg-type]
        except NasSpaceError as error:
            return Support("refused", str(error))
        try:
            network = going_on()
            output = network.eval()(torch.zeros(2, 3, 8, 8))
        except (NasSpaceError, RuntimeError, TypeError, ValueError) as error:
            return Support("fails", str(error))
    return Support("works" if output.shape == (2, 3) else "fails")


def _begun(space: Any, strategy: OneShot) -> Callable[[], Any]:
    data = TensorDataset(torch.randn(16, 3, 8, 8), torch.arange(16) % 3)
    task = Task.classification(data, validation=data, batch_size=8)
    run = Run(strategy, space, task, steps=2)

    def go_on() -> Any:
        while not run.done:
            run.advance()
        return run.frozen()

    return go_on


def _checked(space: Any, strategy: Strategy) -> Callable[[], Any]:
    strategy.check(space)

    def go_on() -> Any:
        history: list[Evaluated] = []
        for number in range(2):
            arch = space.canonical(strategy.propose(SearchState(space, history, number=number)))
            history.append(Evaluated(number, arch, (float(number),)))
        return space.freeze(history[-1].arch)

    return go_on


def tries() -> Iterator[tuple[str, dict[str, Support]]]:
    """Yield each primitive with the support of all strategies for it."""
    few: dict[str, dict[str, Any]] = {
        name: {"candidates": 2, "calibration_batches": 1}
        for name in ("enas", "proxyless", "random-path")
    }
    for primitive in PRIMITIVES:
        yield (
            primitive,
            {
                name: tried(get_strategy(name, **few.get(name, {})), primitive)
                for name in sorted([*STRATEGIES, *ONE_SHOT])
            },
        )

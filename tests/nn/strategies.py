"""Random spaces of networks, drawn as recipes: plain data from which a space is built.

Labels are shared on purpose: each name has one domain, and parts pick among few names.
Images keep their size from part to part, so that any part can follow any other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical, MutableExpression, Sample, SampleBatch, make_divisible
from nas_space.nn import LayerChoice, ModelSpace, MutableModule, Repeat

Recipe = tuple[Any, ...]
Width = Any
CLASSES = 3

# -- the labels, and expressions over them ----------------------------------------------------

DOMAINS: dict[str, list[Any]] = {
    "w0": [4, 8],
    "w1": [8, 4, 12],
    "k0": [1, 3],
    "k1": [3, 5, 1],
    "h0": [1, 2, 4],
    "g0": [1, 2],
    "b0": [True, False],
    "f0": [1, 2, 3],
    "e0": [1e-5, 1e-2],
    "s0": [1, 2],
}


def label(name: str) -> Any:
    return Categorical(DOMAINS[name], label=name)


def width_of(recipe: Recipe) -> Width:
    """A multiple of four."""
    kind, name, other = recipe
    width = label(name)
    if kind == "number":
        return 8
    if kind == "plain":
        return width
    if kind == "double":
        return width * 2
    if kind == "divisible":
        return make_divisible(width * 1.5, 4)
    if kind == "largest":
        return MutableExpression.max(width, label(other))
    return MutableExpression.condition(label("b0"), width, label(other))


names = st.sampled_from(["w0", "w1"])
widths = st.tuples(
    st.sampled_from(["number", "plain", "plain", "double", "divisible", "largest", "condition"]),
    names,
    names,
)

# -- modules of a user's own ------------------------------------------------------------------


class OnChannels(nn.Module):
    """A layer that works on the last dimension, applied to channels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class Attention(nn.Module):
    def __init__(self, width: Width, heads: Any) -> None:
        super().__init__()
        self.attention = mnn.MutableMultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        y: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        z: Tensor = y.transpose(1, 2).unflatten(2, x.shape[2:])
        return z


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.inner(x)
        return y


class Twice(nn.Module):
    """One module under two names."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = inner
        self.second = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self, width: Width) -> None:
        super().__init__()
        self.first = OnChannels(mnn.MutableLinear(width, width))
        self.second = OnChannels(mnn.MutableLinear(width, width, bias=False))
        cast(nn.Linear, self.second.layer).weight = cast(nn.Linear, self.first.layer).weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).tanh())
        return y


class Holder(nn.Module):
    """Expressions in attributes, lists and dictionaries; a method and a partial among them."""

    def __init__(self, factor: Any, shifts: list[Any], inner: nn.Module) -> None:
        super().__init__()
        self.factor = factor
        self.table = {"shifts": shifts, "none": None}
        self.step = self.scaled
        self.shift = functools.partial(torch.add, alpha=0.5)
        self.others = [inner]  # a module that torch does not know of

    def train(self, mode: bool = True) -> Holder:
        self.others[0].train(mode)
        return super().train(mode)

    def scaled(self, x: Tensor) -> Tensor:
        y: Tensor = x * ns.active(self.factor)
        return y

    def forward(self, x: Tensor) -> Tensor:
        for shift in self.table["shifts"] or ():
            x = self.shift(x, ns.active(shift))
        y: Tensor = self.others[0](self.step(x))
        return y


class Scale(MutableModule):
    """An expression as an attribute, read in forward."""

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.factor
        return y


class Gain(mnn.ParametrizedModule):
    """One instance for each number of steps, each with a weight of its own."""

    def __init__(self, steps: int, plain: float = 0.5) -> None:
        super().__init__()
        self.steps = steps
        self.gain = nn.Parameter(torch.full((steps,), plain))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.sum() / self.steps


class Branches(nn.Module):
    def __init__(self, branches: list[nn.Module], n_chosen: int | None, reduction: Any) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.choose = mnn.InputChoice(
            len(branches), n_chosen, reduction, label=f"in{len(branches)}{n_chosen}"
        )

    def forward(self, x: Tensor) -> Tensor:
        chosen: Any = self.choose([branch(x) for branch in self.branches])
        if isinstance(chosen, list):
            chosen = torch.stack([x, *chosen]).sum(0)
        return x if chosen is None else cast(Tensor, chosen)


class Hooked(nn.Module):
    """A hook that is a method of another module."""

    def __init__(self, inner: nn.Module, width: Width) -> None:
        super().__init__()
        self.norm = mnn.MutableBatchNorm2d(width)
        self.inner = inner
        inner.register_forward_hook(self.normalised)

    def normalised(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        del module, args
        y: Tensor = self.norm(output)
        return y

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


class Part(ModelSpace):
    """A space as a part of another."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


# -- from recipes to modules ------------------------------------------------------------------


def make(recipe: Recipe, width: Width) -> tuple[nn.Module, Width]:
    """The module of a recipe for an input width, and the width of its output."""
    kind, *content = recipe
    made: tuple[nn.Module, Any] = _MAKERS[kind](width, *content)
    return made


def keeping(recipe: Recipe, width: Width, out: Width = None) -> nn.Module:
    """As :func:`make`, with an output of the width of the input, or another given one."""
    out = width if out is None else out
    module, made = make(recipe, width)
    return module if made is out else nn.Sequential(module, mnn.MutableConv2d(made, out, 1))


def _convolution(width: Width, out: Recipe, kernel: str, plain: bool, bias: str) -> Any:
    size = label(kernel)
    wide = width_of(out)
    groups: Any = 1 if plain else label("g0")
    return (
        mnn.MutableConv2d(
            width, wide, size, padding=size // 2, groups=groups, bias=label(bias), dilation=1
        ),
        wide,
    )


def _depthwise(width: Width, kernel: str) -> Any:
    size = label(kernel)
    conv = mnn.MutableConv2d(width, width, size, padding=(size - 1) // 2, groups=width)
    return conv, width


def _normalisation(width: Width, kind: str) -> Any:
    eps = label("e0")
    if kind == "batch":
        return mnn.MutableBatchNorm2d(width, eps=eps, momentum=label("e0") * 10), width
    if kind == "group":
        return mnn.MutableGroupNorm(label("g0"), width, eps=eps), width
    return OnChannels(mnn.MutableLayerNorm(width, eps=eps)), width


def _activation(width: Width, kind: str) -> Any:
    made: dict[str, Callable[[], nn.Module]] = {
        "leaky": lambda: mnn.MutableLeakyReLU(1 / label("f0")),
        "dropout": lambda: mnn.MutableDropout(ns.uniform("rate", 0, 0.9)),
        "relu": nn.ReLU,
        "pool": lambda: mnn.MutableAvgPool2d(label("k1"), 1, label("k1") // 2),
    }
    return made[kind](), width


def _linear(width: Width, out: Recipe) -> Any:
    wide = width_of(out)
    return OnChannels(mnn.MutableLinear(width, wide, bias=label("b0"))), wide


def _choice(width: Width, out: Recipe, parts: list[Recipe], index: int, how: str) -> Any:
    wide = width_of(out)
    candidates: list[Any] = [functools.partial(keeping, part, width, wide) for part in parts]
    if "module" in how:
        candidates = [candidate() for candidate in candidates]
    name = f"op{len(parts)}{how[0]}{index}"
    if how[0] == "d":
        named = {f"c{place}": candidate for place, candidate in enumerate(candidates)}
        return LayerChoice(named, label=name), wide
    return LayerChoice(candidates, label=name), wide


def _repeat(width: Width, part: Recipe, how: str, depth: tuple[int, int, str], index: int) -> Any:
    low, high, kind = depth

    def build(_: int) -> nn.Module:
        return keeping(part, width)

    forms: dict[str, Callable[[], Any]] = {
        "builder": lambda: build,
        "list": lambda: [build] * high,
        "module": lambda: build(0),
    }
    blocks = forms[how]()
    if kind == "number":
        return Repeat(blocks, high), width
    if kind == "range":
        return Repeat(blocks, (low, high), label=f"depth{low}{high}{index}"), width
    return Repeat(blocks, Categorical([0, 1], label="depth") * high), width


def _inputs(width: Width, parts: list[Recipe], n_chosen: int | None, reduction: str) -> Any:
    if n_chosen is not None:
        n_chosen = min(n_chosen, len(parts))
    if reduction == "concat" and n_chosen is None:
        reduction = "mean"
    branches = Branches([keeping(part, width) for part in parts], n_chosen, reduction)
    return branches, width * cast(int, n_chosen) if reduction == "concat" else width


def _wrapped(width: Width, kind: str, part: Recipe) -> Any:
    inner = keeping(part, width)
    if kind == "hooked":
        # In a sequence: nothing is left of a choice, and so it can have no hooks.
        return Hooked(nn.Sequential(inner), width), width
    made = {"residual": Residual, "twice": Twice, "space": Part}[kind]
    return made(inner), width


def _holder(width: Width, factor: str, shifts: list[str], part: Recipe) -> Any:
    return Holder(label(factor), [label(s) / 7 for s in shifts], keeping(part, width)), width


_MAKERS: dict[str, Callable[..., Any]] = {
    "convolution": _convolution,
    "depthwise": _depthwise,
    "normalisation": _normalisation,
    "activation": _activation,
    "linear": _linear,
    "choice": _choice,
    "repeat": _repeat,
    "inputs": _inputs,
    "wrapped": _wrapped,
    "holder": _holder,
    "attention": lambda width: (Attention(width, label("h0")), width),
    "tied": lambda width: (Tied(width), width),
    "scale": lambda width, name: (Scale(label(name) * 0.5), width),
    "gain": lambda width, name: (Gain(label(name), 0.25), width),
}


class RandomSpace(ModelSpace):
    """The space of a recipe."""

    def __init__(self, stem: Recipe, parts: list[Recipe]) -> None:
        super().__init__()
        width = width_of(stem)
        self.stem = mnn.MutableConv2d(3, width, 3, stride=label("s0"), padding=1)
        body = []
        for part in parts:
            module, width = make(part, width)
            body.append(module)
        self.body = nn.Sequential(*body)
        self.head = mnn.MutableLinear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
        return y


# -- strategies -------------------------------------------------------------------------------

_flat: st.SearchStrategy[Recipe] = st.one_of(
    st.tuples(
        st.just("convolution"),
        widths,
        st.sampled_from(["k0", "k1"]),
        st.booleans(),
        st.just("b0"),
    ),
    st.tuples(st.just("depthwise"), st.sampled_from(["k0", "k1"])),
    st.tuples(st.just("normalisation"), st.sampled_from(["batch", "group", "layer"])),
    st.tuples(st.just("activation"), st.sampled_from(["leaky", "dropout", "relu", "pool"])),
    st.tuples(st.just("linear"), widths),
    st.tuples(st.sampled_from(["scale", "gain"]), st.just("f0")),
    st.tuples(st.sampled_from(["attention", "tied"])),
)


def _nested(parts: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    some = st.lists(parts, min_size=1, max_size=3)
    index = st.integers(0, 1)
    depths = st.tuples(
        st.integers(0, 1), st.integers(1, 3), st.sampled_from(["number", "range", "expression"])
    )
    return st.one_of(
        st.tuples(
            st.just("choice"),
            widths,
            some,
            index,
            st.sampled_from(["dict", "list", "dict module", "list module"]),
        ),
        st.tuples(
            st.just("repeat"), parts, st.sampled_from(["builder", "list", "module"]), depths, index
        ),
        st.tuples(
            st.just("inputs"),
            some,
            st.none() | st.integers(1, 2),
            st.sampled_from(["sum", "mean", "concat", "none"]),
        ),
        st.tuples(
            st.just("wrapped"),
            st.sampled_from(["residual", "twice", "space", "hooked"]),
            parts,
        ),
        st.tuples(
            st.just("holder"),
            st.just("f0"),
            st.lists(st.sampled_from(["f0", "h0"]), max_size=2),
            parts,
        ),
    )


parts = st.recursive(_flat, _nested, max_leaves=4)
recipes: st.SearchStrategy[tuple[Recipe, list[Recipe]]] = st.tuples(
    widths, st.lists(parts, min_size=1, max_size=3)
)
"""Arguments of :class:`RandomSpace`."""

seeds = st.integers(0, 2**16)


@st.composite
def spaces(draw: st.DrawFn) -> tuple[RandomSpace, tuple[Recipe, list[Recipe]]]:
    """A space, and the arguments that made it."""
    recipe = draw(recipes)
    torch.manual_seed(draw(seeds))
    return RandomSpace(*recipe), recipe


def architectures(space: ModelSpace, seed: int, n: int = 2) -> list[Sample]:
    """Some architectures that can be run: `n` at random, and those with the first values."""
    batch: SampleBatch = space.sample(n, seed=seed)
    defaults: Sample = {}
    space.fill(defaults, lambda symbol: symbol.default_choice())
    return [*batch, defaults]


def image(seed: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """From one network to another, modules that torch does not know of included."""
    target.load_state_dict(source.state_dict())
    for mine, its in zip(source.modules(), target.modules(), strict=True):
        if isinstance(mine, Holder) and isinstance(its, Holder):
            copy_weights(mine.others[0], its.others[0])

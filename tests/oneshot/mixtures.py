"""Random networks of elastic widths and of what torch does to them, for tests of mixtures.

Beside each feature goes what is known of it: its number of channels, the labels on which that
depends, and over which labels it is a mean already.  A mixture is the mean over all
architectures as long as nothing but sums is made of such a mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.mutable.node import Node, leaves

SIZE = 2
"""The height and the width of images."""


@dataclass
class Feature:
    """What is known of a tensor: its channels, and over which labels it is a mean."""

    channels: Any
    averaged: frozenset[str] = frozenset()
    exact: bool = True

    @property
    def labels(self) -> frozenset[str]:
        nodes = [self.channels] if isinstance(self.channels, Node) else []
        return frozenset(leaf.name for leaf in leaves(*nodes))

    @property
    def can_be_read(self) -> bool:
        """Whether what it is a mean over does not decide which weights read it as well."""
        return not (self.averaged & self.labels)


@dataclass
class Step:
    """One operation of a program: which features it takes, and what it makes of them."""

    takes: list[int]
    run: Callable[..., Tensor]
    layers: list[nn.Module] = field(default_factory=list)


def pointwise(x: Tensor) -> Tensor:
    return F.hardswish(x) + 0.5 * torch.tanh(x)


def in_place(x: Tensor) -> Tensor:
    y = x * 2
    y += x
    return F.relu(y, inplace=True)


def norm_by_hand(x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    y: Tensor = (x - mean) / ((x - mean).square().mean(1, keepdim=True) + 0.1).sqrt()
    return y


def attention(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    scores = (tokens @ tokens.transpose(-2, -1)) * c**-0.5
    y: Tensor = (scores.softmax(-1) @ tokens).transpose(1, 2).reshape(b, c, h, w)
    return y


def sdpa(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    y = F.scaled_dot_product_attention(tokens, tokens, tokens)
    z: Tensor = y.transpose(1, 2).unflatten(2, (SIZE, SIZE))
    return z


def softmax(x: Tensor) -> Tensor:
    return x.softmax(1) * 3


def gram(x: Tensor) -> Tensor:
    y = x.flatten(2)
    return (y @ y.transpose(1, 2) @ y).view(x.shape) * 0.1


MIXING = (norm_by_hand, attention, sdpa, softmax, gram, F.normalize)
"""Mix the channels: they are run for each width."""


def flipped(x: Tensor) -> Tensor:
    return x.flip(1).roll(1, 1)


def spatially(x: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(F.pad(x, (0, 1, 1, 0)), 2, 1), size=(SIZE, SIZE))


def there_and_back(x: Tensor) -> Tensor:
    b, c, *rest = x.shape
    return x.movedim(1, -1).reshape(b, -1, c).transpose(-1, -2).view(b, c, *rest).contiguous()


def by_pieces(x: Tensor) -> Tensor:
    first, second = x[:, :1], x[:, 1:]
    return torch.cat([second, first * 2, -x[..., [0, 1]][:, -1:]], 1)[:, : x.shape[1]]


MOVING = (flipped, spatially, there_and_back, by_pieces)
"""Work on each channel by itself, or move channels."""


def shuffled_by_hand(x: Tensor, y: Tensor) -> Tensor:
    both = torch.cat([x, y], 1)
    b, c, h, w = both.size()
    return both.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, -1, h, w)


def shuffled(x: Tensor, y: Tensor) -> Tensor:
    return F.channel_shuffle(torch.cat([x, y], 1), 2)


def stacked(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y], 2).flatten(1, 2)


def glu(x: Tensor, y: Tensor) -> Tensor:
    return F.glu(torch.cat([x, y], 1), 1)


def product(x: Tensor, y: Tensor) -> Tensor:
    first, second = torch.cat([x, y], 1).chunk(2, 1)
    return first * second.sigmoid()


def added(x: Tensor, y: Tensor) -> Tensor:
    return x + y * 0.5


class Net(ns.ModelSpace):
    """A program of steps; the sum of what is left is read by a layer of plain width."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.widths = [Categorical([1, 3], label="w"), Categorical([2, 4], label="v")]
        self.features = [Feature(3)]
        self.steps: list[Step] = []
        self.used: set[int] = set()
        self.layers = nn.ModuleList()
        for _ in range(2):
            self._elastic(draw, 0)
        for _ in range(draw(st.integers(2, 6))):
            self._extend(draw)
        self.readers = nn.ModuleDict()
        for place, feature in enumerate(self.features):
            if place not in self.used and place:
                self.readers[str(place)] = mnn.MutableConv2d(feature.channels, 2, 1)
                feature.exact = feature.exact and feature.can_be_read

    @property
    def is_exact(self) -> bool:
        return all(feature.exact for feature in self.features)

    def _add(
        self, takes: list[int], run: Callable[..., Tensor], made: Feature, *layers: Any
    ) -> None:
        self.used.update(takes)
        self.layers.extend(layers)
        self.steps.append(Step(takes, run, list(layers)))
        takers = [self.features[place] for place in takes]
        made.exact = made.exact and all(feature.exact for feature in takers)
        if any(isinstance(layer, mnn.ElasticModule) for layer in layers):
            made.exact = made.exact and all(feature.can_be_read for feature in takers)
        self.features.append(made)

    def _elastic(self, draw: Any, place: int) -> None:
        taken = self.features[place]
        kinds = ["conv", "norm", "depthwise", "layer norm", "linear"] if place else ["conv"]
        kind = draw(st.sampled_from(kinds))
        width = draw(st.sampled_from(self.widths)) if kind in ("conv", "linear") else taken.channels
        averaged = taken.averaged | taken.labels
        made = Feature(width, averaged)
        layer: Any
        inner: Any
        if kind == "conv":
            layer = mnn.MutableConv2d(taken.channels, width, 3, padding=1)
        elif kind == "linear":
            inner = mnn.MutableLinear(taken.channels, width)
            made.exact = not (made.labels & taken.averaged)
            self._add([place], lambda x: inner(x.movedim(1, -1)).movedim(-1, 1), made, inner)
            return
        elif kind == "norm":
            layer = mnn.MutableBatchNorm2d(width, momentum=0.0)
            made.averaged = taken.averaged
        elif kind == "depthwise":
            layer = mnn.MutableConv2d(width, width, 3, padding=1, groups=width)
            made.averaged = taken.averaged
        else:
            inner = mnn.MutableLayerNorm(width)
            made.exact = not taken.averaged
            self._add([place], lambda x: inner(x.movedim(1, -1)).movedim(-1, 1), made, inner)
            return
        if kind == "norm":
            made.exact = not taken.averaged
        elif kind == "conv":
            made.exact = not (made.labels & taken.averaged)
        self._add([place], layer, made, layer)

    def _extend(self, draw: Any) -> None:
        place = draw(st.integers(1, len(self.features) - 1))
        taken = self.features[place]
        kind = draw(
            st.sampled_from(["elastic", "point", "mixing", "moving", "cat", "pair", "choice"])
        )
        plain = not taken.averaged
        if kind == "elastic":
            self._elastic(draw, place)
        elif kind == "point":
            run = draw(st.sampled_from([pointwise, in_place]))
            self._add([place], run, Feature(taken.channels, taken.averaged, plain))
        elif kind == "mixing":
            run = draw(st.sampled_from(MIXING))
            self._add([place], run, Feature(taken.channels, taken.averaged, plain))
        elif kind == "moving":
            run = draw(st.sampled_from(MOVING))
            self._add([place], run, Feature(taken.channels, taken.averaged))
        elif kind == "cat":
            others = draw(st.lists(st.integers(1, len(self.features) - 1), min_size=1, max_size=2))
            places = [place, *others]
            channels = sum([self.features[p].channels for p in places[1:]], taken.channels)
            averaged = frozenset().union(*(self.features[p].averaged for p in places))
            cat = lambda *tensors: torch.cat(tensors, 1)  # noqa: E731
            self._add(places, cat, Feature(channels, averaged))
        elif kind == "pair":
            alike = [p for p, f in enumerate(self.features) if f.channels is taken.channels and p]
            other = draw(st.sampled_from(alike))
            averaged = taken.averaged | self.features[other].averaged
            run = draw(st.sampled_from([shuffled, shuffled_by_hand, stacked, glu, product, added]))
            doubled = run in (shuffled, shuffled_by_hand, stacked)
            channels = taken.channels * 2 if doubled else taken.channels
            exact = run not in (glu, product) or not averaged
            self._add([place, other], run, Feature(channels, averaged, exact))
        else:
            label = f"op{len(self.steps)}"
            width = taken.channels
            branches = [nn.Identity(), nn.Tanh() if plain else mnn.MutableConv2d(width, width, 1)]
            choice = mnn.LayerChoice(branches, label=label)
            averaged = taken.averaged | {label} | (frozenset() if plain else taken.labels)
            made = Feature(width, averaged, plain)
            self._add([place], choice, made, choice)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for step in self.steps:
            found.append(step.run(*(found[place] for place in step.takes)))
        total: Any = 0
        for place, reader in self.readers.items():
            total = total + reader(found[int(place)])
        result: Tensor = total
        return result


@st.composite
def networks(draw: Any) -> Net:
    """A network, with weights in double precision."""
    torch.manual_seed(draw(st.integers(0, 99)))
    return Net(draw).double()

"""The space around MobileNetV3 that TuNAS searches (Bender et al., arXiv 2008.06120)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from ..errors import UsageError
from ..mutable import Categorical, make_divisible
from ..nn import LayerChoice, MaybeIntChoice, MutableConv2d, MutableLinear, MutableModule, Repeat
from ..nn.elastic import blank_layers
from ..nn.freezing import Freezer
from .mobile import (
    ActivationLayer,
    ConvBNReLU,
    DepthwiseSeparableConv,
    InvertedResidual,
    one_of,
    reset_parameters,
)
from .published import published_in
from .searched import SearchedSpace

__all__ = [
    "Compact",
    "CompactDepthwiseSeparableConv",
    "CompactInvertedResidual",
    "MobileNetV3Space",
    "SqueezeExcite",
]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "hswish": nn.Hardswish,
    "swish": nn.SiLU,
    "relu": nn.ReLU,
}
_EXCITATIONS = ("force", "optional", "none")


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that reads the means of all channels (arXiv 1709.01507).

    Parameters
    ----------
    channels
        Of the input; may be an expression.
    reduction_ratio
        The hidden width, as a part of ``reduce_from``, rounded to a multiple of 8.
    gate_layer
        Makes what turns scores into factors; hard sigmoid by default.
    activation_layer
        Makes the activation between the two convolutions; ReLU by default.
    reduce_from
        The width that is reduced, ``channels`` by default; may be an expression.

    Examples
    --------
    >>> SqueezeExcite(64)(torch.zeros(1, 64, 4, 4)).shape
    torch.Size([1, 64, 4, 4])
    """

    def __init__(
        self,
        channels: MaybeIntChoice,
        reduction_ratio: float = 0.25,
        gate_layer: Callable[[], nn.Module] | None = None,
        activation_layer: ActivationLayer | None = None,
        reduce_from: MaybeIntChoice | None = None,
    ) -> None:
        super().__init__()
        whole = channels if reduce_from is None else reduce_from
        hidden = make_divisible(whole * reduction_ratio, 8)
        self.conv_reduce = MutableConv2d(channels, hidden, 1)
        self.act1 = (activation_layer or nn.ReLU)(inplace=True)
        self.conv_expand = MutableConv2d(hidden, channels, 1)
        self.gate = (gate_layer or nn.Hardsigmoid)()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input, ``(batch, channels, height, width)``, with its channels scaled."""
        scores = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * self.gate(scores)  # type: ignore[no-any-return]


class Compact(MutableModule):
    """Base class of a ``Sequential`` that may choose an identity, and freezes without.

    So the layers of a network have the same numbers, hence names, as in one written by hand.

    Attributes
    ----------
    kind
        The class of the frozen block; its own by default.

    Examples
    --------
    >>> from nas_space.nn import LayerChoice
    >>> class Block(Compact, nn.Sequential):
    ...     pass
    >>> block = Block(LayerChoice([nn.Identity(), nn.ReLU()], label="act"), nn.Linear(2, 2))
    >>> block.freeze({"act": 0})
    Block(
      (0): Linear(in_features=2, out_features=2, bias=True)
    )
    """

    kind: ClassVar[type[nn.Sequential] | None] = None

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        """Clone what is no identity, numbered anew."""
        block = freezer.clone(self, self.kind)
        kept = []
        for layer in block.children():
            if isinstance(layer, nn.Identity):
                freezer.refuse_hooks(layer)
            else:
                kept.append(layer)
        block.__dict__["_modules"] = {str(index): layer for index, layer in enumerate(kept)}
        return block


class CompactDepthwiseSeparableConv(Compact, DepthwiseSeparableConv):
    """A :class:`DepthwiseSeparableConv` that may choose an identity for its ``squeeze_excite``.

    It freezes to the layers that are left, numbered as if it had been built without.
    """

    kind = DepthwiseSeparableConv


class CompactInvertedResidual(Compact, InvertedResidual):
    """An :class:`InvertedResidual` that may choose an identity for its ``squeeze_excite``.

    It freezes to the layers that are left, numbered as if it had been built without.

    Examples
    --------
    >>> skip_or_not = lambda hidden, _: LayerChoice(
    ...     [nn.Identity(), SqueezeExcite(hidden)], label="se"
    ... )
    >>> block = CompactInvertedResidual(8, 8, 2, squeeze_excite=skip_or_not)
    >>> len(block), len(block.freeze({"se": 0})), len(block.freeze({"se": 1}))
    (9, 8, 9)
    """

    kind = InvertedResidual


class MobileNetV3Space(SearchedSpace):
    """Inverted residuals whose widths, ratios, kernels and number are chosen, on shared weights.

    The largest space of TuNAS as NNI's hub has it.  A network is a stem, stage 0 (one
    depthwise separable block), searched stages 1 and on, and a head of two convolutions
    around a pooling.  Its labels are

    ===================  =====================================  ====================
    label                values                                 chosen for
    ===================  =====================================  ====================
    ``stem_ks``          ``stem_kernel_sizes``                  the stem's kernel
    ``s0_width_mult``    ``width_multipliers``                  the stem and stage 0
    ``s<k>_width_mult``  ``width_multipliers``                  stage, or head, ``k``
    ``s0_i0_ks``         ``first_kernel_sizes``                 stage 0's kernel
    ``s<k>_depth``       ``depth_range``                        stage ``k``
    ``s<k>_i<i>_exp``    ``expand_ratios``                      block ``i`` of it
    ``s<k>_i<i>_ks``     ``kernel_sizes``                       block ``i`` of it
    ``s<k>_i<i>_se``     ``identity``, ``se``                   where it is optional
    ===================  =====================================  ====================

    A block has a residual connection where its input and output have the same width in every
    architecture: in stage 0, and from the second block of a stage on.  That widths chosen
    apart happen to agree makes none; fixed widths that agree do.

    Published are ``mobilenetv3-large-100``, ``mobilenetv3-small-050``, ``-075`` and ``-100``
    (arXiv 1905.02244), whose images are scaled with bicubic interpolation; and ``cream-014``,
    ``-043``, ``-114``, ``-287``, ``-481`` and ``-604`` (arXiv 2010.15821), with bilinear.

    Parameters
    ----------
    num_labels
        Classes.
    base_widths
        Of the stem, of each stage, and of the two convolutions of the head.  The length of
        this decides how many stages there are, and how long the other arguments must be.
    width_multipliers
        Factors to choose from for each width, or one factor for all.  Products are rounded
        to multiples of 8.
    expand_ratios
        Ratios to choose from for each block.
    squeeze_excite
        For each stage, from stage 0 on: whether its blocks have a squeeze-and-excite
        (``'force'``), choose (``'optional'``), or do not (``'none'``).
    depth_range
        The fewest and the most blocks of a searched stage: for all, or for each from stage 1 on.
    stride
        As long as ``base_widths``; in a stage, that of the first block.
    activation
        As long as ``base_widths``: ``'hswish'``, ``'swish'`` or ``'relu'``.
    se_from_exp
        Whether a squeeze-and-excite reduces the expanded width of its block, or the input's.
    dropout_rate
        Before the classifier.
    bn_eps, bn_momentum
        Of the batch norms.
    stem_kernel_sizes, first_kernel_sizes, kernel_sizes
        Of the stem, of stage 0, and of searched blocks; where there is one, there is no label.
    head_bias
        Whether the last convolution, which no norm follows, has a bias.

    Raises
    ------
    UsageError
        If the arguments do not go together.

    Notes
    -----
    Names and shapes of all tensors are those of NNI 3.0's networks, and so are the outputs but
    for two faults of it.  Where widths are chosen, it leaves out stage 0's residual connection,
    which TuNAS has; for weights trained without, set ``network.blocks[0].has_skip = False``.
    And what it builds for ``se_from_exp=False`` does not run.  It refuses five published
    architectures, whose stages are deeper than the ``depth_range`` that it gives them.

    Examples
    --------
    >>> space = MobileNetV3Space(num_labels=10, width_multipliers=(0.5, 1.0))
    >>> arch = space.sample(seed=0)
    >>> space.freeze(arch).eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    published = published_in("MobileNetV3Space")
    # Stage 0 has one block and no depth to choose, but published architectures give one.
    retired_labels: ClassVar[dict[str, Any]] = {"s0_depth": 1}

    def __init__(
        self,
        num_labels: int = 1000,
        base_widths: Sequence[int] = (16, 16, 16, 32, 64, 128, 256, 512, 1024),
        width_multipliers: Sequence[float] | float = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0),
        expand_ratios: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
        squeeze_excite: Sequence[Literal["force", "optional", "none"]] = (
            *("none", "none", "optional"),
            *("none", "optional", "optional"),
        ),
        depth_range: Sequence[tuple[int, int]] | tuple[int, int] = (1, 4),
        stride: Sequence[int] = (2, 1, 2, 2, 2, 1, 2, 1, 1),
        activation: Sequence[Literal["hswish", "swish", "relu"]] = (
            *("hswish", "relu", "relu", "relu"),
            *("hswish", "hswish", "hswish", "hswish", "hswish"),
        ),
        se_from_exp: bool = True,
        dropout_rate: float = 0.2,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.1,
        *,
        stem_kernel_sizes: Sequence[int] = (3, 5),
        first_kernel_sizes: Sequence[int] = (3, 5, 7),
        kernel_sizes: Sequence[int] = (3, 5, 7),
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        if len(base_widths) < 5:
            raise UsageError(
                "base_widths are those of the stem, of stage 0, of at least one searched stage and "
                f"of the two convolutions of the head, but got {base_widths!r}"
            )
        self.num_blocks = blocks = len(base_widths) - 1
        _check_length("stride", stride, blocks + 1)
        _check_length("activation", activation, blocks + 1)
        _check_length("squeeze_excite", squeeze_excite, blocks - 2)
        _check_names("activation", activation, _ACTIVATIONS)
        _check_names("squeeze_excite", squeeze_excite, _EXCITATIONS)
        self.depth_range = _depths(depth_range, blocks - 3)
        self.expand_ratios = list(expand_ratios)
        self.kernel_sizes = list(kernel_sizes)
        self.se_from_exp = se_from_exp
        # The stem and stage 0 share one multiplier, as in NNI's space.
        self.widths: list[MaybeIntChoice] = [
            make_divisible(_multiplier(width_multipliers, max(index - 1, 0)) * width, 8)
            for index, width in enumerate(base_widths)
        ]
        # Layers are made without drawing their weights, since all are drawn below: by the published
        # rule, in the order of the modules, whatever the constructors of the layers would draw.
        with blank_layers():
            stem = one_of(stem_kernel_sizes, "stem_ks")
            first = one_of(first_kernel_sizes, "s0_i0_ks")
            acts = [_ACTIVATIONS[name] for name in activation]
            self._build(squeeze_excite, stride, acts, stem, first, head_bias)
            head = MutableLinear(self.widths[-1], num_labels)
            self.classifier = nn.Sequential(nn.Dropout(dropout_rate), head)
        reset_parameters(self, bn_momentum=bn_momentum, bn_eps=bn_eps)
        _draw_biases(self)

    def _build(
        self,
        excitation: Sequence[str],
        stride: Sequence[int],
        acts: Sequence[type[nn.Module]],
        stem_kernel: Any,
        first_kernel: Any,
        head_bias: bool,
    ) -> None:
        widths = self.widths
        self.stem = ConvBNReLU(3, widths[0], stem_kernel, stride[0], activation_layer=acts[0])
        first = CompactDepthwiseSeparableConv(
            widths[0],
            widths[1],
            first_kernel,
            stride[1],
            squeeze_excite=self._excitation(excitation[0], "s0_i0_se"),
            activation_layer=acts[1],
        )
        stages = []
        for stage in range(1, self.num_blocks - 2):
            build = partial(
                self._block, stage, excitation[stage], stride[stage + 1], acts[stage + 1]
            )
            stages.append(Repeat(build, self.depth_range[stage - 1], label=f"s{stage}_depth"))
        # The head pools between its two convolutions, so that the wider one runs on one pixel, and
        # without a norm (arXiv 1905.02244, section 5.1).
        mix = ConvBNReLU(
            widths[-3], widths[-2], kernel_size=1, stride=stride[-2], activation_layer=acts[-2]
        )
        last = ConvBNReLU(
            widths[-2],
            widths[-1],
            kernel_size=1,
            stride=stride[-1],
            norm_layer=nn.Identity,
            activation_layer=acts[-1],
            bias=head_bias,
        )
        self.blocks = nn.Sequential(first, *stages, mix, nn.AdaptiveAvgPool2d(1), last)

    def _block(
        self, stage: int, excitation: str, stride: int, activation: type[nn.Module], index: int
    ) -> nn.Module:
        label = f"s{stage}_i{index}"
        return CompactInvertedResidual(
            self.widths[stage if index == 0 else stage + 1],
            self.widths[stage + 1],
            Categorical(self.expand_ratios, label=f"{label}_exp"),
            one_of(self.kernel_sizes, f"{label}_ks"),
            stride if index == 0 else 1,
            squeeze_excite=self._excitation(excitation, f"{label}_se"),
            activation_layer=activation,
        )

    def _excitation(self, excitation: str, label: str) -> Callable[[Any, Any], nn.Module] | None:
        if excitation == "none":
            return None

        def build(hidden: MaybeIntChoice, inputs: MaybeIntChoice) -> nn.Module:
            whole = hidden if self.se_from_exp else inputs
            make = partial(SqueezeExcite, hidden, reduce_from=whole)
            if excitation == "force":
                return make()
            return LayerChoice({"identity": nn.Identity, "se": make}, label=label)

        return build

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        return self.classifier(self.blocks(self.stem(x)).flatten(1))  # type: ignore[no-any-return]


def _draw_biases(model: nn.Module) -> None:
    """Draw the biases of convolutions as torch does, by the inputs of the largest shape."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            bound = math.prod(module.weight.shape[1:]) ** -0.5
            nn.init.uniform_(module.bias, -bound, bound)


def _multiplier(width_multipliers: Sequence[float] | float, stage: int) -> Any:
    if isinstance(width_multipliers, (int, float)):
        return width_multipliers
    return Categorical(width_multipliers, label=f"s{stage}_width_mult")


def _depths(depth_range: Any, stages: int) -> list[tuple[int, int]]:
    """The fewest and the most blocks of each searched stage."""
    one_for_all = len(depth_range) > 0 and isinstance(depth_range[0], int)
    ranges = [tuple(depth_range)] * stages if one_for_all else [tuple(d) for d in depth_range]
    _check_length("depth_range", ranges, stages)
    for depths in ranges:
        # Not none: a stage changes the width.
        if len(depths) != 2 or not 1 <= depths[0] <= depths[1]:
            raise UsageError(
                "a depth_range is (fewest, most) with 1 <= fewest <= most, or a list of these, but "
                f"got {depth_range!r}"
            )
    return ranges


def _check_length(name: str, given: Sequence[Any], wanted: int) -> None:
    if len(given) != wanted:
        raise UsageError(
            f"for so many base_widths, {name} must have {wanted} items, but it has {len(given)}: "
            f"{given!r}"
        )


def _check_names(name: str, given: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
    wrong = [each for each in given if each not in known]
    if wrong:
        raise UsageError(f"each item of {name} is one of {list(known)}, but got {wrong[0]!r}")

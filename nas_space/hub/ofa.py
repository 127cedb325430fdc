"""The spaces of once-for-all networks (Cai et al., arXiv 1908.09791)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..mutable import Categorical, make_divisible
from ..nn import ModelSpace, MutableBatchNorm2d, MutableConv2d, MutableLinear, MutableModule, Repeat
from .arguments import positive_numbers
from .mobile import one_of
from .mobilenetv3 import MobileNetV3Space
from .published import Published
from .searched import SearchedSpace

__all__ = ["BottleneckD", "OFAMobileNetV3Space", "OFAResNetSpace"]

RESNET_DEPTHS = (2, 2, 4, 2)
RESNET_WIDTHS = (256, 512, 1024, 2048)


class _ElasticResolution(ModelSpace):
    """Scales images to a resolution that may be searched, before anything else."""

    resolution: Any

    def _set_resolutions(self, resolutions: Sequence[int] | None) -> None:
        if resolutions is None:
            self.resolution = None
            return
        if not resolutions or any(size < 1 for size in resolutions):
            raise UsageError(f"resolutions are positive numbers of pixels, not {resolutions!r}")
        self.resolution = Categorical(list(resolutions), label="resolution")

    def _scaled(self, x: Tensor) -> Tensor:
        size = self.resolution
        if size is None or tuple(x.shape[-2:]) == (size, size):
            return x
        # As images are scaled when they are loaded, where once-for-all does it: PIL's bilinear
        # filter averages over what a pixel covers.
        return F.interpolate(x, (size, size), mode="bilinear", antialias=True)


class OFAMobileNetV3Space(_ElasticResolution, MobileNetV3Space):
    """MobileNetV3 whose depth, kernels, ratios and resolution are chosen, on shared weights.

    Once-for-all's first space.  Five stages have two to four blocks (``s<k>_depth``), each with
    a kernel (``s<k>_i<i>_ks``) and a ratio (``s<k>_i<i>_exp``) of its own; where ``resolutions``
    are given, ``resolution`` is chosen too, and costs depend on it.  Smaller kernels are the
    middle of larger ones, which is what once-for-all calls no transformation of kernels.

    Parameters
    ----------
    num_labels
        Classes.
    width_mult
        Factor on all widths, which are rounded to multiples of 8: 1.0 and 1.2 are the paper's.
    kernel_sizes, expand_ratios, depths
        What there is to choose from; depths are the fewest and the most.
    resolutions
        Sizes of images to choose from; ``None`` takes images as they are.
    dropout_rate
        Before the classifier.
    bn_eps, bn_momentum
        Of the batch norms.
    base_widths
        Nine widths, before the factor: of the stem, of stages 0 to 5, and of the two last
        convolutions.

    Raises
    ------
    UsageError
        If the arguments do not go together.

    Examples
    --------
    >>> import torch
    >>> space = OFAMobileNetV3Space(num_labels=10, width_mult=0.25, resolutions=(32, 48))
    >>> space.count() == 2 * (9**2 + 9**3 + 9**4) ** 5
    True
    >>> space.random(seed=0).eval()(torch.zeros(1, 3, 48, 48)).shape
    torch.Size([1, 10])
    """

    published: ClassVar[dict[str, Published]] = {}

    def __init__(
        self,
        num_labels: int = 1000,
        width_mult: float = 1.0,
        kernel_sizes: Sequence[int] = (3, 5, 7),
        expand_ratios: Sequence[float] = (3, 4, 6),
        depths: tuple[int, int] = (2, 4),
        resolutions: Sequence[int] | None = None,
        dropout_rate: float = 0.1,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        *,
        base_widths: Sequence[int] = (16, 16, 24, 40, 80, 112, 160, 960, 1280),
    ) -> None:
        super().__init__(
            num_labels,
            [width * width_mult for width in base_widths],  # type: ignore[misc]  # rounded there
            width_multipliers=1.0,
            expand_ratios=expand_ratios,
            squeeze_excite=("none", "none", "force", "none", "force", "force"),
            depth_range=depths,
            stride=(2, 1, 2, 2, 2, 1, 2, 1, 1),
            activation=("hswish", "relu", "relu", "relu", *("hswish",) * 5),
            dropout_rate=dropout_rate,
            bn_eps=bn_eps,
            bn_momentum=bn_momentum,
            stem_kernel_sizes=(3,),
            first_kernel_sizes=(3,),
            kernel_sizes=kernel_sizes,
            head_bias=False,
        )
        self._set_resolutions(resolutions)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        return super().forward(self._scaled(x))


def _conv(
    inputs: Any, outputs: Any, kernel: int = 1, stride: int = 1, act: bool = True
) -> nn.Sequential:
    layers: dict[str, nn.Module] = {
        "conv": MutableConv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        "bn": MutableBatchNorm2d(outputs),
    }
    return nn.Sequential(OrderedDict(layers | ({"act": nn.ReLU(inplace=True)} if act else {})))


class _Shortcut(nn.Module):
    """Adds the output of a layer to its input."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + x  # type: ignore[no-any-return]


class BottleneckD(MutableModule):
    """The block of ResNet-D: narrow, convolve, widen; what it skips is pooled, then projected.

    Parameters
    ----------
    in_channels, out_channels
        Numbers or expressions.
    expand_ratio
        The inner width as a part of the output's; may be an expression.
    stride
        Of the middle convolution.
    projects
        Whether the input is projected before it is added.

    References
    ----------
    He et al., *Bag of tricks for image classification*, arXiv 1812.01187.

    Examples
    --------
    >>> import torch
    >>> BottleneckD(64, 256, 0.25, stride=2, projects=True)(torch.zeros(1, 64, 8, 8)).shape
    torch.Size([1, 256, 4, 4])
    """

    def __init__(
        self, in_channels: Any, out_channels: Any, expand_ratio: Any, stride: int, projects: bool
    ) -> None:
        super().__init__()
        self.expand_ratio = expand_ratio
        inner = make_divisible(round(out_channels * expand_ratio), 8)
        self.conv1 = _conv(in_channels, inner)
        self.conv2 = _conv(inner, inner, 3, stride)
        self.conv3 = _conv(inner, out_channels, act=False)
        self.downsample: nn.Module = nn.Identity()
        if projects:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True)
            layers = _conv(in_channels, out_channels, act=False)
            self.downsample = nn.Sequential(
                OrderedDict({"avg_pool": pool, **dict(layers.named_children())})
            )
        self.final_act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of ``out_channels``, smaller by the stride."""
        out: Tensor = self.final_act(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))
        return out


class OFAResNetSpace(_ElasticResolution, SearchedSpace):
    """ResNet-50 D whose depth, widths and ratios are chosen, on shared weights.

    Once-for-all's space of large networks.  ``stem_depth`` says whether the stem has its middle
    convolution; ``stem_width`` and ``stem_out_width`` scale the stem's two widths; stage ``k``
    from 1 to 4 has ``s<k>_depth`` blocks of a width scaled by ``s<k>_width``, and block ``i`` of
    it an inner width of ``s<k>_i<i>_exp`` times that. With ``resolutions``, ``resolution`` is
    chosen too.

    Parameters
    ----------
    num_labels
        Classes.
    depths
        What is chosen from, beyond the fewest blocks of the four stages (2, 2, 4 and 2).
    expand_ratios, width_mults
        Parts of a block's width, and factors on the widths of stages, to choose from.
    resolutions
        Sizes of images to choose from; ``None`` takes images as they are.
    dropout_rate
        Before the classifier.
    bn_eps, bn_momentum
        Of the batch norms.
    base_widths
        Of the stem and the four stages, before factors.

    Raises
    ------
    UsageError
        If there are not five widths.

    Examples
    --------
    >>> import torch
    >>> space = OFAResNetSpace(num_labels=10, width_mults=(0.0625,), depths=(0, 1))
    >>> space.random(seed=0).eval()(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    def __init__(
        self,
        num_labels: int = 1000,
        depths: Sequence[int] = (0, 1, 2),
        expand_ratios: Sequence[float] = (0.2, 0.25, 0.35),
        width_mults: Sequence[float] = (0.65, 0.8, 1.0),
        resolutions: Sequence[int] | None = None,
        dropout_rate: float = 0.0,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        *,
        base_widths: Sequence[int] = (64, *RESNET_WIDTHS),
    ) -> None:
        super().__init__()
        self.num_labels = num_labels
        self._set_resolutions(resolutions)

        def scaled(width: int, label: str) -> Any:
            return make_divisible(width * one_of(width_mults, label), 8)

        stem, *stages = positive_numbers("base_widths", base_widths, 5, "stem, four stages")
        # Half of the stem's width, but scaled by itself.
        middle: Any = make_divisible(scaled(stem, "stem_width") // 2, 8)
        width = scaled(stem, "stem_out_width")
        self.input_stem = nn.Sequential(
            _conv(3, middle, 3, 2),
            Repeat(lambda _: _Shortcut(_conv(middle, middle, 3)), (0, 1), label="stem_depth"),
            _conv(middle, width, 3),
        )
        self.max_pooling = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        for stage, (base, fewest) in enumerate(zip(stages, RESNET_DEPTHS, strict=True), start=1):
            wider = scaled(base, f"s{stage}_width")
            build = partial(self._block, stage, width, wider, list(expand_ratios))
            numbers = [fewest + more for more in depths]
            blocks.append(Repeat(build, one_of(numbers, f"s{stage}_depth")))
            width = wider
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout_rate)
        self.classifier = MutableLinear(width, num_labels)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = bn_eps, bn_momentum

    @staticmethod
    def _block(stage: int, before: Any, width: Any, ratios: list[float], index: int) -> nn.Module:
        ratio = one_of(ratios, f"s{stage}_i{index}_exp")
        first = index == 0
        return BottleneckD(
            before if first else width, width, ratio, 2 if first and stage > 1 else 1, first
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        x = self.blocks(self.max_pooling(self.input_stem(self._scaled(x))))
        x = x.mean(3).mean(2)  # one after the other, for the same bits as once-for-all's
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]

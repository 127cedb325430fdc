"""Small spaces, each with something in its forward that costs must get right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import (
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableBatchNorm2d,
    MutableConv1d,
    MutableConv2d,
    MutableConvTranspose2d,
    MutableEmbedding,
    MutableGroupNorm,
    MutableLayerNorm,
    MutableLinear,
    MutableModule,
    MutableMultiheadAttention,
    ParametrizedModule,
    Repeat,
    active,
)
from nas_space.nn.segments import flattened


class Elastic(ModelSpace):
    """Widths, kernels, strides and groups that are shared, derived and switched."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([4, 6, 8], label="width")
        kernel = Categorical([1, 3], label="kernel")
        groups = Categorical([1, 2], label="groups")
        stride = Categorical([1, 2], label="stride")
        self.stem = MutableConv2d(3, width, kernel, padding=kernel // 2, bias=False)
        self.norm = MutableBatchNorm2d(width)
        self.body = MutableConv2d(width, width * 2, 3, stride=stride, padding=1, groups=groups)
        self.depthwise = MutableConv2d(width * 2, width * 2, 3, padding=1, groups=width * 2)
        self.head = MutableLinear(width * 2, 5, bias=Categorical([False, True], label="bias"))

    def forward(self, x: Any) -> Any:
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        return self.head(self.depthwise(self.body(x)).mean((2, 3)))


class Residual(ModelSpace):
    """Blocks of variable depth around which the input is added, and depth 0."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([4, 8], label="width")
        self.stem = MutableConv2d(3, width, 3, padding=1)
        self.body = Repeat(lambda i: _Block(width, f"op{i}"), (0, 2), label="depth")
        self.head = MutableLinear(width, 5)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = x + self.body(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class _Block(nn.Module):
    def __init__(self, width: Any, label: str) -> None:
        super().__init__()
        self.op = LayerChoice(
            {
                "conv": MutableConv2d(width, width, 3, padding=1),
                "wide": nn.Sequential(
                    MutableConv2d(width, width * 3, 1),
                    nn.Hardswish(),
                    MutableConv2d(width * 3, width, 1),
                ),
                "skip": nn.Identity(),
            },
            label=label,
        )

    def forward(self, x: Any) -> Any:
        return F.relu(self.op(x)) + x


class Concat(ModelSpace):
    """A cell: chosen inputs, concatenated and summed; reads of shapes."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        self.branches = nn.ModuleList(MutableConv2d(3, width, k, padding=k // 2) for k in (1, 3, 5))
        self.pick = InputChoice(3, n_chosen=2, label="pick")
        self.any = InputChoice(2, n_chosen=None, reduction="mean", label="any")
        self.mix = MutableConv2d(width * 2, 6, 3)
        self.head = MutableLinear(6 * 6 * 6, 3)

    def forward(self, x: Any) -> Any:
        found = [branch(x) for branch in self.branches]
        y = torch.cat([self.pick(found), found[0]], dim=1)
        y = self.mix(y)
        z = self.any([y, y * 2])
        y = y if z is None else z
        return self.head(y.view(y.size(0), -1))


class Shuffle(ModelSpace):
    """Arithmetic on shapes, in modules and at the top."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([4, 8, 12], label="width")
        self.stem = MutableConv2d(3, width, 3, stride=2, padding=1)
        self.shuffle = _ChannelShuffle(2)
        self.a = MutableConv2d(width // 2, width, 1)
        self.b = MutableConv2d(width, width, 3, groups=2, padding=Categorical([0, 1], label="pad"))
        self.head = MutableLinear(width, 4)

    def forward(self, x: Any) -> Any:
        x = self.shuffle(self.stem(x))
        first, _ = x.chunk(2, dim=1)
        x = self.b(self.a(first))
        b, c, h, w = x.shape
        x = x.reshape(b, c, h * w).transpose(1, 2)
        if h > 3:
            x = x[:, : h * w // 2]
        return self.head(x)


class _ChannelShuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Any) -> Any:
        batch, channels, height, width = x.size()
        x = x.view(batch, self.groups, channels // self.groups, height, width)
        return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class Transformer(ModelSpace):
    """Attention by heads and width, layer norm, embeddings, several inputs, a tied head."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([8, 16], label="width")
        self.tokens = MutableEmbedding(20, width)
        self.layers = Repeat(lambda i: _Layer(width, i), (1, 2), label="depth")
        self.head = MutableLinear(width, 20, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Any, mask: Any = None) -> Any:
        x = self.layers(self.tokens(tokens))
        if mask is not None:
            x = x * mask.unsqueeze(-1)
        return self.head(x)


class _Layer(nn.Module):
    def __init__(self, width: Any, index: int) -> None:
        super().__init__()
        heads = Categorical([1, 2, 4], label=f"heads{index}")
        ratio = Categorical([1, 2], label=f"ratio{index}")
        self.norm1 = MutableLayerNorm(width)
        self.attention = MutableMultiheadAttention(width, heads, batch_first=True)
        self.norm2 = MutableLayerNorm(width)
        self.first = MutableLinear(width, width * ratio)
        self.second = MutableLinear(width * ratio, width)

    def forward(self, x: Any) -> Any:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.second(F.gelu(self.first(self.norm2(x))))


class Values(ModelSpace):
    """Expressions as attributes: of modules of our own kind, of the space, of plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.act = Categorical(["relu", "gelu"], label="act")
        self.times = Categorical([1, 2, 3], label="times")
        self.scale = Categorical([0.5, 2.0], label="scale")
        self.pool = _Pool(Categorical([1, 2], label="pool"))
        self.linear = MutableLinear(4, 4)
        self.conv = MutableConv1d(4, 4, 1)

    def forward(self, x: Any) -> Any:
        for _ in range(self.times):
            act: Any = getattr(F, self.act)  # type: ignore[call-overload]
            x = act(self.conv(x)) * self.scale
        x = self.pool(x)
        return self.linear(x.transpose(1, 2))


class _Pool(nn.Module):
    def __init__(self, size: Any) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Any) -> Any:
        return F.avg_pool1d(x, active(self.size))


class Nested(ModelSpace):
    """Choices in choices in repeats; labels that are active under others only."""

    def __init__(self) -> None:
        super().__init__()
        depth = Categorical([1, 2], label="depth")
        inner = Categorical([2, 3], label="inner")
        self.first = LayerChoice(
            {
                "deep": Repeat(
                    lambda i: LayerChoice([nn.Linear(4, 4), _Wide(inner)], label=f"kind{i}"),
                    depth,
                ),
                "flat": nn.Linear(4, 4, bias=False),
            },
            label="first",
        )
        more = Categorical([1, 2, 5], label="more")
        hidden = MutableExpression.condition(depth > 1, more, 3)
        self.second = LayerChoice(
            {
                "a": nn.Identity(),
                "b": nn.Sequential(MutableLinear(4, hidden), MutableLinear(hidden, 4)),
            },
            label="second",
        )

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x))


class _Wide(nn.Module):
    def __init__(self, ratio: Any) -> None:
        super().__init__()
        self.a, self.b = MutableLinear(4, ratio * 4), MutableLinear(ratio * 4, 4)

    def forward(self, x: Any) -> Any:
        return self.b(self.a(x).sigmoid())


class _Bottleneck(nn.Module):
    def __init__(self, width: int, hidden: int, act: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = getattr(nn, act)()

    def forward(self, x: Any) -> Any:
        return x + self.b(self.act(self.a(x)))


class MutableBottleneck(ParametrizedModule, _Bottleneck, wraps=_Bottleneck):
    """Of a class that cannot be sliced: one instance for each tuple of arguments."""


class Wrapped(ModelSpace):
    """Modules that cannot be sliced, shared ones, and functions without modules."""

    def __init__(self) -> None:
        super().__init__()
        hidden = Categorical([2, 6], label="hidden")
        self.block = MutableBottleneck(4, hidden, Categorical(["ReLU", "Tanh"], label="act"))
        self.shared = nn.Linear(4, 4)
        self.also = self.shared
        self.choice = LayerChoice([self.shared, nn.Linear(4, 4)], label="choice")
        self.table = nn.Parameter(torch.zeros(3, 4))

    def forward(self, x: Any) -> Any:
        x = self.also(self.shared(self.block(x)))
        x = self.choice(x)
        scores = torch.einsum("bij,kj->bik", x, self.table)
        y = scores.softmax(-1) @ self.table
        y[:, 0] = 0
        return torch.baddbmm(y, scores, scores.new_zeros(x.shape[0], 3, 4)).unsqueeze_(1)


class Upsampling(ModelSpace):
    """An encoder and decoder with skips; transposed convolutions; sizes taken from tensors."""

    def __init__(self) -> None:
        super().__init__()
        a, b = Categorical([2, 4], label="a"), Categorical([4, 6], label="b")
        self.down1, self.down2 = MutableConv2d(3, a, 3, 2, 1), MutableConv2d(a, b, 3, 2, 1)
        self.up = LayerChoice(
            {"conv": MutableConvTranspose2d(b, a, 2, 2), "resize": MutableConv2d(b, a, 1)},
            label="up",
        )
        self.out = MutableConv2d(flattened(2, a), 3, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = self.down1(x)
        z = self.up(self.down2(y))
        z = F.interpolate(z, size=y.shape[2:], mode="bilinear")
        z = torch.cat((y, z), 1)
        return F.interpolate(self.out(z), size=x.shape[-2:])


class Times(MutableModule):
    """A loop over an expression."""

    def __init__(self, times: Any, block: nn.Module) -> None:
        super().__init__()
        self.times = times
        self.block = block

    def forward(self, x: Any) -> Any:
        for _ in range(self.times):
            x = self.block(x)
        return x * self.times


class Reasons(ModelSpace):
    """A label that is active for one of two reasons: no single order of questions is right."""

    def __init__(self) -> None:
        super().__init__()
        kernel = Categorical([1, 3], label="kernel")
        number = Categorical([1, 2], label="number")
        norms = [MutableBatchNorm2d(2), MutableGroupNorm(number, 2)]
        times = MutableExpression.condition(kernel == 1, number, 1)
        self.stem = MutableConv2d(3, 2, kernel, padding=kernel // 2)
        self.body = Times(times, LayerChoice(norms, label="op"))

    def forward(self, x: Any) -> Any:
        return self.body(self.stem(x))


class Crosswise(ModelSpace):
    """The larger of two widths; which of them is looked at first, a further label decides."""

    def __init__(self) -> None:
        super().__init__()
        one, other = Categorical([2, 4], label="one"), Categorical([2, 4], label="other")
        first = Categorical(["one", "other"], label="first")
        width = MutableExpression.condition(
            first == "one",
            MutableExpression.condition(one == 4, 4, other),
            MutableExpression.condition(other == 4, 4, one),
        )
        self.stem = MutableConv2d(3, width, 1)
        self.head = MutableConv2d(width, 2, Categorical([1, 3], label="kernel"))

    def forward(self, x: Any) -> Any:
        return self.head(self.stem(x).relu())


SPACES: dict[str, tuple[Callable[[], ModelSpace], Any]] = {
    "elastic": (Elastic, torch.zeros(1, 3, 8, 8)),
    "residual": (Residual, torch.zeros(1, 3, 8, 8)),
    "concat": (Concat, torch.zeros(1, 3, 8, 8)),
    "shuffle": (Shuffle, torch.zeros(1, 3, 8, 8)),
    "transformer": (Transformer, torch.zeros(1, 7, dtype=torch.long)),
    "transformer_masked": (
        Transformer,
        (torch.zeros(1, 7, dtype=torch.long), {"mask": torch.zeros(1, 7)}),
    ),
    "values": (Values, torch.zeros(1, 4, 6)),
    "nested": (Nested, torch.zeros(2, 4)),
    "wrapped": (Wrapped, torch.zeros(2, 5, 4)),
    "upsampling": (Upsampling, torch.zeros(1, 3, 8, 8)),
    "reasons": (Reasons, torch.zeros(1, 3, 8, 8)),
    "crosswise": (Crosswise, torch.zeros(1, 3, 8, 8)),
}

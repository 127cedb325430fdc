"""The elastic layers: torch's layers whose weights slice.

Each says which shapes its tensors have in terms of its arguments, which may be expressions;
the mechanism is in ``elastic.py``.  The other layers of ``torch.nn`` come from
``generic_layers.py``, which needs to know nothing about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from ..errors import SpaceError
from ..mutable.node import Node
from .blueprint import Shape
from .elastic import ElasticModule
from .places import Places, centred, leading, spread
from .segments import flattened
from .trial_values import allowed_values
from .widths import Widths

__all__ = [
    "MutableBatchNorm1d",
    "MutableBatchNorm2d",
    "MutableBatchNorm3d",
    "MutableBilinear",
    "MutableConv1d",
    "MutableConv2d",
    "MutableConv3d",
    "MutableConvTranspose1d",
    "MutableConvTranspose2d",
    "MutableConvTranspose3d",
    "MutableEmbedding",
    "MutableEmbeddingBag",
    "MutableGroupNorm",
    "MutableInstanceNorm1d",
    "MutableInstanceNorm2d",
    "MutableInstanceNorm3d",
    "MutableLayerNorm",
    "MutableLinear",
    "MutableMultiheadAttention",
    "MutablePReLU",
    "MutableRMSNorm",
    "MutableSyncBatchNorm",
]


def _per_group(channels: Any, groups: Any) -> Any:
    """Return channels of each group; 1 where they are the same, without asking for their values."""
    return 1 if channels is groups else channels // groups


class _Convolution(ElasticModule):
    """Convolutions: output channels first, kernels cut from the middle."""

    dimensions: int
    inputs_first = False
    sizes = frozenset({"in_channels", "out_channels"})

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        first, second = arguments["out_channels"], arguments["in_channels"]
        bias = (first,)
        if cls.inputs_first:
            first, second = second, first
        kernel = spread(arguments["kernel_size"], cls.dimensions)
        return {"weight": (first, _per_group(second, arguments["groups"]), *kernel), "bias": bias}

    @classmethod
    def cut(cls, name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        return centred(tensor, shape, 2) if name == "weight" else leading(tensor, shape)


class _TransposedConvolution(_Convolution):
    """Transposed convolutions: input channels first."""

    inputs_first = True
    sizes = frozenset()  # they choose their output padding by shapes


class MutableConv1d(_Convolution, nn.Conv1d, wraps=nn.Conv1d):
    """``torch.nn.Conv1d`` whose arguments may be expressions."""

    dimensions = 1
    widths = Widths("in_channels", "out_channels", -2)


class MutableConv2d(_Convolution, nn.Conv2d, wraps=nn.Conv2d):
    """``torch.nn.Conv2d`` whose arguments may be expressions: channels, kernel, stride, ….

    A narrower layer uses the first channels of the widest, a smaller kernel the middle of
    the largest.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> kernel = Categorical([3, 5], label="kernel")
    >>> conv = MutableConv2d(3, Categorical([8, 16], label="width"), kernel, padding=kernel // 2)
    >>> conv.weight.shape
    torch.Size([16, 3, 5, 5])
    >>> conv.freeze({"width": 8, "kernel": 3})
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    dimensions = 2
    widths = Widths("in_channels", "out_channels", -3)


class MutableConv3d(_Convolution, nn.Conv3d, wraps=nn.Conv3d):
    """``torch.nn.Conv3d`` whose arguments may be expressions."""

    dimensions = 3
    widths = Widths("in_channels", "out_channels", -4)


class MutableConvTranspose1d(_TransposedConvolution, nn.ConvTranspose1d, wraps=nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` whose arguments may be expressions."""

    dimensions = 1
    widths = Widths("in_channels", "out_channels", -2, inputs_first=True)


class MutableConvTranspose2d(_TransposedConvolution, nn.ConvTranspose2d, wraps=nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` whose arguments may be expressions."""

    dimensions = 2
    widths = Widths("in_channels", "out_channels", -3, inputs_first=True)


class MutableConvTranspose3d(_TransposedConvolution, nn.ConvTranspose3d, wraps=nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` whose arguments may be expressions."""

    dimensions = 3
    widths = Widths("in_channels", "out_channels", -4, inputs_first=True)


class MutableLinear(ElasticModule, nn.Linear, wraps=nn.Linear):
    """``torch.nn.Linear`` whose arguments may be expressions."""

    sizes = frozenset({"in_features", "out_features"})
    widths = Widths("in_features", "out_features", -1)

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        out = arguments["out_features"]
        return {"weight": (out, arguments["in_features"]), "bias": (out,)}


class MutableBilinear(ElasticModule, nn.Bilinear, wraps=nn.Bilinear):
    """``torch.nn.Bilinear`` whose arguments may be expressions."""

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        out = arguments["out_features"]
        return {
            "weight": (out, arguments["in1_features"], arguments["in2_features"]),
            "bias": (out,),
        }


class _ChannelNorm(ElasticModule):
    """Normalisation with one number of each kind for each channel."""

    channels = "num_features"
    widths = Widths("num_features", "num_features", 1, "channel")
    is_normalization = True

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        shape = (arguments[cls.channels],)
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), shape)

    def reset_parameters(self) -> None:
        """Set the initial weights and statistics: nothing is drawn, so even in blank layers."""
        cast(Any, self.plain).reset_parameters(self)


class _BatchNorm(_ChannelNorm):
    """Normalisation over the batch, whose forward does not read how many channels there are."""

    sizes = frozenset({"num_features"})


class MutableBatchNorm1d(_BatchNorm, nn.BatchNorm1d, wraps=nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` whose arguments may be expressions."""


class MutableBatchNorm2d(_BatchNorm, nn.BatchNorm2d, wraps=nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` whose arguments may be expressions.

    Running statistics are shared and updated in place, on the channels that are active.
    """


class MutableBatchNorm3d(_BatchNorm, nn.BatchNorm3d, wraps=nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` whose arguments may be expressions."""


class MutableSyncBatchNorm(_ChannelNorm, nn.SyncBatchNorm, wraps=nn.SyncBatchNorm):
    """``torch.nn.SyncBatchNorm`` whose arguments may be expressions."""


class MutableInstanceNorm1d(_ChannelNorm, nn.InstanceNorm1d, wraps=nn.InstanceNorm1d):
    """``torch.nn.InstanceNorm1d`` whose arguments may be expressions."""


class MutableInstanceNorm2d(_ChannelNorm, nn.InstanceNorm2d, wraps=nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d`` whose arguments may be expressions."""


class MutableInstanceNorm3d(_ChannelNorm, nn.InstanceNorm3d, wraps=nn.InstanceNorm3d):
    """``torch.nn.InstanceNorm3d`` whose arguments may be expressions."""


class MutableGroupNorm(_ChannelNorm, nn.GroupNorm, wraps=nn.GroupNorm):
    """``torch.nn.GroupNorm`` whose arguments may be expressions."""

    channels = "num_channels"
    widths = Widths("num_channels", "num_channels", 1, "mean")


class MutablePReLU(_ChannelNorm, nn.PReLU, wraps=nn.PReLU):
    """``torch.nn.PReLU`` whose arguments may be expressions."""

    channels = "num_parameters"
    is_normalization = False
    widths = Widths("num_parameters", "num_parameters", 1, "channel", broadcasts=True)


class _ShapeNorm(ElasticModule):
    """Normalisation over the last dimensions."""

    is_normalization = True

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        shape = spread(arguments["normalized_shape"], 1)
        return {"weight": shape, "bias": shape}


class MutableLayerNorm(_ShapeNorm, nn.LayerNorm, wraps=nn.LayerNorm):
    """``torch.nn.LayerNorm`` whose arguments may be expressions."""

    widths = Widths("normalized_shape", "normalized_shape", -1, "mean")


class MutableRMSNorm(_ShapeNorm, nn.RMSNorm, wraps=nn.RMSNorm):
    """``torch.nn.RMSNorm`` whose arguments may be expressions."""

    widths = Widths("normalized_shape", "normalized_shape", -1, "mean")


class MutableEmbedding(ElasticModule, nn.Embedding, wraps=nn.Embedding):  # type: ignore[misc]  # Embedding.freeze is an argument
    """``torch.nn.Embedding`` whose arguments may be expressions."""

    widths = Widths(None, "embedding_dim", -1, "lookup")

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        return {"weight": (arguments["num_embeddings"], arguments["embedding_dim"])}


class MutableEmbeddingBag(ElasticModule, nn.EmbeddingBag, wraps=nn.EmbeddingBag):
    """``torch.nn.EmbeddingBag`` whose arguments may be expressions."""

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        return {"weight": (arguments["num_embeddings"], arguments["embedding_dim"])}


class MutableMultiheadAttention(ElasticModule, nn.MultiheadAttention, wraps=nn.MultiheadAttention):
    """``torch.nn.MultiheadAttention`` whose arguments may be expressions: width, heads, ….

    A narrower layer uses the first rows and columns of each of the query's, the key's and
    the value's projections.

    Raises
    ------
    SpaceError
        If some width cannot be divided by some number of heads that goes with it.
    """

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        width = arguments["embed_dim"]
        key = width if arguments["kdim"] is None else arguments["kdim"]
        value = width if arguments["vdim"] is None else arguments["vdim"]
        return {
            "in_proj_weight": (flattened(3, width), width),
            "q_proj_weight": (width, width),
            "k_proj_weight": (width, key),
            "v_proj_weight": (width, value),
            "in_proj_bias": (flattened(3, width),),
            "bias_k": (1, 1, width),
            "bias_v": (1, 1, width),
            "out_proj.weight": (width, width),
            "out_proj.bias": (width,),
        }

    @classmethod
    def cut(cls, name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        if not name.startswith("in_proj") or isinstance(shape[0], Places):
            return leading(tensor, shape)
        # A plain number of rows is a third of it of each of the three projections.
        thirds = tensor.reshape(3, -1, *tensor.shape[1:])
        return leading(thirds, (3, shape[0] // 3, *shape[1:])).flatten(0, 1)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        width, heads = arguments["embed_dim"], arguments["num_heads"]
        for w, h in allowed_values([width, heads], limit=2**16):
            if w % h:
                raise SpaceError(
                    f"attention of width {w} cannot have {h} heads: the width must be a multiple "
                    "of their number, but the space allows both together "
                    f"(width {width}, heads {heads})"
                )

    # Whether the three projections are packed into one matrix must not differ between
    # architectures; torch decides it by comparing values.
    kept = frozenset({"_qkv_same_embed_dim"})

    @classmethod
    def reference(cls, arguments: Mapping[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
        width = arguments["embed_dim"]
        packed = all(_surely_same(arguments[name], width) for name in ("kdim", "vdim"))
        return plain if packed else plain | {"kdim": plain["embed_dim"] + 1}


def _surely_same(width: Any, other: Any) -> bool:
    """Return whether a width that may be left out is that of another under every architecture."""
    if isinstance(width, Node) or isinstance(other, Node):
        return width is None or width is other
    return width is None or width == other

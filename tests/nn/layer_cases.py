"""For every layer of ``torch.nn``: how to call it, what to vary, and what to feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Values = Mapping[str, Any]
Inputs = Callable[[Values], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """How a layer is tested.

    Attributes
    ----------
    varied
        Argument to the values it takes.
    inputs
        The input for some arguments; ``None`` for a base class without a forward.
    fixed
        The other arguments.
    """

    varied: dict[str, list[Any]]
    inputs: Inputs | None
    fixed: dict[str, Any] = field(default_factory=dict)

    def combinations(self) -> Iterator[dict[str, Any]]:
        for values in product(*self.varied.values()):
            yield dict(zip(self.varied, values, strict=True))

    def some(self, most: int) -> list[dict[str, Any]]:
        """Combinations spread over all there are."""
        every = list(self.combinations())
        step = max(1, len(every) // most) | 1  # odd, so that no argument stands still
        return every[::step][: most + 1]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def image(n: int, channels: str | int = 4, size: int = 8) -> Inputs:
    """Two samples with ``n`` dimensions of a size; channels, or the argument that tells them."""

    def make(values: Values) -> tuple[Any, ...]:
        width = values[channels] if isinstance(channels, str) else channels
        return (noise(2, width, *[size] * n),)

    return make


def tokens(width: str, length: int = 3) -> Inputs:
    return lambda values: (noise(2, length, values[width]),)


YES_NO = [True, False]


# -- layers with weights that slice ---------------------------------------------------------------


def _convolution(n: int) -> Case:
    return Case(
        {
            "in_channels": [4, 8],
            "out_channels": [8, 4, 12],
            "kernel_size": [3, 1, 2],
            "stride": [1, 2],
            "padding": [0, 1],
            "dilation": [1, 2],
            "groups": [1, 4, 2],
            "bias": YES_NO,
            "padding_mode": ["zeros", "circular"],
        },
        image(n, "in_channels", 7 if n < 3 else 5),
    )


def _transposed(n: int) -> Case:
    return Case(
        {
            "in_channels": [4, 8],
            "out_channels": [8, 4],
            "kernel_size": [3, 1, 2],
            "stride": [2, 3],
            "padding": [0, 1],
            "output_padding": [0, 1],
            "groups": [1, 4, 2],
            "bias": YES_NO,
            "dilation": [1, 2],
        },
        image(n, "in_channels", 4 if n < 3 else 3),
    )


def _batch_norm(n: int) -> Case:
    return Case(
        {
            "num_features": [8, 4, 6],
            "eps": [1e-5, 1e-2],
            "momentum": [0.1, 0.5],
            "affine": YES_NO,
            "track_running_stats": YES_NO,
        },
        image(n, "num_features", 3),
    )


def _shape_norm(**more: list[Any]) -> Case:
    return Case(
        {
            "normalized_shape": [8, 4],
            "eps": [1e-5, 1e-2],
            "elementwise_affine": YES_NO,
            **more,
        },
        tokens("normalized_shape"),
    )


def _attention_input(values: Values) -> tuple[Any, ...]:
    width = values["embed_dim"]
    kdim, vdim = values.get("kdim") or width, values.get("vdim") or width
    return noise(2, 3, width), noise(2, 5, kdim), noise(2, 5, vdim)


def _indices(values: Values) -> tuple[Any, ...]:
    return (torch.arange(12).reshape(3, 4) % values["num_embeddings"],)


def _recurrent(**more: list[Any]) -> Case:
    return Case(
        {
            "input_size": [3, 5],
            "hidden_size": [4, 6, 3],
            "num_layers": [2, 1, 3],
            "bias": YES_NO,
            "batch_first": YES_NO,
            "bidirectional": YES_NO,
            **more,
        },
        tokens("input_size", 4),
    )


ELASTIC: dict[str, Case] = {
    "GRU": _recurrent(),
    "LSTM": _recurrent(proj_size=[2, 0, 1]),
    "RNN": _recurrent(nonlinearity=["tanh", "relu"]),
    **{f"Conv{n}d": _convolution(n) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _transposed(n) for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": _batch_norm(n) for n in (1, 2, 3)},
    "SyncBatchNorm": _batch_norm(2),
    **{f"InstanceNorm{n}d": _batch_norm(n) for n in (1, 2, 3)},
    "Linear": Case(
        {"in_features": [8, 4], "out_features": [8, 3, 6], "bias": YES_NO}, tokens("in_features")
    ),
    "Bilinear": Case(
        {"in1_features": [4, 3], "in2_features": [5, 2], "out_features": [6, 3], "bias": YES_NO},
        lambda values: (noise(3, values["in1_features"]), noise(3, values["in2_features"])),
    ),
    "GroupNorm": Case(
        {
            "num_groups": [2, 1],
            "num_channels": [8, 4],
            "eps": [1e-5, 1e-2],
            "affine": YES_NO,
        },
        image(2, "num_channels", 3),
    ),
    "LayerNorm": _shape_norm(bias=YES_NO),
    "RMSNorm": _shape_norm(),
    "PReLU": Case({"num_parameters": [8, 4], "init": [0.25, 0.5]}, image(2, "num_parameters", 3)),
    "Embedding": Case(
        {
            "num_embeddings": [9, 5],
            "embedding_dim": [8, 4],
            "padding_idx": [0, 2],
            "scale_grad_by_freq": YES_NO,
        },
        _indices,
    ),
    "EmbeddingBag": Case(
        {"num_embeddings": [9, 5], "embedding_dim": [8, 4], "mode": ["sum", "mean", "max"]},
        _indices,
    ),
    "MultiheadAttention": Case(
        {
            "embed_dim": [8, 16],
            "num_heads": [1, 2, 4],
            "dropout": [0.0, 0.5],
            "bias": YES_NO,
            "add_bias_kv": YES_NO,
            "add_zero_attn": YES_NO,
            "batch_first": [True],
        },
        _attention_input,
    ),
}


# -- layers without weights -----------------------------------------------------------------------


def _unpooled(n: int) -> Inputs:
    pool: Any = getattr(F, f"max_pool{n}d")

    def make(values: Values) -> tuple[Any, ...]:
        return tuple(pool(noise(2, 4, *[6] * n), values["kernel_size"], return_indices=True))

    return make


def _columns(values: Values) -> tuple[Any, ...]:
    places = (4 - 2) // values["stride"] + 1
    return (noise(2, 8, places**2),)


def _activations() -> dict[str, Case]:
    x = image(2)
    slopes = [0.1, 0.3, 0.7]
    return {
        **{
            name: Case({"inplace": YES_NO}, x)
            for name in ("Hardsigmoid", "Hardswish", "Mish", "ReLU", "ReLU6", "SELU", "SiLU")
        },
        **{name: Case({"alpha": slopes, "inplace": YES_NO}, x) for name in ("CELU", "ELU")},
        **{name: Case({"lambd": slopes}, x) for name in ("Hardshrink", "Softshrink")},
        **{name: Case({"dim": [1, 2]}, x) for name in ("GLU", "LogSoftmax", "Softmax", "Softmin")},
        **{
            name: Case({}, x)
            for name in ("LogSigmoid", "Sigmoid", "Softmax2d", "Softsign", "Tanh", "Tanhshrink")
        },
        "GELU": Case({"approximate": ["none", "tanh"]}, x),
        "Hardtanh": Case({"min_val": [-1.0, -0.5], "max_val": slopes}, x),
        "LeakyReLU": Case({"negative_slope": slopes}, x),
        "RReLU": Case({"lower": [0.1, 0.2], "upper": [0.3, 0.5]}, x),
        "Softplus": Case({"beta": slopes, "threshold": [1.0, 20.0]}, x),
        "Threshold": Case({"threshold": slopes, "value": [0.0, 2.0]}, x),
    }


def _poolings(n: int) -> dict[str, Case]:
    x = image(n)
    common: dict[str, list[Any]] = {"kernel_size": [2, 3], "stride": [1, 2], "ceil_mode": YES_NO}
    cases = {
        f"AdaptiveAvgPool{n}d": Case({"output_size": [1, 3]}, x),
        f"AdaptiveMaxPool{n}d": Case({"output_size": [1, 3]}, x),
        f"AvgPool{n}d": Case({**common, "padding": [0, 1]}, x),
        f"LPPool{n}d": Case({**common, "norm_type": [1.0, 2.0]}, lambda v: (x(v)[0].abs(),)),
        f"MaxPool{n}d": Case({**common, "padding": [0, 1], "dilation": [1, 2]}, x),
        f"MaxUnpool{n}d": Case({"kernel_size": [2, 3]}, _unpooled(n)),
    }
    if n > 1:
        cases[f"FractionalMaxPool{n}d"] = Case({"kernel_size": [2, 3], "output_size": [2, 3]}, x)
    return cases


def _paddings(n: int) -> dict[str, Case]:
    x = image(n)
    kinds = ("CircularPad", "ReflectionPad", "ReplicationPad", "ZeroPad")
    return {
        **{f"{kind}{n}d": Case({"padding": [1, 2, 3]}, x) for kind in kinds},
        f"ConstantPad{n}d": Case({"padding": [1, 2], "value": [0.0, 2.5]}, x),
    }


def _two(values: Values) -> tuple[Any, ...]:
    del values
    return noise(4, 5), noise(4, 5).flip(0)


WEIGHTLESS: dict[str, Case] = {
    **_activations(),
    **{name: case for n in (1, 2, 3) for name, case in (_poolings(n) | _paddings(n)).items()},
    **{
        name: Case({"p": [0.1, 0.5]}, image(n))
        for name, n in {
            **dict.fromkeys(("AlphaDropout", "Dropout", "FeatureAlphaDropout"), 2),
            **{f"Dropout{n}d": n for n in (1, 2, 3)},
        }.items()
    },
    "ChannelShuffle": Case({"groups": [1, 2, 4]}, image(2)),
    "CosineSimilarity": Case({"dim": [0, 1], "eps": [1e-8, 1e-2]}, _two),
    "CrossMapLRN2d": Case({"size": [1, 3], "alpha": [0.1, 0.5]}, image(2)),
    "Flatten": Case({"start_dim": [0, 1, 2]}, image(2)),
    "Fold": Case({"stride": [1, 2]}, _columns, {"output_size": (4, 4), "kernel_size": 2}),
    "LocalResponseNorm": Case({"size": [1, 3], "alpha": [0.1, 0.5]}, image(2)),
    "PairwiseDistance": Case({"p": [1.0, 2.0], "keepdim": YES_NO}, _two),
    "PixelShuffle": Case({"upscale_factor": [1, 2]}, image(2)),
    "PixelUnshuffle": Case({"downscale_factor": [1, 2, 4]}, image(2)),
    "Unflatten": Case({"unflattened_size": [(2, 2), (1, 4)]}, image(2), {"dim": 1}),
    "Unfold": Case({"kernel_size": [2, 3], "dilation": [1, 2], "stride": [1, 2]}, image(2)),
    "Upsample": Case({"scale_factor": [2, 3], "mode": ["nearest", "bilinear"]}, image(2)),
    "UpsamplingBilinear2d": Case({"scale_factor": [2, 3]}, image(2)),
    "UpsamplingNearest2d": Case({"scale_factor": [2, 3]}, image(2)),
}


# -- the others, of which there is an instance for each distinct tuple ----------------------------


def _probabilities(values: Values) -> tuple[Any, ...]:
    return tuple(each.sigmoid() for each in _two(values))


def _signs(values: Values) -> tuple[Any, ...]:
    del values
    return noise(4, 5), noise(4, 5).sign()


def _classes(values: Values) -> tuple[Any, ...]:
    del values
    return noise(4, 5).log_softmax(1), torch.tensor([0, 2, 1, 4])


def _ctc(values: Values) -> tuple[Any, ...]:
    del values
    targets = torch.tensor([[2, 3], [3, 2]])
    return noise(6, 2, 5).log_softmax(2), targets, torch.tensor([6, 6]), torch.tensor([2, 2])


def _triplet(values: Values) -> tuple[Any, ...]:
    return (*_two(values), noise(4, 5).roll(1))


REDUCTIONS = ["mean", "sum"]

LOSSES: dict[str, Case] = {
    **{
        name: Case({"reduction": REDUCTIONS}, _two)
        for name in (
            "HuberLoss",
            "KLDivLoss",
            "L1Loss",
            "MSELoss",
            "PoissonNLLLoss",
            "SmoothL1Loss",
        )
    },
    **{
        name: Case({"reduction": REDUCTIONS}, _probabilities)
        for name in ("BCELoss", "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss")
    },
    **{
        name: Case({"reduction": REDUCTIONS}, _signs)
        for name in ("HingeEmbeddingLoss", "SoftMarginLoss")
    },
    **{
        name: Case({"reduction": REDUCTIONS}, _classes)
        for name in ("CrossEntropyLoss", "MultiMarginLoss", "NLLLoss", "NLLLoss2d")
    },
    "CTCLoss": Case({"blank": [0, 1]}, _ctc),
    "CosineEmbeddingLoss": Case(
        {"margin": [0.0, 0.5]}, lambda v: (*_two(v), torch.tensor([1, -1, 1, -1]))
    ),
    "GaussianNLLLoss": Case({"full": YES_NO}, lambda v: (*_two(v), noise(4, 5).exp())),
    "MarginRankingLoss": Case(
        {"margin": [0.0, 0.5]}, lambda v: (*(each[:, 0] for each in _two(v)), torch.ones(4))
    ),
    "MultiLabelMarginLoss": Case(
        {"reduction": REDUCTIONS}, lambda _: (noise(1, 4), torch.tensor([[3, 0, -1, 1]]))
    ),
    "TripletMarginLoss": Case({"margin": [0.5, 1.0], "p": [1.0, 2.0]}, _triplet),
    "TripletMarginWithDistanceLoss": Case({"margin": [0.5, 1.0]}, _triplet),
}

_RNN = Case({"hidden_size": [4, 6], "num_layers": [1, 2]}, None)
_CELL = Case({"hidden_size": [4, 6], "bias": YES_NO}, lambda _: (noise(2, 3),), {"input_size": 3})
_LAYER = Case(
    {"nhead": [1, 2], "dim_feedforward": [8, 12]},
    lambda _: (noise(3, 2, 8),),
    {"d_model": 8, "dropout": 0.0},
)
_LAYER_PAIR = Case(_LAYER.varied, lambda _: (noise(3, 2, 8), noise(4, 2, 8)), _LAYER.fixed)


def _lazy(n: int) -> dict[str, Case]:
    x = image(n)
    return {
        f"LazyBatchNorm{n}d": Case({"momentum": [0.1, 0.5]}, x),
        f"LazyInstanceNorm{n}d": Case({"eps": [1e-5, 1e-2]}, x),
        f"LazyConv{n}d": Case({"out_channels": [4, 8]}, x, {"kernel_size": 3}),
        f"LazyConvTranspose{n}d": Case({"out_channels": [4, 8]}, x, {"kernel_size": 3}),
    }


LAZY: dict[str, Case] = {
    **{name: case for n in (1, 2, 3) for name, case in _lazy(n).items()},
    "LazyLinear": Case({"out_features": [4, 8]}, image(2)),
}

INSTANCES: dict[str, Case] = {
    **LOSSES,
    **dict.fromkeys(("GRUCell", "LSTMCell", "RNNCell"), _CELL),
    "RNNBase": Case(_RNN.varied, None, {"mode": "LSTM", "input_size": 3}),
    "RNNCellBase": Case(
        {"hidden_size": [4, 6]}, None, {"input_size": 3, "bias": True, "num_chunks": 1}
    ),
    "AdaptiveLogSoftmaxWithLoss": Case(
        {"div_value": [1.0, 2.0]},
        lambda _: (noise(3, 8), torch.tensor([0, 4, 9])),
        {"in_features": 8, "n_classes": 10, "cutoffs": [3, 6]},
    ),
    "LinearCrossEntropyLoss": Case(
        {"num_classes": [5, 7]},
        lambda _: (noise(3, 8), torch.tensor([0, 4, 2])),
        {"in_features": 8},
    ),
    "Identity": Case({}, image(2)),
    "Transformer": Case(
        {**_LAYER.varied, "num_encoder_layers": [1, 2]},
        _LAYER_PAIR.inputs,
        {**_LAYER.fixed, "num_decoder_layers": 1},
    ),
    "TransformerEncoderLayer": _LAYER,
    "TransformerDecoderLayer": _LAYER_PAIR,
    "TransformerEncoder": Case(
        {"num_layers": [1, 2]},
        _LAYER.inputs,
        {"encoder_layer": nn.TransformerEncoderLayer(8, 2, 8), "enable_nested_tensor": False},
    ),
    "TransformerDecoder": Case(
        {"num_layers": [1, 2]},
        _LAYER_PAIR.inputs,
        {"decoder_layer": nn.TransformerDecoderLayer(8, 2, 8)},
    ),
}

EVERY = {**ELASTIC, **WEIGHTLESS, **INSTANCES, **LAZY}

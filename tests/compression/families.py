"""Networks of other families than those of ``networks.py``: what is found must hold there too.

``FAMILIES`` holds functions that make a network in evaluation mode and its inputs: how channels
are packed, split, put in order and normalised in code that people write, and further models of
``transformers``, which raise ``ImportError`` where that is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.compression.networks import _VISION, Made, _hf, _ids, _image, _seeded, _text


class Block(nn.Module):
    """A block of a transformer as timm writes it: packed projections, a scale for each channel."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        packed = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, self.head_size)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
        x = x + self.gamma * self.out(y)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Patches(nn.Module):
    """A vision transformer with a class token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.positions = nn.Parameter(torch.randn(1, 17, 32))
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 24), nn.GELU(), nn.Linear(24, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))  # type: ignore[no-any-return]


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.blocks = nn.ModuleList(MixerBlock(16, 32) for _ in range(3))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """A feed-forward whose gates are packed with what they gate."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 128, bias=False), nn.Linear(64, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.up(x).chunk(2, -1)
        return x + self.down(F.silu(a) * b)  # type: ignore[no-any-return]


class OneKey(nn.Module):
    """Attention of many queries to one key and value, packed in one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = 4, 8
        self.qkv, self.out = nn.Linear(32, 48), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).split([self.heads * self.size, self.size, self.size], -1)
        q = q.view(b, n, self.heads, self.size).transpose(1, 2)
        weights = torch.softmax(q @ k[:, None].transpose(-1, -2) * self.size**-0.5, -1)
        y = (weights @ v[:, None]).transpose(1, 2).reshape(b, n, self.heads * self.size)
        return x + self.out(y)  # type: ignore[no-any-return]


class Summed(nn.Module):
    """Attention written with einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, (self.heads, -1)) for m in (self.q, self.k, self.v))
        weights = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        return x + self.out(torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2))  # type: ignore[no-any-return]


class Gates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(100, 32)
        self.gru, self.head = nn.GRU(32, 48, 2, batch_first=True), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.tokens(x))[1][-1])  # type: ignore[no-any-return]


class Causal(nn.Module):
    """A residual block of dilated convolutions in one dimension, padded by hand."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv1d(32, 32, 3, dilation=rate) for _ in range(2))
        self.padding = 2 * rate

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.one(F.pad(x, (self.padding, 0))))
        return x + F.relu(self.two(F.pad(y, (self.padding, 0))))


def _temporal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(8, 32, 1), *(Causal(2**i) for i in range(3)), nn.Conv1d(32, 4, 1)
    )


def _volumes() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv3d(3, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU()),
        *(nn.Conv3d(16, 32, 3, padding=1), nn.InstanceNorm3d(32, affine=True), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 4)),
    )


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(32, 64, 1), nn.Conv2d(64, 32, 1)
        self.inner, self.norm = nn.Conv2d(64, 64, 3, 1, 1, groups=4), nn.BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.leave(F.relu(self.norm(self.inner(F.relu(self.enter(x))))))  # type: ignore[no-any-return]


def _larger() -> nn.Module:
    """Super-resolution, by a shuffle of channels into pixels."""
    head = nn.Conv2d(3, 32, 3, 1, 1)
    up = nn.Conv2d(32, 64, 3, 1, 1), nn.PixelShuffle(2), nn.Conv2d(16, 3, 3, 1, 1)
    return nn.Sequential(head, Grouped(), Grouped(), *up)


def _autoencoder() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 4, 2, 1), nn.GroupNorm(4, 16), nn.SiLU()),
        *(nn.Conv2d(16, 32, 4, 2, 1), nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 8, 1)),
        *(nn.ConvTranspose2d(8, 16, 4, 2, 1), nn.GroupNorm(4, 16), nn.SiLU()),
        nn.ConvTranspose2d(16, 3, 4, 2, 1),
    )


class Slopes(nn.Module):
    """A slope for each channel, a depthwise convolution, and all places flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, 1, 1), nn.PReLU(32)),
            *(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.PReLU()),
            *(nn.Conv2d(32, 48, 1), nn.BatchNorm2d(48), nn.Hardswish()),
        )
        self.hidden, self.head = nn.Linear(48 * 16, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(F.max_pool2d(self.features(x), 4), 1)
        return self.head(F.relu(self.hidden(x)))  # type: ignore[no-any-return]


class Permuted(nn.Module):
    """Channels in an order that a table says."""

    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 8, 1)
        self.register_buffer("places", torch.randperm(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.relu(self.enter(x))[:, self.places])  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Features of three sizes, each added to the next after interpolation."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, 16, 32, 64)
        pairs = itertools.pairwise(sizes)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.side = nn.ModuleList(nn.Conv2d(size, 24, 1) for size in sizes[1:])
        self.out = nn.ModuleList(nn.Conv2d(24, 24, 3, 1, 1) for _ in sizes[1:])
        self.classes = nn.Conv2d(24, 6, 3, 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for down, side in zip(self.down, self.side, strict=True):
            x = F.relu(down(x))
            found.append(side(x))
        found[1] = found[1] + F.interpolate(found[2], scale_factor=2.0, mode="nearest")
        size = found[0].shape[-2:]
        found[0] = found[0] + F.interpolate(found[1], size=size, mode="bilinear")
        outputs = [self.classes(out(y)) for out, y in zip(self.out, found, strict=True)]
        return [y.flatten(2).permute(0, 2, 1) for y in outputs]


class Normed(nn.Module):
    """A convolution whose weight is reparametrised."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv1d(4, 32, 3, padding=1)
        self.one = torch.nn.utils.parametrizations.weight_norm(conv)
        self.two, self.out = nn.Conv1d(32, 32, 3, padding=1), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.two(F.relu(self.one(x)))).mean(-1))  # type: ignore[no-any-return]


class Partial(nn.Module):
    """Halves of which one goes through further layers, and all that is made concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 32, 1), nn.Conv2d(64, 24, 1)
        self.inner = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.SiLU()) for _ in range(2)
        )
        self.out = nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        parts.extend(m(parts[-1]) + parts[-1] for m in self.inner)
        return self.out(self.leave(torch.cat(parts, 1)))  # type: ignore[no-any-return]


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 32)
        self.inner = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)
        self.head = nn.Linear(32, 7)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.inner(self.tokens(source), self.tokens(target)))  # type: ignore[no-any-return]


class Excited(nn.Module):
    """Channels scaled by a convolution over channels, and places by one over means of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(3, 32, 3, 1, 1), nn.Conv2d(32, 4, 1)
        self.over_channels = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.over_places = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        places = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        y = y * self.over_places(places).sigmoid()
        scales = self.over_channels(y.mean((2, 3))[:, None]).sigmoid()[:, 0]
        return self.leave(y * scales[:, :, None, None])  # type: ignore[no-any-return]


def _pictures() -> Tensor:
    return torch.randn(2, 3, 16, 16)


def _sequence() -> Tensor:
    return torch.randn(2, 8, 32)


def _twice(kind: Callable[[], nn.Module]) -> Made:
    return nn.Sequential(kind(), kind()), _sequence()


_WRITTEN: dict[str, Callable[[], Made]] = {
    "packed attention": lambda: (Patches(), _pictures()),
    "mixer": lambda: (Mixer(), _pictures()),
    "packed gates": lambda: _twice(Gated),
    "one key": lambda: _twice(OneKey),
    "einsum": lambda: _twice(Summed),
    "GRU": lambda: (Gates(), _ids(16).view(2, 8)),
    "causal convolutions": lambda: (_temporal(), torch.randn(2, 8, 32)),
    "volumes": lambda: (_volumes(), torch.randn(2, 3, 4, 8, 8)),
    "pixel shuffle": lambda: (_larger(), _pictures()),
    "autoencoder": lambda: (_autoencoder(), _pictures()),
    "slopes": lambda: (Slopes(), _pictures()),
    "a permutation": lambda: (Permuted(), _pictures()),
    "pyramid": lambda: (Pyramid(), torch.randn(1, 3, 32, 32)),
    "weight norm": lambda: (Normed(), torch.randn(2, 4, 16)),
    "halves": lambda: (Partial(), _pictures()),
    "nn.Transformer": lambda: (
        Translator(),
        (_ids(12).view(2, 6) % 50, _ids(10).view(2, 5) % 50),
    ),
    "attention over channels": lambda: (Excited(), _pictures()),
}

_SMALL: dict[str, Any] = {"hidden_size": 64, "vocab_size": 100}
_STAGES: dict[str, Any] = {"image_size": 64, "hidden_sizes": [16, 32, 32, 64]}
_BART: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
_BIASES: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_HEADS: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 16}


def _large() -> Tensor:
    return _image(64)


_LIBRARY: dict[str, Callable[[], Made]] = {
    "ModernBERT": _text(
        "ModernBertModel", "ModernBertConfig", global_attn_every_n_layers=2, local_attention=8
    ),
    "DeBERTa": _text("DebertaModel", "DebertaConfig", **_BIASES),
    "DeBERTa V2": _text("DebertaV2Model", "DebertaV2Config", **_BIASES),
    "MPNet": _text("MPNetModel", "MPNetConfig"),
    "Gemma 2": _text("Gemma2ForCausalLM", "Gemma2Config", **_HEADS),
    "Gemma 3": _text("Gemma3ForCausalLM", "Gemma3TextConfig", **_HEADS),
    "Qwen3": _text("Qwen3ForCausalLM", "Qwen3Config", **_HEADS),
    "Cohere": _text("CohereForCausalLM", "CohereConfig", num_key_value_heads=2),
    "SmolLM3": _text("SmolLM3ForCausalLM", "SmolLM3Config", num_key_value_heads=2),
    "Phi-3": _text("Phi3ForCausalLM", "Phi3Config", num_key_value_heads=2),
    "BLOOM": _hf("BloomForCausalLM", "BloomConfig", _ids, n_layer=3, n_head=4, **_SMALL),
    "Falcon": _hf(
        "FalconForCausalLM",
        "FalconConfig",
        _ids,
        num_hidden_layers=2,
        num_attention_heads=4,
        **_SMALL,
    ),
    "Mamba": _hf(
        "MambaForCausalLM",
        "MambaConfig",
        _ids,
        num_hidden_layers=2,
        state_size=8,
        **_SMALL | {"hidden_size": 32},
    ),
    "BART": _hf("BartModel", "BartConfig", _ids, **_BART),
    "BERT with classes": _text("BertForSequenceClassification", "BertConfig"),
    "DINOv2": _hf("Dinov2Model", "Dinov2Config", _image, **_VISION, mlp_ratio=2),
    "BEiT": _hf("BeitModel", "BeitConfig", _image, **_VISION),
    "SigLIP": _hf("SiglipVisionModel", "SiglipVisionConfig", _image, **_VISION),
    "PVT": _hf(
        "PvtModel",
        "PvtConfig",
        _large,
        depths=[2, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        **_STAGES,
    ),
    "PoolFormer": _hf(
        "PoolFormerModel",
        "PoolFormerConfig",
        _large,
        hidden_sizes=_STAGES["hidden_sizes"],
        depths=[2, 2, 1, 1],
    ),
    "MobileViT": _hf(
        "MobileViTModel",
        "MobileViTConfig",
        _large,
        image_size=64,
        hidden_sizes=[32, 48, 64],
        neck_hidden_sizes=[8, 16, 24, 32, 32, 32, 64],
    ),
    "BiT": _hf(
        "BitModel",
        "BitConfig",
        _image,
        embedding_size=16,
        hidden_sizes=[32, 64],
        depths=[2, 2],
        num_groups=8,
    ),
}

FAMILIES: dict[str, Callable[[], Made]] = {
    name: _seeded(make) for name, make in (_WRITTEN | _LIBRARY).items()
}

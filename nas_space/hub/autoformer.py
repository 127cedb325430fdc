"""The space of AutoFormer (Chen et al., arXiv 2107.00651): vision transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError, suggest
from ..mutable import Categorical, MutableExpression
from ..nn import ElasticModule, MutableConv2d, MutableLayerNorm, MutableLinear, Repeat
from ..nn.widths import Widths
from .cells import DropPath
from .pretrained import load_checkpoint
from .published import presets, published_in, supernets
from .searched import SearchedSpace

__all__ = ["AutoFormer", "AutoformerSpace", "RelativePosition2D", "RelativePositionSelfAttention"]

_SPREAD = 0.02
"""Standard deviation of initial tokens and positions."""
_PRESETS, _SUPERNETS = presets("AutoformerSpace"), supernets("AutoformerSpace")
"""The three spaces of the paper, as arguments, and the weights of each, by their names."""


class ClassTokenLayer(nn.Module):
    """Puts a learned token before the others."""

    def __init__(self, embed_dim: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the token."""
        nn.init.trunc_normal_(self.cls_token, std=_SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens ``(batch, 1 + tokens, width)`` of tokens ``(batch, tokens, width)``."""
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)


class AbsolutePosition(nn.Module):
    """Adds a learned vector to the token at each place."""

    def __init__(self, length: int, embed_dim: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, length, embed_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors."""
        nn.init.trunc_normal_(self.pos_embed, std=_SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape, ``(batch, length, width)``."""
        return x + self.pos_embed


class ClassToken(ElasticModule, ClassTokenLayer, wraps=ClassTokenLayer):
    """A class token of elastic width: the leading part of one token."""

    widths = Widths("embed_dim", "embed_dim", -1, "channel")

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"cls_token": (1, 1, arguments["embed_dim"])}


class AbsolutePositionEmbedding(ElasticModule, AbsolutePosition, wraps=AbsolutePosition):
    """Positions of elastic width: the leading part of each vector."""

    widths = Widths("embed_dim", "embed_dim", -1, "channel")

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"pos_embed": (1, arguments["length"], arguments["embed_dim"])}


class RelativePosition2D(nn.Module):
    """Embeddings of the distance between two tokens of an image, in rows and in columns.

    Parameters
    ----------
    head_embed_dim
        Width of a head, and so of a vector.
    length
        The largest distance that is told apart, in patches.

    References
    ----------
    Shaw et al., *Self-attention with relative position representations*, arXiv 1803.02155.

    Examples
    --------
    >>> RelativePosition2D(8, length=3)(10).shape  # a class token and 3×3 patches
    torch.Size([10, 10, 8])
    """

    def __init__(self, head_embed_dim: int, length: int = 14) -> None:
        super().__init__()
        self.head_embed_dim, self.length = head_embed_dim, length
        # Entry 0 is for pairs with the class token, the others for distances of -length to length.
        self.embeddings_table_v = nn.Parameter(torch.empty(2 * length + 2, head_embed_dim))
        self.embeddings_table_h = nn.Parameter(torch.empty(2 * length + 2, head_embed_dim))
        nn.init.trunc_normal_(self.embeddings_table_v, std=_SPREAD)
        nn.init.trunc_normal_(self.embeddings_table_h, std=_SPREAD)

    def forward(self, tokens: int) -> Tensor:
        """Return the vectors of all pairs, ``(tokens, tokens, head_embed_dim)``.

        The first token is the class token, the others are patches of a square image by rows.
        """
        patches = torch.arange(tokens - 1, device=self.embeddings_table_v.device)
        side = isqrt(tokens - 1)
        vertical = self.embeddings_table_v[self._entries(patches // side)]
        return vertical + self.embeddings_table_h[self._entries(patches % side)]

    def _entries(self, places: Tensor) -> Tensor:
        """Return the entry of a table for each pair of tokens, of their places on one axis."""
        distances = (places[None, :] - places[:, None]).clamp(-self.length, self.length)
        # Zeros in front of rows and columns: the pairs of the class token, which has no place.
        return F.pad(distances + (self.length + 1), (1, 0, 1, 0))


class RelativePositionSelfAttention(nn.Module):
    """Self-attention of heads of one width, with relative positions.

    Unlike ``torch.nn.MultiheadAttention``, heads keep their width when their number changes.

    Parameters
    ----------
    embed_dim, num_heads
        Width of tokens and number of heads; each a number or an expression.
    head_dim
        Width of a head.
    attn_drop, proj_drop
        Rates of dropout: of attention, and of the output.
    qkv_bias
        Whether queries, keys and values have a bias.
    qk_scale
        Factor on products of queries and keys; ``head_dim ** -0.5`` by default.
    rpe
        Whether relative positions are added to keys and values.
    rpe_length
        See :class:`RelativePosition2D`.

    Examples
    --------
    >>> heads = Categorical([2, 3], label="heads")
    >>> attention = RelativePositionSelfAttention(16, heads, head_dim=4, rpe=True)
    >>> attention.q.freeze({"heads": 2})
    Linear(in_features=16, out_features=8, bias=False)
    """

    def __init__(
        self,
        embed_dim: Any,
        num_heads: Any,
        head_dim: int = 64,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        rpe: bool = False,
        rpe_length: int = 14,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        # Heads keep their width, so the scale is the same for all numbers of them, and the leading
        # heads of a wider layer are those of a narrower one.
        self.scale = qk_scale or head_dim**-0.5
        inner = head_dim * num_heads
        self.q = MutableLinear(embed_dim, inner, bias=qkv_bias)
        self.k = MutableLinear(embed_dim, inner, bias=qkv_bias)
        self.v = MutableLinear(embed_dim, inner, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = MutableLinear(inner, embed_dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.rpe = rpe
        if rpe:
            self.rel_pos_embed_k = RelativePosition2D(head_dim, rpe_length)
            self.rel_pos_embed_v = RelativePosition2D(head_dim, rpe_length)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape, ``(batch, tokens, embed_dim)``."""
        tokens = x.shape[1]
        q, k, v = (
            part(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        scores = (q @ k.transpose(-2, -1)) * self.scale
        if self.rpe:
            keys = torch.einsum("bhnd,nmd->bhnm", q, self.rel_pos_embed_k(tokens))
            scores = scores + keys * self.scale
        attention = self.attn_drop(scores.softmax(-1))
        x = attention @ v
        if self.rpe:
            x = x + torch.einsum("bhnm,nmd->bhnd", attention, self.rel_pos_embed_v(tokens))
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


class TransformerEncoderLayer(nn.Module):
    """Attention and a feed-forward network, each with a residual connection and a norm.

    Parameters
    ----------
    embed_dim, num_heads
        As of :class:`RelativePositionSelfAttention`.
    mlp_ratio
        How many times as wide the inside of the feed-forward network is; may be an expression.
    drop_path, drop_rate
        Rates of stochastic depth and of dropout.
    pre_norm
        Whether a norm stands before what it belongs to, or after the residual connection.
    attention
        Other arguments of the attention.
    """

    def __init__(
        self,
        embed_dim: Any,
        num_heads: Any,
        mlp_ratio: Any = 4.0,
        drop_path: float = 0.0,
        drop_rate: float = 0.0,
        pre_norm: bool = True,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.normalize_before = pre_norm
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.attn = RelativePositionSelfAttention(embed_dim, num_heads, **attention)
        self.attn_layer_norm = MutableLayerNorm(embed_dim)
        self.ffn_layer_norm = MutableLayerNorm(embed_dim)
        self.activation_fn = nn.GELU()
        self.dropout = nn.Dropout(drop_rate)
        inner: Any = MutableExpression.to_int(embed_dim * mlp_ratio)
        self.fc1 = MutableLinear(embed_dim, inner)
        self.fc2 = MutableLinear(inner, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape, ``(batch, tokens, embed_dim)``."""
        x = self._residual(x, self.attn_layer_norm, self.attn)
        return self._residual(x, self.ffn_layer_norm, self._feed_forward)

    def _residual(self, x: Tensor, norm: nn.Module, branch: Any) -> Tensor:
        out = branch(norm(x) if self.normalize_before else x)
        x = x + self.drop_path(self.dropout(out))
        return x if self.normalize_before else norm(x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.activation_fn(self.fc1(x))))  # type: ignore[no-any-return]


class AutoformerSpace(SearchedSpace):
    """Vision transformers: their width and depth, and the heads and inner width of each block.

    The space as NNI's hub has it.  Labels are ``embed_dim``, ``depth`` and, for each block from
    0, ``num_head_<i>`` and ``mlp_ratio_<i>``.  Weights are entangled: narrower layers are the
    leading part of wider ones, so that networks inherit those that a supernet was trained with.
    Published are ``autoformer-tiny``, ``autoformer-small`` and ``autoformer-base``, each the
    best that was found in a space of its own (:meth:`preset`).

    Parameters
    ----------
    search_embed_dim, search_mlp_ratio, search_num_heads, search_depth
        What there is to choose from.
    img_size, patch_size
        Of images and of the squares that are one token each, in pixels.
    in_channels, num_labels
        Channels of images, and classes.
    qkv_bias, qk_scale, rpe
        As of :class:`RelativePositionSelfAttention`.
    drop_rate, attn_drop_rate, drop_path_rate
        Rates of dropout, also of attention, and of stochastic depth in the last block of the
        deepest network; less in earlier ones.
    pre_norm
        See :class:`TransformerEncoderLayer`.
    global_pooling
        Whether the mean of all patches is classified, or the class token.
    absolute_position
        Whether places are told by vectors of their own, too.
    head_dim
        Width of a head.

    Raises
    ------
    UsageError
        If patches do not divide images.

    Examples
    --------
    >>> space = AutoformerSpace(img_size=32, search_depth=(1, 2), num_labels=10)
    >>> space.count()
    126
    >>> space.random(seed=0).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    >>> AutoformerSpace.preset("base")["search_depth"]
    (14, 15, 16)
    """

    published = published_in("AutoformerSpace")
    last_layer: ClassVar[str] = "head"

    def __init__(
        self,
        search_embed_dim: Sequence[int] = (192, 216, 240),
        search_mlp_ratio: Sequence[float] = (3.0, 3.5, 4.0),
        search_num_heads: Sequence[int] = (3, 4),
        search_depth: Sequence[int] = (12, 13, 14),
        img_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        num_labels: int = 1000,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        pre_norm: bool = True,
        global_pooling: bool = True,
        absolute_position: bool = True,
        qk_scale: float | None = None,
        rpe: bool = True,
        *,
        head_dim: int = 64,
    ) -> None:
        super().__init__()
        if img_size < patch_size or img_size % patch_size:
            raise UsageError(
                f"images are cut into whole patches, but img_size={img_size} is no multiple of "
                f"patch_size={patch_size}"
            )
        side = img_size // patch_size
        width = Categorical(list(search_embed_dim), label="embed_dim")
        depth = Categorical(list(search_depth), label="depth")
        blocks = range(max(search_depth))
        ratios = [Categorical(list(search_mlp_ratio), label=f"mlp_ratio_{i}") for i in blocks]
        heads = [Categorical(list(search_num_heads), label=f"num_head_{i}") for i in blocks]
        # Plain numbers, so not on whatever device the space is built on: a tensor on the meta
        # device has none.
        rates = torch.linspace(0, drop_path_rate, max(search_depth), device="cpu").tolist()
        self.img_size, self.patches_num = img_size, side**2
        self.global_pooling = global_pooling
        self.patch_embed = MutableConv2d(in_channels, width, patch_size, patch_size)
        self.cls_token = ClassToken(width)
        self.pos_embed = (
            AbsolutePositionEmbedding(self.patches_num + 1, width)
            if absolute_position
            else nn.Identity()
        )
        self.blocks = Repeat(
            lambda index: TransformerEncoderLayer(
                width,
                heads[index],
                ratios[index],
                drop_path=rates[index],
                drop_rate=drop_rate,
                pre_norm=pre_norm,
                head_dim=head_dim,
                attn_drop=attn_drop_rate,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                rpe=rpe,
                rpe_length=side,
            ),
            depth,
        )
        self.norm = MutableLayerNorm(width) if pre_norm else nn.Identity()
        self.head = MutableLinear(width, num_labels) if num_labels > 0 else nn.Identity()

    @classmethod
    def preset(cls, name: str) -> dict[str, Any]:
        """Return the arguments of the spaces of the paper: ``tiny``, ``small`` or ``base``.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        return dict(_PRESETS[_size(name)])

    @classmethod
    def load_pretrained_supernet(
        cls, name: str, download: bool = False, progress: bool = True
    ) -> AutoformerSpace:
        """Return a space with the weights that the authors trained along random paths.

        Any of its architectures is then a network that needs no more training.

        Parameters
        ----------
        name
            ``tiny``, ``small`` or ``base``, also with NNI's ``random-one-shot-`` before it.
        download, progress
            Whether the weights may be fetched if they are not in the local cache, and whether
            that is shown.

        Raises
        ------
        UsageError
            If there is none of that name.
        CheckpointError
            If the weights are not to be had, or damaged.
        """
        size = _size(name.removeprefix("random-one-shot-"))
        space = cls(**_PRESETS[size])
        file = _SUPERNETS[size]
        load_checkpoint(space, file, head=cls.last_layer, download=download, progress=progress)
        return space

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores, ``(batch, num_labels)``, of square images ``(batch, …)``.

        Raises
        ------
        UsageError
            If images are of another size.
        """
        if tuple(x.shape[-2:]) != (self.img_size, self.img_size):
            raise UsageError(
                f"this space is for images of {self.img_size} by {self.img_size} pixels, but got "
                f"{tuple(x.shape)}; say img_size="
            )
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(self.pos_embed(self.cls_token(x))))
        return self.head(x[:, 1:].mean(1) if self.global_pooling else x[:, 0])  # type: ignore[no-any-return]


def _size(name: str) -> str:
    """Return which of the paper's spaces is meant."""
    size = str(name).lower()
    if size not in _PRESETS:
        raise UsageError(
            f"there is no preset {name!r}{suggest(size, _PRESETS)}; there are {sorted(_PRESETS)}"
        )
    return size


AutoFormer = AutoformerSpace
"""The name of the space in NNI's hub."""

"""What functions of layers ask of sizes: products, convolutions, norms, attention, recurrence."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .rules import fixed, int_hint, new_like, rule, same, spread

__all__: list[str] = []  # the rules are found by the functions that they are of


def _biased(bias: Any, size: Any) -> None:
    if bias is not None:
        same(bias.shape[0], size)


@rule(F.linear)
def _linear(input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    same(input.shape[-1], weight.shape[1])
    _biased(bias, weight.shape[0])
    return new_like(input, (*input.shape[:-1], weight.shape[0]))


def _channels(input: Tensor, weight: Tensor, bias: Any, groups: Any, *, transposed: bool) -> Any:
    """Check what a convolution asks of channels; return its output's, between the other sizes."""
    n = weight.dim() - 2
    ends = weight.shape[0], weight.shape[1] * groups
    given, made = ends if transposed else ends[::-1]
    same(input.shape[-n - 1], given)
    if not (type(groups) is int and groups == 1):
        same(weight.shape[0] % groups, 0)
    _biased(bias, made)
    return (*input.shape[: -n - 1], made)


@rule(F.conv1d, F.conv2d, F.conv3d)
def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Any:
    n = weight.dim() - 2
    shape = _channels(input, weight, bias, groups, transposed=False)
    if padding == "same":
        return new_like(input, (*shape, *input.shape[-n:]))
    pads = (0,) * n if padding == "valid" else spread(padding, n)
    given = (pads, spread(dilation, n), spread(stride, n))
    sizes = zip(input.shape[-n:], weight.shape[2:], *given, strict=True)
    out = [(e + 2 * p - d * (k - 1) - 1) // s + 1 for e, k, p, d, s in sizes]
    return new_like(input, (*shape, *out))


@rule(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def _transposed(
    input: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Any:
    n = weight.dim() - 2
    shape = _channels(input, weight, bias, groups, transposed=True)
    given = (spread(value, n) for value in (stride, padding, dilation, output_padding))
    sizes = zip(input.shape[-n:], weight.shape[2:], *given, strict=True)
    out = [(e - 1) * s - 2 * p + d * (k - 1) + o + 1 for e, k, s, p, d, o in sizes]
    return new_like(input, (*shape, *out))


@rule(F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm)
def _layer_norm(input: Tensor, normalized_shape: Any, *own: Any, **named: Any) -> Tensor:
    for place, size in enumerate(reversed(tuple(normalized_shape))):
        for tensor in (input, *own, *named.values()):
            if isinstance(tensor, Tensor):
                same(tensor.shape[-1 - place], size)
    return new_like(input, input.shape)


@rule(F.batch_norm, torch.batch_norm, F.instance_norm)
def _batch_norm(input: Tensor, *own: Any, **named: Any) -> Tensor:
    for tensor in (*own, *named.values()):
        if isinstance(tensor, Tensor):
            same(tensor.shape[0], input.shape[1])
    return new_like(input, input.shape)


@rule(F.group_norm, torch.group_norm)
def _group_norm(input: Tensor, num_groups: Any, *own: Any, **named: Any) -> Tensor:
    same(input.shape[1] % num_groups, 0)
    made: Tensor = _batch_norm(input, *own, **named)
    return made


@rule(F.scaled_dot_product_attention)
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Tensor:
    same(query.shape[-1], key.shape[-1])
    same(key.shape[-2], value.shape[-2])
    for dim in range(2, query.dim() - 1):
        q, k, v = query.shape[-dim - 1], key.shape[-dim - 1], value.shape[-dim - 1]
        same(k, v)
        if enable_gqa and dim == 2:
            same(q % k, 0)
        else:
            same(q, k)
    scores = (*query.shape[:-1], key.shape[-2])
    if attn_mask is not None:
        _broadcast(scores, attn_mask.shape)
    return new_like(query, (*query.shape[:-1], value.shape[-1]))


def _broadcast(a: Any, b: Any) -> tuple[Any, ...]:
    out = []
    for place in range(max(len(a), len(b))):
        x = a[-1 - place] if place < len(a) else 1
        y = b[-1 - place] if place < len(b) else 1
        if type(x) is int and x == 1:
            out.append(y)
        else:
            if not (type(y) is int and y == 1):
                same(x, y)
            out.append(x)
    return tuple(reversed(out))


@rule(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.mm, Tensor.mm)
def _matmul(input: Tensor, other: Tensor) -> Any:
    if input.dim() < 2 or other.dim() < 2:
        return NotImplemented
    same(input.shape[-1], other.shape[-2])
    batch = _broadcast(input.shape[:-2], other.shape[:-2])
    return new_like(input, (*batch, input.shape[-2], other.shape[-1]))


@rule(F.grouped_mm, torch._grouped_mm)
def _grouped(
    mat_a: Tensor, mat_b: Tensor, offs: Any = None, bias: Any = None, out_dtype: Any = None
) -> Any:
    """The product of each row with the matrix of its group: experts, one above the other."""
    if mat_a.dim() != 2 or mat_b.dim() != 3:
        return NotImplemented
    same(mat_a.shape[1], mat_b.shape[1])
    fixed(mat_b.shape[0])
    return new_like(mat_a, (mat_a.shape[0], mat_b.shape[2]))


@rule(torch.baddbmm, Tensor.baddbmm, torch.addmm, Tensor.addmm)
def _addmm(input: Tensor, *factors: Tensor, **named: Any) -> Tensor:
    made: Tensor = _matmul(*factors, *(t for t in named.values() if isinstance(t, Tensor)))
    _broadcast(made.shape, input.shape)
    return made


@rule(F.bilinear, torch.bilinear)
def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    same(input1.shape[-1], weight.shape[1])
    same(input2.shape[-1], weight.shape[2])
    _biased(bias, weight.shape[0])
    return new_like(input1, (*input1.shape[:-1], weight.shape[0]))


@rule(torch._weight_norm)
def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    if g.dim() == v.dim():
        same(g.shape[dim], v.shape[dim])
    return new_like(v, v.shape)


@rule(F.embedding)
def _embedding(input: Tensor, weight: Tensor, *_: Any, **__: Any) -> Tensor:
    fixed(weight.shape[0])
    return weight.new_empty((*input.shape, weight.shape[1]))


@rule(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
def _recurrent(*args: Any) -> Any:
    if isinstance(args[1], Tensor) and args[1].dim() == 1:  # packed sequences
        return NotImplemented
    given, state, weights, biases, layers, _, _, bidirectional, _batch_first = args
    states = list(state) if isinstance(state, (tuple, list)) else [state]
    directions = 2 if bidirectional else 1
    hidden = states[0].shape[-1]
    per_cell = len(weights) // (layers * directions)
    has_projection = per_cell in (3, 5)
    features = given.shape[-1]
    cells = states[1].shape[-1] if len(states) > 1 else hidden
    for layer in range(layers):
        for direction in range(directions):
            start = (layer * directions + direction) * per_cell
            w_ih, w_hh, *rest = weights[start : start + per_cell]
            same(w_ih.shape[1], features)
            same(w_hh.shape[1], hidden)
            gates = int_hint(w_ih.shape[0]) // int_hint(cells)
            same(w_ih.shape[0], gates * cells)
            same(w_hh.shape[0], gates * cells)
            if biases:
                same(rest[0].shape[0], gates * cells)
                same(rest[1].shape[0], gates * cells)
            if has_projection:
                same(rest[-1].shape[0], hidden)
                same(rest[-1].shape[1], cells)
        features = hidden * directions
    out = new_like(given, (*given.shape[:-1], features))
    return (out, *(new_like(s, s.shape) for s in states))


@rule(torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell)
def _recurrent_cell(
    input: Tensor, state: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None
) -> Any:
    states = list(state) if isinstance(state, (tuple, list)) else [state]
    hidden = states[0].shape[-1]
    gates = int_hint(w_ih.shape[0]) // int_hint(hidden)
    same(w_ih.shape[1], input.shape[-1])
    same(w_hh.shape[1], hidden)
    for tensor in (w_ih, w_hh, b_ih, b_hh):
        if tensor is not None:
            same(tensor.shape[0], gates * hidden)
    made = [new_like(one, one.shape) for one in states]
    return tuple(made) if len(made) > 1 else made[0]


@rule(F.multi_head_attention_forward)
def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: Any,
    num_heads: Any,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    width = query.shape[-1]
    same(width, embed_dim_to_check)
    same(width % num_heads, 0)
    if use_separate_proj_weight:
        for given, weight in ((query, q_proj_weight), (key, k_proj_weight), (value, v_proj_weight)):
            same(given.shape[-1], weight.shape[1])
            same(weight.shape[0], width)
    else:
        same(in_proj_weight.shape[1], width)
        same(in_proj_weight.shape[0], width * 3)
    _biased(in_proj_bias, width * 3)
    for extra in (bias_k, bias_v):
        if extra is not None:
            same(extra.shape[-1], width)
    same(out_proj_weight.shape[1], width)
    same(out_proj_weight.shape[0], width)
    _biased(out_proj_bias, width)
    if not need_weights:
        return new_like(query, query.shape), None
    source, target = key.shape[0], query.shape[0]
    batch = (query.shape[1],) if query.dim() == 3 else ()
    heads = () if average_attn_weights else (num_heads,)
    return new_like(query, query.shape), new_like(query, (*batch, *heads, target, source))

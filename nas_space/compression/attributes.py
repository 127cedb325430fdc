"""Which attributes of a module may say a size: what the symbolic run makes symbols of."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ["candidates"]

_READ: dict[type[nn.Module], tuple[str, ...]] = {
    nn.modules.conv._ConvNd: ("groups",),
    nn.GroupNorm: ("num_groups",),
    nn.modules.instancenorm._InstanceNorm: ("num_features",),
    nn.MultiheadAttention: ("embed_dim", "num_heads", "head_dim", "kdim", "vdim"),
    nn.RNNBase: ("input_size", "hidden_size", "proj_size"),
    nn.RNNCellBase: ("input_size", "hidden_size"),
    nn.Transformer: ("d_model",),
    nn.LayerNorm: ("normalized_shape",),
    nn.RMSNorm: ("normalized_shape",),
}
"""What the forward of torch's own layers reads."""


def candidates(module: nn.Module) -> Iterator[tuple[str, int | tuple[int, ...]]]:
    """Return the attributes of a module that may say a size, with their values.

    Those of torch's layers are known.  Of other modules, it is each whole number that equals or
    divides a dimension of a tensor below.
    """
    state = vars(module)
    for kind in type(module).__mro__:
        if kind in _READ:
            yield from ((n, state[n]) for n in _READ[kind] if _is_size(state.get(n)))
            return
    if type(module).__module__.startswith("torch.nn."):
        return
    named = [(name, value) for name, value in state.items() if _is_size(value)]
    if not named:
        return
    extents = {
        size
        for tensor in (*module.parameters(), *module.buffers())
        if tensor.is_floating_point()
        for size in tensor.shape
    }
    for name, value in named:
        if type(value) is int and any(size % value == 0 for size in extents):
            yield name, value


def _is_size(value: object) -> bool:
    if isinstance(value, tuple):  # such as a normalised shape
        return bool(value) and all(map(_is_size, value))
    return type(value) is int and value > 1

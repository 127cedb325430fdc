"""What functions of torch do to the tensors of a mixture: they carry axes along, or run by cases.

A rule gives the result for tensors that are wide, or ``NotImplemented`` where the elements of
another architecture would have to move differently; then the function is run by cases, which
is exact for any function.  So rules only save time.
"""

from __future__ import annotations

from typing import Any

from .cases import run_by_cases
from .elementwise import Rule, elementwise, is_in_place
from .mixed_tensor import MixedTensor, mixed_in
from .mixer import union
from .movement import cat, expanded, permuted, repeated, side_by_side, stack
from .per_dimension import (
    along_given_dims,
    normalized_dims,
    of_last_dims,
    padded_dims,
    spatial_dims,
)
from .refusals import named, refused
from .reshaping import channel_shuffle, glu, pixel_shuffle, pixel_unshuffle, reshaped
from .selection import get_item, select, set_item, taking

__all__ = ["apply"]


def apply(function: Any, args: Any, kwargs: Any) -> Any:
    """Return what a function of torch gives for arguments of which some differ.

    Raises
    ------
    SpaceError
        If that cannot be said exactly.
    """
    name = _name_of(function)
    mixed = mixed_in((args, kwargs))
    if name in _PROPERTIES:
        return _property(name, function, args, kwargs)
    tensors = [item for item in mixed if isinstance(item, MixedTensor)]
    if tensors and kwargs.get("out") is None and all(t.wide is not None for t in tensors):
        rule = elementwise if is_in_place(name) else _RULES.get(name)
        if rule is not None and (rule is not elementwise or name.rstrip("_") in _POINTWISE):
            # A rule may give up on arguments at any point, as it changes nothing: where it reads
            # them, it has not called the function yet.  If they are wrong, torch says so by cases.
            try:
                found = rule(name, function, args, kwargs)
            except (KeyError, TypeError):
                found = NotImplemented
            if found is not NotImplemented:
                return found
    atoms = union(*(item.atoms for item in mixed))
    if _changes_its_cases(name, args, kwargs, atoms):
        run_by_cases(name, function, args, kwargs)
        return args[0]
    _refuse_what_changes(name, kwargs, atoms)
    return run_by_cases(name, function, args, kwargs)


def _changes_its_cases(name: str, args: Any, kwargs: Any, atoms: Any) -> bool:
    """Return whether a function changes a tensor of cases in place, each case exactly once.

    So it must depend on no more labels than the cases do: else it would be run several times on
    one of them.
    """
    first: Any = args[0] if args else None
    by_name = is_in_place(name) and name.rstrip("_") in _POINTWISE
    inplace = kwargs.get("inplace") and name in _POINTWISE
    if not (by_name or inplace) or not isinstance(first, MixedTensor) or first.wide is not None:
        return False
    if len(union(first.atoms, atoms)) > len(first.atoms):
        return False
    # Where cases are parts of one tensor, it would be changed once for each of them.
    places = {case.untyped_storage().data_ptr() for case in first.cases.values()}
    return len(places) == len(first.cases) and not any(c._is_view() for c in first.cases.values())


def _name_of(function: Any) -> str:
    name: str = getattr(function, "__name__", str(function))
    if name == "__get__":
        return str(getattr(function.__self__, "__name__", name))
    if name == "__set__":
        return f"{getattr(function.__self__, '__name__', name)}="
    return _ALIASES.get(name, name)


_ALIASES = {
    **{f"__{op}__": op for op in ("add", "sub", "mul", "pow", "mod", "and", "or", "xor", "neg")},
    **{f"__r{op}__": op for op in ("add", "sub", "mul", "pow", "and", "or", "xor")},
    **{f"__i{op}__": f"{op}_" for op in ("add", "sub", "mul", "truediv", "pow", "and", "or")},
    **{f"__{op}__": op for op in ("lt", "le", "gt", "ge", "eq", "ne", "abs", "invert")},
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__rdiv__": "div",
    "__div__": "div",
    "__idiv__": "div_",
    "__floordiv__": "floor_divide",
    "__rfloordiv__": "floor_divide",
    "truediv_": "div_",
    "view_as_": "view_as",
}


# What changes a tensor cannot be run by cases: it would be done several times to one tensor.  Nor
# can what makes Python numbers, which nothing would put together again.
_CHANGES = frozenset({"__setitem__", "data=", "grad=", "requires_grad_", "backward"})
_NUMBERS = frozenset(
    {"item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"}
    | {"__contains__", "__iter__", "data_ptr", "storage", "untyped_storage", "__dlpack__"}
)


def _refuse_what_changes(name: str, kwargs: Any, atoms: Any) -> None:
    if is_in_place(name) or name in _CHANGES or kwargs.get("out") is not None:
        raise refused(name, atoms, "it changes a tensor in place, for each of them differently")
    if kwargs.get("inplace"):
        raise refused(name, atoms, "it changes a tensor in place (inplace=True)")
    if name in _NUMBERS:
        raise refused(name, atoms, "it makes plain numbers of what differs")


_PROPERTIES = frozenset(
    {"shape", "size", "dim", "ndim", "ndimension", "numel", "nelement", "__len__", "dtype"}
    | {"device", "layout", "is_floating_point", "is_complex", "requires_grad", "is_cuda"}
    | {"is_sparse", "is_quantized", "is_meta", "is_leaf", "element_size", "itemsize", "is_mps"}
    | {"get_device", "__repr__", "__str__", "__hash__", "__format__", "names", "is_nested"}
    | {"is_contiguous", "type", "is_signed", "is_cpu", "is_mkldnn", "is_xla", "is_inference"}
    | {"is_conj", "is_neg", "is_same_size", "result_type", "__reduce_ex__", "grad_fn"}
)


def _property(name: str, function: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    if not isinstance(tensor, MixedTensor):
        return NotImplemented
    if name in ("shape", "size"):
        sizes = tensor.sizes()
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        return sizes if dim is None else sizes[dim]
    if name in ("numel", "nelement"):
        return tensor.sizes().numel()
    if name == "__len__":
        return int(tensor.sizes()[0])
    if name in ("__repr__", "__str__", "__format__"):
        return f"MixedTensor(shape={tuple(tensor.sizes())}, {named(tensor.atoms)})"
    if name == "__hash__":
        return id(tensor)
    if name == "type" and len(args) > 1:
        return elementwise(name, function, args, kwargs)
    like = tensor.wide if tensor.wide is not None else next(iter(tensor.cases.values()))
    return function(like, *args[1:], **kwargs)


_POINTWISE = frozenset(
    name
    for row in (
        "abs absolute acos acosh add addcdiv addcmul alpha_dropout and angle arccos asin",
        "asinh atan atan2 atanh bernoulli bfloat16 bitwise_and bitwise_not bitwise_or",
        "bitwise_xor bool ceil celu clamp clamp_max clamp_min clip clone conj contiguous",
        "copysign cos cosh cpu cuda deg2rad detach digamma div divide double dropout elu",
        "empty_like eq erf erfc erfinv exp exp2 expm1 fill fix float float_power floor",
        "floor_divide fmax fmin fmod frac full_like ge gelu greater greater_equal gt half",
        "hardshrink hardsigmoid hardswish hardtanh heaviside hypot igamma int invert isclose",
        "isfinite isinf isnan ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p",
        "log2 log_sigmoid logaddexp logical_and logical_not logical_or logical_xor logit",
        "logsigmoid long lt masked_fill maximum minimum mish mod mul multiply mvlgamma",
        "nan_to_num ne neg negative nextafter not_equal ones_like or positive pow rad2deg",
        "rand_like randn_like reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sgn",
        "short sigmoid sign signbit silu sin sinc sinh softplus softshrink softsign sqrt",
        "square sub subtract tan tanh tanhshrink threshold to true_divide trunc type_as where",
        "xlogy xor zero zeros_like",
    )
    for name in row.split()
)
"""Functions that work element by element; names that end in an underscore are these in place.

A function that is missing here is run by cases, which is slower and as exact.  One that is here
and is not elementwise would be wrong.
"""

_REDUCING = (
    *("sum", "mean", "prod", "amax", "amin", "any", "all", "logsumexp", "nansum", "nanmean"),
    *("std", "var"),
)
_SCANS = (
    *("softmax", "log_softmax", "softmin", "cumsum", "cumprod", "logcumsumexp"),
    *("argmax", "argmin", "max", "min"),
)

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, elementwise),
    "chunk": taking("chunks", "dim", dim=0),
    "split": taking("split_size_or_sections", "dim", dim=0),
    "tensor_split": taking("indices_or_sections", "dim", dim=0),
    "narrow": taking("dim", "start", "length"),
    "flip": taking("dims", copies=True),
    "roll": taking("shifts", "dims", dims=None, copies=True),
    "repeat_interleave": taking("repeats", "dim", dim=None, copies=True),
    "select": select,
    "unbind": along_given_dims("dim", dim=0),
    "__getitem__": get_item,
    "__setitem__": set_item,
    **dict.fromkeys(("cat", "concat", "concatenate"), cat),
    **dict.fromkeys(("hstack", "column_stack"), side_by_side),
    "stack": stack,
    **dict.fromkeys(
        ("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "T", "mT"),
        permuted,
    ),
    **dict.fromkeys(
        ("view", "reshape", "view_as", "reshape_as", "flatten", "ravel", "unflatten"), reshaped
    ),
    **dict.fromkeys(("squeeze", "unsqueeze"), reshaped),
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), channel_shuffle),
    "glu": glu,
    **dict.fromkeys(("repeat", "tile"), repeated),
    "expand": expanded,
    **dict.fromkeys((*_REDUCING, *_SCANS), along_given_dims("dim")),
    "norm": along_given_dims("p", "dim", p=2),
    "normalize": along_given_dims("p", "dim", p=2, dim=1),
    "linear": of_last_dims(1),
    **{f"conv{n}d": of_last_dims(n + 1) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": of_last_dims(n + 1) for n in (1, 2, 3)},
    **{
        f"{kind}_pool{n}d": of_last_dims(n)
        for n in (1, 2, 3)
        for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp", "fractional_max")
    },
    "pad": of_last_dims(padded_dims),
    **dict.fromkeys(("interpolate", "upsample"), of_last_dims(spatial_dims)),
    **dict.fromkeys(("layer_norm", "rms_norm"), of_last_dims(normalized_dims)),
    **{f"dropout{n}d": of_last_dims(n) for n in (1, 2, 3)},
    "feature_alpha_dropout": of_last_dims(spatial_dims),
}

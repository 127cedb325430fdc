"""Elastic layers as mixtures: of weights where that is exact, else of outputs.

A tensor of elastic width is as wide as the widest, and its channels are as they are wherever
they exist (see :class:`~nas_space.nn.decisions.Weighted`).  So a layer that works on each
channel by itself, a batch norm for instance, only has to run at the largest width.  A
convolution weights what it reads:  its output channel ``o`` is to be the expectation, over
the architectures that have ``o``, of what these compute; which is one convolution with

    weight[o, i, k] * P(i and k are there | o is there)

for any number of widths and kernels.  What is no such sum of weights is computed for one
shape after another, and the outputs are weighted alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import SpaceError
from ...mutable.node import leaves
from ..elastic import ElasticModule
from ..layers import WeightlessModule
from ..parametrized import evaluated, expressions_in
from ..segments import AxisLayout, Indices, Places, layout_of, leading
from .beliefs import Beliefs, Known, Outcomes


@dataclass(frozen=True)
class Widths:
    """Which arguments of a layer are the widths of its input and output, and on which axis."""

    inputs: str | None
    outputs: str
    axis: int
    channelwise: bool = False


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CHANNELWISE = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
_WIDTHS: dict[type[nn.Module], Widths] = {
    **{
        plain: Widths("in_channels", "out_channels", -2 - n)
        for family in (_CONVOLUTIONS, _TRANSPOSED)
        for n, plain in enumerate(family)
    },
    **{plain: Widths("num_features", "num_features", 1, True) for plain in _CHANNELWISE},
    nn.Linear: Widths("in_features", "out_features", -1),
    nn.PReLU: Widths("num_parameters", "num_parameters", 1, True),
    nn.GroupNorm: Widths("num_channels", "num_channels", 1),
    nn.LayerNorm: Widths("normalized_shape", "normalized_shape", -1),
    nn.RMSNorm: Widths("normalized_shape", "normalized_shape", -1),
    nn.Embedding: Widths(None, "embedding_dim", -1),
}


def blend(
    beliefs: Beliefs, known: Known, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return the output of an elastic layer, mixed over all shapes that it may have.

    Parameters
    ----------
    beliefs, known
        How likely each shape is.
    layer
        The layer.
    args, kwargs
        Its input.

    Raises
    ------
    SpaceError
        If it cannot be mixed.
    """
    plan = plan_of(layer, beliefs, known)
    if not plan.together:
        return _one_by_one(plan, layer, beliefs.of(plan.wanted, known)[1], args, kwargs)
    stand_in = layer.shaped(plan.widest)
    if plan.mask is not None:
        plan.mask.apply(stand_in, beliefs.of(plan.wanted, known)[1])
    return layer.run_as(stand_in, *args, **kwargs)


def plan_of(layer: ElasticModule, beliefs: Beliefs, known: Known) -> Plan:
    """Return how a layer is mixed; worked out once for each set of values that it may have."""
    plans = _PLANS.setdefault(layer.blueprint, {})
    outcomes = beliefs.outcomes(_wanted(layer), known)
    everything = beliefs.outcomes(_wanted(layer))
    key = (id(outcomes), id(everything), layer.reparametrization is None)
    if key not in plans:
        if len(plans) > _REMEMBERED:
            plans.clear()
        plans[key] = Plan(layer, outcomes, everything)
    plan: Plan = plans[key]
    return plan


_PLANS: WeakKeyDictionary[Any, dict[Any, Plan]] = WeakKeyDictionary()
"""Not kept by the layers, of which everything they hold is cloned and stored."""

_REMEMBERED = 256


def check_blendable(layer: ElasticModule, path: str, beliefs: Beliefs) -> None:
    """Raise if a layer cannot be mixed, as far as that can be told without its input.

    Parameters
    ----------
    layer
        The layer.
    path
        Where it is, for the message.
    beliefs
        Of all labels.

    Raises
    ------
    SpaceError
        If its stride, or a padding, changes the shape of its output between architectures; or
        there is no way to mix what it is.
    """
    try:
        plan_of(layer, beliefs, ())
    except SpaceError as error:
        raise SpaceError(f"{error} (path: {path})") from None


def _wanted(layer: ElasticModule) -> tuple[Any, ...]:
    return (*layer.blueprint.wanted, *layer.blueprint.atoms)


class Plan:
    """How a layer is mixed.

    Attributes
    ----------
    wanted
        The expressions that its arguments, and the places of its elements, depend on.
    widest
        What it is at its largest, in all that any of the outcomes has of it.
    together
        Whether one run with mixed weights does it.
    mask
        How weights are mixed; ``None`` if they are taken as they are.
    rows
        The plain arguments in each of the outcomes.
    """

    def __init__(self, layer: ElasticModule, outcomes: Outcomes, everything: Outcomes) -> None:
        # Kept, so that plans can be told apart by the identity of what they are for.
        self.outcomes, self.everything = outcomes, everything
        self.wanted = _wanted(layer)
        self.values = [_reader(self.wanted, value) for value in outcomes.values]
        self.rows = [
            {name: evaluated(a, values) for name, a in layer.args.items()} for values in self.values
        ]
        # Inputs are as wide as the widest, whatever is known here.
        largest = _reader(self.wanted, tuple(map(_largest, zip(*everything.values, strict=True))))
        self.everything_values = [_reader(self.wanted, value) for value in everything.values]
        self.full = {name: evaluated(a, largest) for name, a in layer.args.items()}
        self.widest = layer.blueprint.make(largest, lambda axis: Places.of(self.region(axis)))
        self.widths = _WIDTHS.get(layer.plain)
        self.varying = {
            name: expressions_in(value)
            for name, value in layer.args.items()
            if expressions_in(value) and any(row[name] != self.full[name] for row in self.rows)
        }
        self.mask: Mask | None = None
        self.together = not self.varying or self._together(layer)
        if not self.together:
            self._check(layer)

    def region(self, axis: AxisLayout) -> Indices:
        """The places of all elements of an axis that there may be, whatever is known here."""
        return np.unique(np.concatenate([axis.indices(v) for v in self.everything_values]))

    def there(self, size: Any) -> npt.NDArray[Any]:
        """Return which elements of an axis of some size are there in which outcome."""
        axis = layout_of(size)
        region = self.region(axis)
        return np.stack([np.isin(region, axis.indices(values)) for values in self.values])

    def _together(self, layer: ElasticModule) -> bool:
        if self.widths is None or layer.reparametrization is not None:
            return False
        if self.widths.channelwise:
            return set(self.varying) == {self.widths.outputs} and not (
                layer.plain is nn.PReLU and any(row["num_parameters"] == 1 for row in self.rows)
            )
        if layer.plain in (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear):
            self.mask = mask_of(layer, self)
            return self.mask is not None
        return layer.plain is nn.Embedding and "padding_idx" not in self.varying

    def _check(self, layer: ElasticModule) -> None:
        """Refuse what cannot be run for one shape after another either."""
        what = type(layer).__name__
        for name in self.varying:
            if name in {"stride", "dilation"} and layer.plain in (*_CONVOLUTIONS, *_TRANSPOSED):
                raise _refused(what, f"the {name} of a convolution", self.varying[name])
        if layer.plain in (*_CONVOLUTIONS, *_TRANSPOSED) and not self._same_size():
            guilty = [e for n in ("padding", "kernel_size") for e in self.varying.get(n, ())]
            raise _refused(what, "a padding that changes the shape", guilty)
        if self.widths is None and not isinstance(layer, WeightlessModule):
            first = next(iter(self.varying))
            raise _refused(what, f"its {first}", self.varying[first])
        shape = self.full.get("normalized_shape")
        if isinstance(shape, (tuple, list)) and len(shape) > 1:
            raise _refused(what, "a shape of several dimensions", self.varying["normalized_shape"])

    def _same_size(self) -> bool:
        return len({_overhang(row) for row in self.rows}) == 1


def _refused(what: str, thing: str, expressions: list[Any]) -> SpaceError:
    labels = [symbol.name for symbol in leaves(*expressions)]
    return SpaceError(
        f"{what} cannot be mixed over {thing}, which depends on the label"
        f"{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels))}; choose between layers "
        "(LayerChoice) instead, or take a strategy that samples, such as RandomOneShot"
    )


def _reader(wanted: tuple[Any, ...], value: tuple[Any, ...]) -> Callable[[Any], Any]:
    by_node = {id(node): item for node, item in zip(wanted, value, strict=True)}
    return lambda expression: by_node[id(expression)]


def _largest(values: tuple[Any, ...]) -> Any:
    try:
        return max(values)
    except TypeError:
        return values[0]


def _spread(value: Any, n: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def _overhang(row: Mapping[str, Any]) -> Any:
    """By how much the output of a convolution of stride 1 is smaller than its input."""
    n = max((len(v) for v in row.values() if isinstance(v, tuple)), default=1)
    if row["padding"] == "same":
        return (0,) * n
    padding = (0,) * n if row["padding"] == "valid" else _spread(row["padding"], n)
    kernel, dilation = _spread(row["kernel_size"], n), _spread(row["dilation"], n)
    return tuple(d * (k - 1) - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True))


# -- mixing weights ---------------------------------------------------------------------------


def mask_of(layer: ElasticModule, plan: Plan) -> Mask | None:
    """The mask over the weights of a convolution or linear layer; ``None`` if there is none."""
    assert plan.widths is not None
    inputs, outputs = str(plan.widths.inputs), plan.widths.outputs
    kinds = {inputs, outputs, "bias"}
    convolution = layer.plain is not nn.Linear
    if convolution:
        kinds |= {"kernel_size", "padding", "groups"}
    if not set(plan.varying) <= kinds:
        return None
    rows, full = plan.rows, plan.full
    o_there = plan.there(layer.args[outputs])
    i_there = plan.there(layer.args[inputs])
    kernels: list[npt.NDArray[Any]] = []
    if convolution:
        every = [row["groups"] for row in (*rows, full)]
        depthwise = all(r["groups"] == r[inputs] == r[outputs] for r in (*rows, full))
        if depthwise or not {inputs, outputs, "groups"} & set(plan.varying):
            # An output channel reads its own channel, or always the same ones.
            i_there = np.ones((len(rows), 1), bool)
        elif set(every) != {1}:
            return None
        if not (found := _kernels(layer, plan)):
            return None
        kernels = list(found)
    axes = [o_there, i_there]
    if layer.plain in _TRANSPOSED and i_there.shape[1] > 1:
        axes.reverse()
    output_axis = 0 if axes[0] is o_there else 1
    return Mask([*axes, *kernels], output_axis, [bool(row["bias"]) for row in rows])


def _kernels(layer: ElasticModule, plan: Plan) -> list[npt.NDArray[Any]] | None:
    """Where kernels lie in the largest one, for each dimension; ``None`` if not in the middle."""
    n = getattr(layer, "dimensions")  # noqa: B009 - of convolutions only
    full = _spread(plan.full["kernel_size"], n)
    there = []
    for d in range(n):
        size = full[d]
        rows = []
        for row in plan.rows:
            kernel = _spread(row["kernel_size"], n)[d]
            start = (size - kernel) // 2
            shift = _before(plan.full, d, n) - _before(row, d, n)
            if shift != start * _spread(row["dilation"], n)[d]:
                return None
            if (size - kernel) % 2 and row["padding"] != "same":
                return None
            rows.append((np.arange(size) >= start) & (np.arange(size) < start + kernel))
        there.append(np.stack(rows))
    return there


def _before(row: Mapping[str, Any], d: int, n: int) -> int:
    """Return how much a convolution pads before the first element."""
    if row["padding"] == "valid":
        return 0
    if row["padding"] == "same":
        span = _spread(row["dilation"], n)[d] * (_spread(row["kernel_size"], n)[d] - 1)
        return int(span // 2)
    return int(_spread(row["padding"], n)[d])


class Mask:
    """What weights are multiplied with: a probability for each of their elements.

    Parameters
    ----------
    axes
        For each axis of the weights, which of its elements are there in which outcome; an
        array of shape ``(outcomes, size)``, where size 1 stands for all.
    output_axis
        The axis of output channels; the probability is conditional on these.
    bias
        In which outcomes there is a bias.
    """

    def __init__(
        self,
        axes: list[npt.NDArray[Any]],
        output_axis: int,
        bias: list[bool],
    ) -> None:
        classes = [np.unique(axis, axis=1, return_inverse=True) for axis in axes]
        self.expand = [torch.from_numpy(inverse.reshape(-1).copy()) for _, inverse in classes]
        patterns = [pattern.astype(np.float64) for pattern, _ in classes]
        product = patterns[0]
        for pattern in patterns[1:]:
            product = np.einsum("ra,rb->rab", product, pattern).reshape(len(product), -1)
        self.shape = [pattern.shape[1] for pattern in patterns]
        self.output_axis = output_axis
        outputs = patterns[output_axis]
        self.joint = torch.from_numpy(product)
        self.outputs = torch.from_numpy(outputs)
        has_bias = np.array(bias, dtype=np.float64)[:, None]
        self.bias = torch.from_numpy(outputs * has_bias) if not all(bias) else None
        self._kept: dict[Any, tuple[Tensor, Tensor, Tensor | None]] = {}

    def apply(self, stand_in: Any, weights: Tensor) -> None:
        """Put mixed weights in the place of the full ones."""
        contents = stand_in.__dict__
        whole = contents["weight"]
        joint, outputs, bias = self._like(whole)
        weights = weights.to(whole)
        view = [1] * len(self.shape)
        view[self.output_axis] = -1
        mask = _conditional(weights, joint, outputs, self.shape, view)
        # The last axis first: what is then made wide are whole rows.
        for axis in reversed(range(len(self.shape))):
            if self.shape[axis] > 1:
                mask = mask.index_select(axis, self.expand[axis].to(whole.device))
        contents["weight"] = whole * mask
        if bias is not None and contents.get("bias") is not None:
            shape = [self.shape[self.output_axis]]
            share = _conditional(weights, bias, outputs, shape, [-1])
            expand = self.expand[self.output_axis].to(whole.device)
            contents["bias"] = contents["bias"] * share.index_select(0, expand)

    def _like(self, tensor: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        key = (tensor.dtype, tensor.device)
        if key not in self._kept:
            bias = None if self.bias is None else self.bias.to(tensor)
            self._kept[key] = self.joint.to(tensor), self.outputs.to(tensor), bias
        return self._kept[key]


def _conditional(
    weights: Tensor, joint: Tensor, given: Tensor, shape: list[int], view: list[int]
) -> Tensor:
    """P(joint | given); where nothing is given for sure, as if all outcomes were as likely."""
    below = (weights @ given).reshape(view)
    never = below <= 0
    prior = (joint.mean(0).reshape(shape)) / given.mean(0).clamp_min(1e-12).reshape(view)
    ratio = (weights @ joint).reshape(shape) / torch.where(never, torch.ones_like(below), below)
    return torch.where(never, prior, ratio)


# -- mixing outputs ---------------------------------------------------------------------------


def _one_by_one(
    plan: Plan, layer: Any, weights: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    widths = plan.widths
    there: dict[str, npt.NDArray[Any]] = {}
    if widths is not None:
        names = {str(widths.inputs), widths.outputs} & set(plan.varying)
        there = {name: plan.there(_width(layer.args[name])) for name in names}
    total: Any = None
    for place, (values, weight) in enumerate(zip(plan.values, weights, strict=True)):
        inputs = args
        if widths is not None and args and (some := there.get(str(widths.inputs))) is not None:
            inputs = (_some_of(args[0], widths.axis, some[place]), *args[1:])
        output = layer.run(values, *inputs, **kwargs)
        if widths is not None and (some := there.get(widths.outputs)) is not None:
            output = _spread_over(output, widths.axis, some[place])
        if total is not None and total.shape != output.shape:
            expressions = [e for found in plan.varying.values() for e in found]
            raise _refused(type(layer).__name__, "what changes its shape", expressions)
        scaled = output * weight.to(output)
        total = scaled if total is None else total + scaled
    if widths is not None and (some := there.get(widths.outputs)) is not None:
        share = weights.to(total) @ torch.from_numpy(some.astype(np.float64)).to(total)
        view = [1] * total.dim()
        view[widths.axis] = -1
        total = total / torch.where(share > 0, share, torch.ones_like(share)).reshape(view)
    return total


def _width(size: Any) -> Any:
    return size[0] if isinstance(size, (tuple, list)) else size


def _some_of(tensor: Tensor, axis: int, there: npt.NDArray[Any]) -> Tensor:
    shape: list[int] = list(tensor.shape)
    shape[axis] = Places.of(np.flatnonzero(there))
    return leading(tensor, shape)


def _spread_over(output: Tensor, axis: int, there: npt.NDArray[Any]) -> Tensor:
    """Return an output at the places of its elements, and zeros between them."""
    axis %= output.dim()
    places, size = np.flatnonzero(there), len(there)
    if len(places) == size:
        return output
    if isinstance(Places.of(places), Places):
        shape = [*output.shape[:axis], size, *output.shape[axis + 1 :]]
        index = torch.from_numpy(places).to(output.device)
        return output.new_zeros(shape).index_copy(axis, index, output)
    behind = [0, size - output.shape[axis]]
    return F.pad(output, [0, 0] * (output.dim() - 1 - axis) + behind)

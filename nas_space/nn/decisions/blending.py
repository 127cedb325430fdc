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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ...errors import SpaceError
from ...mutable.node import leaves
from ..elastic import ElasticModule
from ..parametrized import evaluated, expressions_in
from ..segments import AxisLayout, Indices, Places, layout_of
from .marginals import Known, Marginals, Outcomes, Support
from .mixed_tensor import (
    Atoms,
    Axes,
    MixedAxis,
    MixedTensor,
    Values,
    axis_of,
    by_cases,
    gathered,
    mixed_in,
    narrowed,
    reader_of,
    union,
)
from .summing import summed, total_of

if TYPE_CHECKING:
    from .weighted import Weighted


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
_MIXING = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""What takes a mean over the width."""

_ALONG_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
_GROUPED = (*_CONVOLUTIONS, *_TRANSPOSED)

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


def blend(mixer: Weighted, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the output of an elastic layer, mixed over all shapes that it may have.

    Parameters
    ----------
    mixer
        Says how likely each shape is.
    layer
        The layer.
    args, kwargs
        Its input.

    Raises
    ------
    SpaceError
        If it cannot be mixed.
    """
    mixed = mixed_in((args, kwargs))
    x = args[0] if args else kwargs.get("input")
    plan = plan_of(layer, mixer.marginals, mixer.known, x if isinstance(x, MixedTensor) else None)
    if not mixed and plan.needs_width:
        raise _refused(
            type(layer).__name__,
            f"its {plan.needs_width} where the input has the same width in all architectures",
            plan.varying[plan.needs_width],
        )
    if mixer.misread is not None and (axis := plan.misread()) is not None:
        mixer.misread.append((layer, str(plan.widths and plan.widths.inputs), axis))
    if not plan.together or len(mixed) > 1 or (mixed and mixed[0] is not x):
        return _one_by_one(plan, mixer, layer, args, kwargs)
    stand_in = layer.shaped(plan.widest)
    if plan.columns is not None:
        plan.columns.apply(stand_in)
    if plan.mask is not None:
        plan.mask.apply(stand_in, mixer.marginals.of(plan.atoms, mixer.known)[1])
    if isinstance(x, MixedTensor):
        args = (x.wide, *args[1:]) if args else args
        kwargs = {name: x.wide if item is x else item for name, item in kwargs.items()}
    output = layer.run_as(stand_in, *args, **kwargs)
    axes = plan.output_axes(x)
    return MixedTensor.of(mixer, output, axes) if axes is not None else output


def plan_of(
    layer: ElasticModule, marginals: Marginals, known: Known, x: MixedTensor | None = None
) -> Plan:
    """Return how a layer is mixed; worked out once for each set of values that it may have."""
    plans = _PLANS.setdefault(layer.blueprint, {})
    axes = None if x is None else x.axes if x.wide is not None else ()
    atoms = union(_wanted(layer), () if x is None else x.atoms)
    outcomes = marginals.outcomes(atoms, known)
    everything = marginals.outcomes(_wanted(layer))
    read = None if axes is None else tuple(map(id, axes))
    key = (id(outcomes), id(everything), read, layer.reparametrization is None)
    if key not in plans:
        if len(plans) > _REMEMBERED:
            plans.clear()
        plans[key] = Plan(layer, atoms, outcomes, everything, axes, marginals.support)
    plan: Plan = plans[key]
    return plan


_PLANS: WeakKeyDictionary[Any, dict[Any, Plan]] = WeakKeyDictionary()
"""Not kept by the layers, of which everything they hold is cloned and stored."""

_REMEMBERED = 256


def check_blendable(layer: ElasticModule, path: str, marginals: Marginals) -> None:
    """Raise if a layer cannot be mixed, as far as that can be told without its input.

    Parameters
    ----------
    layer
        The layer.
    path
        Where it is, for the message.
    marginals
        Of all labels.

    Raises
    ------
    SpaceError
        If its stride, or a padding, changes the shape of its output between architectures; or
        there is no way to mix what it is.
    """
    try:
        plan_of(layer, marginals, ())
    except SpaceError as error:
        raise SpaceError(f"{error} (path: {path})") from None


def _wanted(layer: ElasticModule) -> Atoms:
    """The expressions that a layer's arguments, and the places of its elements, depend on."""
    blueprint = layer.blueprint
    found = _WANTED.get(blueprint)
    if found is None:
        widths = _WIDTHS.get(layer.plain)
        names = () if widths is None else (widths.inputs, widths.outputs)
        sizes = [layout_of(_width(layer.args[n])) for n in names if n and n in layer.args]
        atoms = [atom for layout in sizes for atom in layout.atoms]
        found = _WANTED[blueprint] = union(blueprint.wanted, blueprint.atoms, atoms)
    return found


_WANTED: WeakKeyDictionary[Any, Atoms] = WeakKeyDictionary()


class Plan:
    """How a layer is mixed.

    Attributes
    ----------
    atoms
        The expressions that its arguments, the places of its elements and of those of its input
        depend on.
    widest
        What it is at its largest, in all that any of the outcomes has of it.
    together
        Whether one run with mixed weights does it.
    columns
        Puts the weights of input elements where these are; ``None`` if they are there.
    mask
        How weights are mixed; ``None`` if they are taken as they are.
    rows
        The plain arguments in each of the outcomes.
    needs_width
        The argument that says how wide the input is, if that differs.
    output
        The axis of the output's width; ``None`` if that is the same for all.
    """

    def __init__(
        self,
        layer: ElasticModule,
        atoms: Atoms,
        outcomes: Outcomes,
        everything: Outcomes,
        axes: Axes | None,
        support: Support,
    ) -> None:
        # Kept, so that plans can be told apart by the identity of what they are for.
        self.outcomes, self.everything, self.axes = outcomes, everything, axes
        self.atoms = atoms
        self.values = [reader_of(atoms, value) for value in outcomes.values]
        self.rows = [
            {name: evaluated(a, values) for name, a in layer.args.items()} for values in self.values
        ]
        wanted = _wanted(layer)
        # Inputs are as wide as the widest, whatever is known here.
        largest = reader_of(wanted, tuple(map(_largest, zip(*everything.values, strict=True))))
        self.everything_values = [reader_of(wanted, value) for value in everything.values]
        self.full = {name: evaluated(a, largest) for name, a in layer.args.items()}
        self.widest = layer.blueprint.make(largest, lambda axis: Places.of(self.region(axis)))
        self.widths = _WIDTHS.get(layer.plain)
        self.varying = {
            name: expressions_in(value)
            for name, value in layer.args.items()
            if expressions_in(value) and any(row[name] != self.full[name] for row in self.rows)
        }
        self.mask: Mask | None = None
        self.columns: Columns | None = None
        self.output: MixedAxis | None = None
        self.needs_width = ""
        if self.widths is not None:
            inputs, outputs = str(self.widths.inputs), self.widths.outputs
            self.output = axis_of(_width(layer.args[outputs]), support)
            self.own = (
                axis_of(_width(layer.args[inputs]), support) if inputs in layer.args else None
            )
            self.needs_width = inputs if self.own is not None and inputs in self.varying else ""
        self.together = self._reads_together(layer) and (not self.varying or self._together(layer))
        if not self.together:
            self._check(layer)

    def output_axes(self, x: Any) -> Axes | None:
        """Return the axes of the output for an input; ``None`` if it does not differ."""
        if self.widths is None or (self.output is None and not isinstance(x, MixedTensor)):
            return None
        if isinstance(x, MixedTensor):
            assert x.wide is not None
            axes = list(x.axes)
            if self.widths.inputs is None:
                axes.append(None)
        else:
            axes = [None] * (x.dim() + (self.widths.inputs is None))
        axes[self.widths.axis] = self.output
        return tuple(axes)

    def _reads_together(self, layer: ElasticModule) -> bool:
        """Whether an input can be read as it lies, the weights put where its elements are."""
        axes = self.axes
        if axes is None:
            return True
        if self.widths is None or not axes or self.widths.inputs is None:
            return False
        place = self.widths.axis % len(axes)
        mine, its = self.own, axes[place]
        mapped = {
            d for d in range(len(axes)) if d == 0 or (layer.plain in _ALONG_LAST and d != place)
        }
        if any(axis is not None and d != place and d not in mapped for d, axis in enumerate(axes)):
            return False
        if mine is None or its is None:
            return mine is its and layer.plain not in _MIXING
        if layer.plain in _MIXING:
            return False
        if mine.is_like(its):
            return True
        if self.widths.channelwise or (layer.plain in _GROUPED and self._grouped()):
            return False
        if layer.reparametrization is not None:
            return False  # its weight is not there yet
        self.columns = columns_of(self, layer, mine, its)
        return self.columns is not None

    def misread(self) -> MixedAxis | None:
        """Return how the input lies, if weights are not always for the same of its elements."""
        if self.widths is None or self.widths.inputs is None or not self.axes or self.own is None:
            return None
        its = self.axes[self.widths.axis % len(self.axes)]
        return None if its is None or self.own.always_meets(its) else its

    def _grouped(self) -> bool:
        return any(row["groups"] != 1 for row in self.rows)

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
        return layer.plain is nn.Embedding and set(self.varying) <= {"embedding_dim"}

    def _check(self, layer: ElasticModule) -> None:
        """Refuse what cannot be run for one shape after another either."""
        what = type(layer).__name__
        for name in self.varying:
            if name in {"stride", "dilation"} and layer.plain in (*_CONVOLUTIONS, *_TRANSPOSED):
                raise _refused(what, f"the {name} of a convolution", self.varying[name])
        if layer.plain in (*_CONVOLUTIONS, *_TRANSPOSED) and not self._same_size():
            guilty = [e for n in ("padding", "kernel_size") for e in self.varying.get(n, ())]
            raise _refused(what, "a padding that changes the shape", guilty)

    def _same_size(self) -> bool:
        return len({_overhang(row) for row in self.rows}) == 1


def _refused(what: str, thing: str, expressions: list[Any]) -> SpaceError:
    labels = [symbol.name for symbol in leaves(*expressions)]
    return SpaceError(
        f"{what} cannot be mixed over {thing}, which depends on the label"
        f"{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels))}; choose between layers "
        "(LayerChoice) instead, or take a strategy that samples, such as RandomOneShot"
    )


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
    columns = plan.columns
    i_there = plan.there(layer.args[inputs]) if columns is None else columns.there
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


class Columns:
    """Where the weights of input elements go, for an input of which the elements lie otherwise.

    Parameters
    ----------
    source
        For each element of the input, the one of the layer's own input that it is.
    axis
        The axis of the weights that reads them.
    there
        Which elements of the input are there in which outcome.
    """

    def __init__(self, source: Indices, axis: int, there: npt.NDArray[Any]) -> None:
        self.source, self.axis, self.there = torch.from_numpy(source), axis, there

    def apply(self, stand_in: Any) -> None:
        """Put the weights where the elements of the input are."""
        contents = stand_in.__dict__
        weight = contents["weight"]
        contents["weight"] = weight.index_select(self.axis, self.source.to(weight.device))


def columns_of(plan: Plan, layer: ElasticModule, mine: MixedAxis, its: MixedAxis) -> Columns | None:
    """Return what puts weights where the input is; ``None`` if that is another for each outcome."""
    source = np.full(its.size, -1, np.int64)
    there = np.zeros((len(plan.values), its.size), bool)
    for place, values in enumerate(plan.values):
        own, given = mine.indices(values), its.indices(values)
        if len(own) != len(given) or len(np.unique(given)) != len(given):
            return None
        before = source[given]
        if ((before != -1) & (before != own)).any():
            return None
        source[given] = own
        there[place, given] = True
    source[source == -1] = 0
    return Columns(source, 0 if layer.plain in _TRANSPOSED else 1, there)


# -- mixing outputs ---------------------------------------------------------------------------


def _one_by_one(
    plan: Plan, mixer: Weighted, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    what = type(layer).__name__
    mixed = mixed_in((args, kwargs))
    atoms = union(plan.atoms, *(item.atoms for item in mixed))

    def run(values: Values) -> Any:
        inputs, others = narrowed((args, kwargs), values)
        return layer.run(values, *inputs, **others)

    cases = list(by_cases(what, mixer, atoms, run))
    outputs = [(values, output) for values, _, output in cases]
    if not all(isinstance(output, Tensor) for _, output in outputs):
        found = gathered(what, mixer, atoms, outputs)
        return found if mixed else tree_map(_total, found)
    x = args[0] if args else kwargs.get("input")
    dims = outputs[0][1].dim()
    axes: Axes | None = None
    if not isinstance(x, MixedTensor) or x.wide is not None:
        axes = plan.output_axes(x)
    elif plan.widths is not None and plan.output is not None:
        own: list[MixedAxis | None] = [None] * dims
        own[plan.widths.axis] = plan.output
        axes = own
    known = axes is not None and all(_fits(axes, output, values) for values, output in outputs)
    # What a norm gives for an input that lies otherwise is kept apart until something reads it.
    keeps = plan.widths is not None and plan.widths.channelwise and mixed
    if known and axes is not None and not keeps:
        apart = {
            tuple(n for axis, n in zip(axes, output.shape, strict=True) if axis is None)
            for _, output in outputs
        }
        if len(apart) == 1:
            return summed(mixer, axes, cases)
    if mixed:
        return gathered(what, mixer, atoms, outputs)
    if len({output.shape for _, output in outputs}) > 1:
        expressions = [e for found in plan.varying.values() for e in found]
        raise _refused(what, "what changes its shape", expressions)
    return summed(mixer, (None,) * dims, cases)


def _total(item: Any) -> Any:
    return total_of(item) if isinstance(item, MixedTensor) else item


def _fits(axes: Axes, output: Tensor, values: Values) -> bool:
    return len(axes) == output.dim() and all(
        axis is None or len(axis.indices(values)) == size
        for axis, size in zip(axes, output.shape, strict=True)
    )


def _width(size: Any) -> Any:
    """The width of the last dimension, which is the one of a shape that can be mixed."""
    return size[-1] if isinstance(size, (tuple, list)) else size

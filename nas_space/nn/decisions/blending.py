"""Elastic layers as mixtures: of weights where that is exact, else of outputs.

A tensor of elastic width is as wide as the widest, and its channels are as they are wherever
they exist (see :class:`~nas_space.nn.decisions.Weighted`).  So a layer that works on each
channel by itself, a batch norm for instance, only has to run at the largest width.  In a
convolution, output channel ``o`` is the expectation, over the architectures that have ``o``, of
what these compute, and that is one convolution with the weights

    weight[o, i, k] * P(i and k are there | o is there)

for any number of widths and kernels (``weight_masks.py`` says why).  Any other layer is run for
one shape after another, and each output element is the mean over the shapes that have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ...errors import SpaceError
from ...mutable.node import key_of
from ..blueprint import TorchRefusesError
from ..elastic import ElasticModule
from ..parametrized import evaluated
from .blend_plan import BlendPlan, not_buildable, not_mixable, plan_of
from .cases import by_cases, gathered, too_many
from .marginals import Marginals, Support
from .mixed_axis import Axes, MixedAxis
from .mixed_tensor import MixedTensor, mixed_in, narrowed
from .mixer import Mixer, Values, union
from .summing import summed, totalled

__all__ = ["blend", "check_blendable"]


def blend(mixer: Mixer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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
    # A plain input is as wide as one architecture's, and which one it is nothing says: it fits only
    # if all that have a probability here agree on the width.
    narrow = not mixed and bool(plan.needs_width)
    if narrow and len(_widths_taken(plan, mixer, layer)) > 1:
        raise not_mixable(
            type(layer).__name__,
            f"its {plan.needs_width} where the input has the same width in all architectures",
            plan.varying[plan.needs_width],
        )
    if mixer.misread is not None:
        mixer.misread += misread_inputs(plan, layer, mixer.marginals.support, mixed)
    if not plan.together or narrow or len(mixed) > 1 or (mixed and mixed[0] is not x):
        return _one_by_one(plan, mixer, layer, args, kwargs)
    stand_in = layer.shaped(plan.widest)
    if plan.columns is not None:
        plan.columns.apply(stand_in)
    if plan.mask is not None and mixer.misread is None:  # who looks asks for no numbers
        plan.mask.apply(stand_in, mixer.marginals.of(plan.atoms, mixer.known)[1])
    if isinstance(x, MixedTensor):
        args = (x.wide, *args[1:]) if args else args
        kwargs = {name: x.wide if item is x else item for name, item in kwargs.items()}
    output = layer.run_as(stand_in, *args, **kwargs)
    axes = plan.output_axes(x)
    return MixedTensor.of(mixer, output, axes) if axes is not None else output


def _widths_taken(plan: BlendPlan, mixer: Mixer, layer: Any) -> set[Any]:
    """Return the widths that an input may have, of what has a probability here."""
    size = layer.args[plan.needs_width]
    cases = mixer.outcomes_of(plan.atoms, lambda n: too_many(type(layer).__name__, plan.atoms, n))
    return {key_of(evaluated(size, values)) for values, _, _ in cases}


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


def _one_by_one(
    plan: BlendPlan, mixer: Mixer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    what = type(layer).__name__
    mixed = mixed_in((args, kwargs))
    atoms = union(plan.atoms, *(item.atoms for item in mixed))

    def run(values: Values) -> Any:
        inputs, others = narrowed((args, kwargs), values)
        try:
            return layer.run(values, *inputs, **others)
        except TorchRefusesError as error:
            raise not_buildable(layer, plan.atoms, error) from error

    cases = list(by_cases(what, mixer, atoms, run))
    outputs = [(values, output) for values, _, output in cases]
    own_axes = (
        () if mixer.misread is None else [*plan.own_axes(layer, mixer.marginals.support).values()]
    )
    if not all(isinstance(output, Tensor) for _, output in outputs):
        found = gathered(what, mixer, atoms, outputs, mixed, own_axes)
        return found if mixed or mixer.misread is not None else totalled(found)
    x = args[0] if args else kwargs.get("input")
    dims = outputs[0][1].dim()
    axes: Axes | None = None
    if not isinstance(x, MixedTensor) or x.wide is not None:
        axes = plan.output_axes(x)
    elif plan.widths is not None and plan.output is not None:
        own: list[MixedAxis | None] = [None] * dims
        own[plan.widths.axis] = plan.output
        axes = own
    # A layer that sums over its input gives a mean over architectures anyway, so its outputs are
    # summed, if it is known which elements they have.  A norm works on each channel by itself: to
    # take the mean there would put it before the activation that follows, for nothing.  So these,
    # and outputs whose elements are not known, stay apart as cases until a layer reads them.
    known = axes is not None and all(_fits(axes, output, values) for values, output in outputs)
    keeps = plan.widths is not None and plan.widths.reads == "channel" and mixed
    if known and axes is not None and not keeps:
        apart = {
            tuple(n for axis, n in zip(axes, output.shape, strict=True) if axis is None)
            for _, output in outputs
        }
        if len(apart) == 1:
            return summed(mixer, atoms, axes, cases)
    if mixed or mixer.misread is not None:
        return gathered(what, mixer, atoms, outputs, mixed, own_axes)
    if len({output.shape for _, output in outputs}) > 1:
        expressions = [e for found in plan.varying.values() for e in found]
        raise not_mixable(what, "what changes its shape", expressions)
    return summed(mixer, atoms, (None,) * dims, cases)


def misread_inputs(
    plan: BlendPlan, layer: ElasticModule, support: Support, inputs: list[Any]
) -> Iterator[tuple[ElasticModule, str, MixedAxis]]:
    """Yield the arguments whose size pairs weights with other elements than the input has."""
    own = plan.own_axes(layer, support)
    for tensor in inputs:
        for dim, its in enumerate(getattr(tensor, "axes", ())):
            if its is None or not its.is_known:
                continue
            if plan.widths is not None:
                inputs_name = str(plan.widths.inputs)
                right_place = dim == plan.widths.axis % len(tensor.axes)
                names = [inputs_name] if right_place and inputs_name in own else []
            else:  # what says how wide it is has the same values
                names = [name for name, axis in own.items() if axis.is_as_long_as(its)]
            if names and not any(own[name].always_meets(its) for name in names):
                yield layer, names[0], its


def _fits(axes: Axes, output: Tensor, values: Values) -> bool:
    return len(axes) == output.dim() and all(
        axis is None or len(axis.indices(values)) == size
        for axis, size in zip(axes, output.shape, strict=True)
    )

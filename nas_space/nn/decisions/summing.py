"""Sums over the cases of a mixture: an element is the mean over the architectures that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ...mutable.node import Node, key_of
from .cases import by_cases
from .marginals import are_independent
from .mixed_axis import Axes, MixedAxis, are_alike
from .mixed_tensor import MixedTensor, narrowed
from .mixer import Atoms, Mixer, Values, union
from .refusals import CannotMixError, labels_in, named, path_here, refused

__all__ = ["Branch", "sum_of_branches", "summed", "totalled", "weighted_sum"]

Case = tuple[Values, Tensor, Tensor]
"""What reads the expressions; the weight; what there is."""

Branch = tuple[Tensor, Any, Any]
"""The weight, the output and the value of a branch."""


def weighted_sum(choice: Any, branches: Sequence[Branch]) -> Tensor:
    """Return the sum of tensors of one shape by their weights.

    Raises
    ------
    SpaceError
        If several are of whole numbers or truth values, of which there is no mean.
    """
    if len(branches) == 1 and not _has_mean(branches[0][1]):
        only: Tensor = branches[0][1]
        return only
    total: Any = None
    for weight, output, _ in branches:
        scaled = _scaled(output, weight, (choice,))
        total = scaled if total is None else total + scaled
    found: Tensor = total
    return found


def _has_mean(output: Tensor) -> bool:
    return output.is_floating_point() or output.is_complex()


def _scaled(output: Tensor, weight: Tensor, atoms: Atoms) -> Tensor:
    if not _has_mean(output):
        kind = str(output.dtype).removeprefix("torch.")
        raise CannotMixError(
            f"a tensor of {kind} cannot be mixed over the {named(atoms)}: of such values there is "
            f"no mean{path_here()}; take a strategy that samples, such as "
            "RandomOneShot",
            labels_in(atoms),
        )
    return output * weight.to(output)


def summed(mixer: Mixer, atoms: Atoms, axes: Axes, cases: Sequence[Case]) -> Any:
    """Return one tensor for several cases: each element is the mean over the cases that have it.

    Parameters
    ----------
    mixer, atoms
        The mixture, and the expressions that tell the cases apart.
    axes
        Where the elements of a case are in the result.
    cases
        Their shapes may differ along dimensions that have an axis.
    """
    if len(cases) == 1 and not _has_mean(cases[0][2]):
        # The sum of probabilities may be rounded below 1, which is 0 as a whole number.
        values, _, output = cases[0]
        return MixedTensor.of(mixer, _placed(output, axes, values), axes)
    # An element is divided by the probability that it is there, not by the sum of all weights: this
    # is the mean given that it is there, as in every tensor of a mixture (see ``Weighted``).
    total: Any = None
    share: Any = None
    varying = [dim for dim, axis in enumerate(axes) if axis is not None]
    for values, weight, output in cases:
        scaled = _scaled(output, weight, atoms)
        if varying:
            one = output.new_ones([n if d in varying else 1 for d, n in enumerate(output.shape)])
            there = _placed(one * weight.to(one), axes, values)
            scaled = _placed(scaled, axes, values)
            share = there if share is None else share + there
        total = scaled if total is None else total + scaled
    if varying:
        total = total / torch.where(share > 0, share, torch.ones_like(share))
    return MixedTensor.of(mixer, total, axes)


def _placed(tensor: Tensor, axes: Axes, values: Values) -> Tensor:
    """Return a tensor with its elements at their indices, and zeros between them."""
    for dim, axis in enumerate(axes):
        if axis is None:
            continue
        places = axis.indices(values)
        if len(places) == axis.size and (places == np.arange(axis.size)).all():
            continue
        shape = list(tensor.shape)
        shape[dim] = axis.size
        index = torch.from_numpy(np.asarray(places)).to(tensor.device)
        tensor = tensor.new_zeros(shape).index_copy(dim, index, tensor)
    return tensor


def total_of(tensor: MixedTensor) -> Tensor:
    """Return the sum over all cases of a tensor whose shape is the same in each.

    Raises
    ------
    SpaceError
        If it is not.
    """
    cases = list(
        by_cases("sum", tensor.mixer, tensor.atoms, lambda values: narrowed(tensor, values))
    )
    if len({case.shape for _, _, case in cases}) > 1:
        raise refused("the output", tensor.atoms, "its shape differs between architectures")
    found: Tensor = summed(tensor.mixer, tensor.atoms, (None,) * cases[0][2].dim(), cases)
    return found


def totalled(output: Any) -> Any:
    """Return an output with :func:`total_of` each tensor in it that differs."""
    return tree_map(lambda x: total_of(x) if isinstance(x, MixedTensor) else x, output)


def sum_of_branches(mixer: Mixer, choice: Any, branches: Sequence[Branch]) -> Any:
    """Return the mixture of what the branches of a choice give, of which some differ.

    Parameters
    ----------
    mixer
        The mixture.
    choice
        The expression that chooses.
    branches
        The weight, the output and the value of each.
    """
    outputs = [output for _, output, _ in branches]
    atoms: Atoms = union(*(o.atoms for o in outputs if isinstance(o, MixedTensor)))
    axes = _common_axes(outputs)
    # An element's mean over the branches is to be taken given that the element is there.  If that
    # says nothing of the branch, the weights are the same for all elements, and wide tensors are
    # summed as they are.  Labels are drawn independently, but what is known here can tie them
    # together: that ``a + b`` is 3 tells ``b`` from ``a``.  Then each combination is one case.
    if axes is not None and are_independent((choice,), atoms, mixer.known):
        wide = [(weight, output.wide, value) for weight, output, value in branches]
        return MixedTensor.of(mixer, weighted_sum(choice, wide), axes)
    by_value = {key_of(value): output for _, output, value in branches}
    both: Atoms = union((choice,) if isinstance(choice, Node) else (), atoms)

    def run(values: Values) -> Any:
        output = by_value.get(key_of(values(choice)))
        if output is None:  # as much as zero
            return torch.zeros_like(narrowed(outputs[0], values))
        return narrowed(output, values)

    found = list(by_cases(str(choice), mixer, both, run))
    if axes is not None:
        return summed(mixer, both, axes, found)
    cases = {key_of(tuple(map(values, both))): output for values, _, output in found}
    return mixer.gathered(both, cases, outputs, ())


def _common_axes(outputs: Sequence[Any]) -> Axes | None:
    """Return the axes that all outputs have; ``None`` if they differ."""
    first, *others = outputs
    if not all(isinstance(o, MixedTensor) and o.wide is not None for o in outputs):
        return None
    for other in others:
        if other.wide.shape != first.wide.shape:
            return None
        if not all(map(are_alike, first.axes, other.axes)):
            return None
    axes: tuple[MixedAxis | None, ...] = first.axes
    return axes

"""Mixing the weights of a layer: the probabilities they are multiplied by, and their order.

Why one run of the widest layer is the mixture: a convolution is linear in its weights, and in each
outcome the output channel ``o`` is the sum of ``weight[o, i, k] * x[i, k]`` over the inputs ``i``
and the places ``k`` of the kernel that this outcome has.  The mean over the outcomes in which ``o``
is there is the same sum over all ``i`` and ``k``, each weight times the probability that ``i`` and
``k`` are there, *given that* ``o`` is.  That probability is joint: where one label decides both
widths, or a width and the kernel, a product of probabilities would count combinations that no
architecture has.  It multiplies weights instead of outputs, so the work does not depend on how many
outcomes there are (superkernels: Stamoulis et al., "Single-path NAS", arXiv 1904.02877; masks on
channels: Wan et al., "FBNetV2", arXiv 2004.05565, whose channels shrink by the probability that
they are there, while here they keep their size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..places import Indices, spread

__all__ = ["InputOrder", "Mask", "kernel_places"]


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
        # Elements of an axis that are there in the same outcomes have the same probabilities, so
        # these are computed for classes of elements and expanded at the end: three widths make
        # three classes, however many channels there are.  ``product`` says in which outcomes a
        # combination of classes is there, one for each axis, and the joint probability is one
        # matrix product.
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
        self._kept: dict[Any, tuple[_Share, _Share | None, list[Tensor]]] = {}

    def apply(self, stand_in: Any, weights: Tensor) -> None:
        """Put mixed weights in the place of the full ones."""
        contents = stand_in.__dict__
        whole = contents["weight"]
        share, of_bias, expand = self._like(whole)
        weights = weights.to(whole)
        mask = share.of(weights)
        # The last axis first: what is then made wide are whole rows.
        for axis in reversed(range(len(self.shape))):
            if self.shape[axis] > 1:
                mask = mask.index_select(axis, expand[axis])
        contents["weight"] = whole * mask
        if of_bias is not None and contents.get("bias") is not None:
            bias = of_bias.of(weights).index_select(0, expand[self.output_axis])
            contents["bias"] = contents["bias"] * bias

    def _like(self, tensor: Tensor) -> tuple[_Share, _Share | None, list[Tensor]]:
        key = (tensor.dtype, tensor.device)
        if key not in self._kept:
            view = [1] * len(self.shape)
            view[self.output_axis] = -1
            outputs = self.outputs.to(tensor)
            share = _Share(self.joint.to(tensor), outputs, self.shape, view)
            bias: _Share | None = None
            if self.bias is not None:
                bias = _Share(self.bias.to(tensor), outputs, [self.shape[self.output_axis]], [-1])
            self._kept[key] = share, bias, [places.to(tensor.device) for places in self.expand]
        return self._kept[key]


class _Share:
    """P(joint | given), a matrix product of outcome probabilities and a division.

    Where the condition has probability 0, all outcomes are taken to be equally likely: the channel
    is in no architecture, but its weights have a gradient as soon as it may be in one again.
    """

    def __init__(self, joint: Tensor, given: Tensor, shape: list[int], view: list[int]) -> None:
        self.joint, self.given, self.shape, self.view = joint, given, shape, view
        self.prior = joint.mean(0).reshape(shape) / given.mean(0).clamp_min(1e-12).reshape(view)

    def of(self, weights: Tensor) -> Tensor:
        below = (weights @ self.given).reshape(self.view)
        never = below <= 0
        ratio = (weights @ self.joint).reshape(self.shape) / torch.where(never, 1.0, below)
        return torch.where(never, self.prior, ratio)


class InputOrder:
    """A permutation of input weights, for an input whose elements are in another order.

    Parameters
    ----------
    source
        For each element of the input, the index of the input weights that read it.
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


def kernel_places(
    rows: Sequence[Mapping[str, Any]], full: Mapping[str, Any], n: int
) -> list[npt.NDArray[Any]] | None:
    """Return where kernels lie in the largest one; ``None`` if that is not in its middle.

    Parameters
    ----------
    rows
        The arguments of a convolution in each outcome.
    full
        Those of the largest one.
    n
        Its number of dimensions.

    Returns
    -------
    list of arrays, or ``None``
        For each dimension, which elements each outcome has, of shape ``(outcomes, size)``.
    """
    # A smaller kernel is the largest one with zeros around it if both see the same elements: its
    # middle must be theirs, and the padding larger by as much as the kernel reaches farther.  Then
    # the outputs have the same size as well, whatever the stride is.  An odd difference has no
    # middle, but ``padding="same"`` puts the rest behind, as it does for the smaller one.
    largest = spread(full["kernel_size"], n)
    there = []
    for d in range(n):
        size = largest[d]
        places = []
        for row in rows:
            kernel = spread(row["kernel_size"], n)[d]
            start = (size - kernel) // 2
            shift = _before(full, d, n) - _before(row, d, n)
            if shift != start * spread(row["dilation"], n)[d]:
                return None
            if (size - kernel) % 2 and row["padding"] != "same":
                return None
            places.append((np.arange(size) >= start) & (np.arange(size) < start + kernel))
        there.append(np.stack(places))
    return there


def _before(row: Mapping[str, Any], d: int, n: int) -> int:
    """Return how much a convolution pads before the first element."""
    if row["padding"] == "valid":
        return 0
    if row["padding"] == "same":
        span = spread(row["dilation"], n)[d] * (spread(row["kernel_size"], n)[d] - 1)
        return int(span // 2)
    return int(spread(row["padding"], n)[d])

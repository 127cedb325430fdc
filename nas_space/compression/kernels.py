"""Which kernels of convolutions may be smaller: a smaller one is the middle of the original.

Where padding shrinks with the kernel, the output keeps its size, and the smaller convolution is
the original in which the outer taps are zero.  So it needs no analysis of the rest of a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.computed_tensors import added_to
from .blocks import below
from .symbolic import keeping

__all__ = ["Kernel", "kernels_of", "shrunk", "silent"]


@dataclass(frozen=True)
class Kernel:
    """A kernel that may be smaller.

    Attributes
    ----------
    path
        Of the convolution.
    size
        Of the kernel, along all dimensions in which it is not 1.
    values
        What it may be, in ascending order.
    """

    path: str
    size: int
    values: tuple[int, ...]

    @property
    def label(self) -> str:
        """Of the choice."""
        return below(self.path, "kernel")

    def arguments(self, module: Any, size: Any) -> dict[str, Any]:
        """Return the arguments of a convolution with a kernel of another size."""
        kernel = tuple(1 if own == 1 else size for own in module.kernel_size)
        if isinstance(module.padding, str):
            return {"kernel_size": kernel}
        padding = tuple(
            pad if own == 1 else pad - rate * (self.size // 2) + rate * (size // 2)
            for own, pad, rate in zip(
                module.kernel_size, module.padding, module.dilation, strict=True
            )
        )
        return {"kernel_size": kernel, "padding": padding}


def kernels_of(net: nn.Module, wanted: bool | Sequence[int]) -> tuple[list[Kernel], dict[str, str]]:
    """Find the kernels that may be smaller, and for others that are no single point say why not.

    Parameters
    ----------
    wanted
        The sizes on offer; ``True`` for all that are odd, from 3 on.
    """
    found: list[Kernel] = []
    reasons: dict[str, str] = {}
    for path, module in net.named_modules():
        if not isinstance(module, nn.modules.conv._ConvNd) or max(module.kernel_size) == 1:
            continue
        label = below(path, "kernel")
        sizes = {size for size in module.kernel_size if size != 1}
        size = max(sizes)
        offered = range(3, size, 2) if wanted is True else wanted or ()
        values = sorted({value for value in offered if value < size and value % 2})
        if "weight" in added_to(module):
            reasons[label] = "its weight is computed from others, of which no middle is known"
        elif type(module) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
            reasons[label] = f"a {type(module).__name__} does more with its kernel than torch's own"
        elif len(sizes) > 1 or size % 2 == 0:
            reasons[label] = f"a kernel of {tuple(module.kernel_size)} has no middle that is odd"
        else:
            kernel = Kernel(path, size, (*values, size))
            padded = [v for v in values if _is_padded(kernel.arguments(module, v))]
            if padded:
                found.append(Kernel(path, size, (*padded, size)))
            elif values:
                reasons[label] = (
                    f"with a padding of {module.padding}, a smaller kernel gives another size"
                )
            else:
                reasons[label] = f"no smaller size than {size} is on offer"
    return found, reasons


def _is_padded(arguments: dict[str, Any]) -> bool:
    return all(pad >= 0 for pad in arguments.get("padding", ()))


@contextmanager
def shrunk(net: nn.Module, kernels: Sequence[Kernel]) -> Iterator[dict[str, Tensor]]:
    """Enter a context in which convolutions have their smallest kernels: yields the weights."""
    weights: dict[str, Tensor] = {}
    with keeping(net):
        for kernel in kernels:
            module: Any = net.get_submodule(kernel.path)
            arguments = kernel.arguments(module, kernel.values[0])
            vars(module).update(arguments)
            if "padding" in arguments:
                twice = [pad for pad in reversed(arguments["padding"]) for _ in (0, 1)]
            else:
                sizes = zip(reversed(module.dilation), reversed(module.kernel_size), strict=True)
                around = [rate * (size - 1) for rate, size in sizes]
                twice = [side for total in around for side in (total // 2, total - total // 2)]
            vars(module)["_reversed_padding_repeated_twice"] = twice
            middle = module.weight.detach()
            for dim, size in enumerate(module.kernel_size, start=2):
                middle = middle.narrow(dim, (middle.shape[dim] - size) // 2, size)
            weights[below(kernel.path, "weight")] = middle
        yield weights


def silent(net: nn.Module, kernels: Sequence[Kernel]) -> dict[str, Tensor]:
    """Return the weights of convolutions in which all but the middle is zero."""
    found: dict[str, Tensor] = {}
    with shrunk(net, kernels) as weights:
        small = dict(weights)
    for name, middle in small.items():
        whole = torch.zeros_like(net.get_parameter(name), requires_grad=False)
        part = whole
        for dim in range(2, whole.dim()):
            size = middle.shape[dim]
            part = part.narrow(dim, (whole.shape[dim] - size) // 2, size)
        part.copy_(middle)
        found[name] = whole
    return found

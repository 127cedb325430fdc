"""The space of NAS-Bench-201 (Dong and Yang, arXiv 2001.00326)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial, reduce
from itertools import combinations, product
from operator import add
from typing import Any, ClassVar

import torch
from torch import nn

from ..errors import UsageError
from ..mutable import Sample, label_scope
from ..nn import LayerChoice, ModelSpace
from .arguments import check_positive

__all__ = ["NasBench201"]

_NODES = 4
"""Tensors in a cell, its input included."""

_PUBLISHED = {
    "none": "none",
    "skip_connect": "skip_connect",
    "conv_1x1": "nor_conv_1x1",
    "conv_3x3": "nor_conv_3x3",
    "avg_pool_3x3": "avg_pool_3x3",
}
"""What the benchmark's architecture strings call the operations."""


class ReLUConvBN(nn.Module):
    """Activation, convolution and normalisation, keeping the size up to the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output, ``(batch, out_channels, …)``."""
        out: torch.Tensor = self.op(x)
        return out


class Zero(nn.Module):
    """No connection: zeros of the shape of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the zeros."""
        return x.mul(0.0)


class ResNetBasicblock(nn.Module):
    """The residual block between two stacks: half the size, twice the width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(in_channels, out_channels, 3, 2)
        self.conv_b = ReLUConvBN(out_channels, out_channels, 3, 1)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, 2), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both ways."""
        out: torch.Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


class NasBench201Cell(nn.Module):
    """Four tensors, each the sum of an operation on every earlier one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        operations: dict[str, Callable[[], nn.Module]] = {
            "none": Zero,
            "skip_connect": nn.Identity,
            "conv_1x1": partial(ReLUConvBN, channels, channels, 1, 1),
            "conv_3x3": partial(ReLUConvBN, channels, channels, 3, 1),
            "avg_pool_3x3": partial(nn.AvgPool2d, 3, 1, 1, count_include_pad=False),
        }
        with label_scope("cell"):
            self.layers = nn.ModuleList(
                nn.ModuleList(
                    LayerChoice(operations, label=f"{source}_{node}") for source in range(node)
                )
                for node in range(1, _NODES)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last of the tensors."""
        nodes = [x]
        for edges in self.layers:
            assert isinstance(edges, nn.ModuleList)
            nodes.append(reduce(add, (edge(y) for edge, y in zip(edges, nodes, strict=True))))
        return nodes[-1]


class NasBench201(ModelSpace):
    """The 15,625 networks of NAS-Bench-201: one cell of six edges, repeated in three stacks.

    A label ``cell/<from>_<to>`` says what the edge between two tensors of the cell is: ``none``,
    ``skip_connect``, ``conv_1x1``, ``conv_3x3`` or ``avg_pool_3x3``.  Labels and names of weights
    are those of NNI's hub.  :meth:`string_of` and :meth:`architecture_of` translate to the
    benchmark's architecture strings and back.

    Parameters
    ----------
    stem_out_channels
        Width of the first stack; the others have two and four times as much.
    num_modules_per_stack
        Cells of each stack.
    num_labels
        Classes.

    Raises
    ------
    UsageError
        If a number is not positive.

    References
    ----------
    Dong and Yang, *NAS-Bench-201: extending the scope of reproducible neural architecture
    search*, ICLR 2020.

    Examples
    --------
    >>> space = NasBench201(num_modules_per_stack=1)
    >>> space.count()
    15625
    >>> space.random(seed=0).eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    example_shape: ClassVar[tuple[int, ...]] = (3, 32, 32)

    def __init__(
        self, stem_out_channels: int = 16, num_modules_per_stack: int = 5, num_labels: int = 10
    ) -> None:
        super().__init__()
        check_positive(
            stem_out_channels=stem_out_channels,
            num_modules_per_stack=num_modules_per_stack,
            num_labels=num_labels,
        )
        width = stem_out_channels
        self.num_labels = num_labels
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.cells = nn.ModuleList()
        for stack in range(3):
            if stack:
                self.cells.append(ResNetBasicblock(width, 2 * width))
                width *= 2
            for _ in range(num_modules_per_stack):
                self.cells.append(NasBench201Cell(width))
        self.lastact = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        scores: torch.Tensor = self.classifier(self.global_pooling(self.lastact(x)).flatten(1))
        return scores

    @staticmethod
    def string_of(arch: Mapping[str, Any]) -> str:
        """Return the benchmark's string of an architecture.

        Raises
        ------
        UsageError
            If it is no architecture of this space.

        Examples
        --------
        >>> text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|none~2|"
        >>> NasBench201.string_of(NasBench201.architecture_of(text)) == text
        True
        """
        try:
            return "+".join(
                "|" + "".join(f"{_PUBLISHED[arch[f'cell/{j}_{node}']]}~{j}|" for j in range(node))
                for node in range(1, _NODES)
            )
        except (KeyError, TypeError):
            raise UsageError(
                f"an architecture of NAS-Bench-201 has the labels {_labels()}, each of "
                f"{list(_PUBLISHED)}, but got {dict(arch)}"
            ) from None

    @staticmethod
    def architecture_of(text: str) -> Sample:
        """Return the architecture of one of the benchmark's strings.

        Raises
        ------
        UsageError
            If the string is not of the benchmark's form, or names another operation.
        """
        found: Sample = {}
        names = {published: name for name, published in _PUBLISHED.items()}
        for node, part in enumerate(str(text).split("+"), start=1):
            edges = re.findall(r"([^|~]+)~(\d+)\|", part)
            if "|" + "".join(f"{name}~{source}|" for name, source in edges) != part:
                break
            if [source for _, source in edges] != [str(j) for j in range(node)]:
                break
            found |= {f"cell/{j}_{node}": names.get(name) for j, (name, _) in enumerate(edges)}
        if list(found) != _labels() or None in found.values():
            raise UsageError(
                "NAS-Bench-201 writes an architecture as '|op~0|+|op~0|op~1|+|op~0|op~1|op~2|', "
                f"with operations of {list(names)}, but got {text!r}"
            )
        return found

    @staticmethod
    def canonical_cell(arch: Mapping[str, Any]) -> str:
        """Return a text that is the same for all cells that compute the same.

        What reaches a tensor through ``skip_connect`` is that tensor, and ``none`` of anything is
        zeros.  So the benchmark tells cells apart: 6,466 of the 15,625 (its section 3.1).  Zeros
        that are added to something count as different there, and so here.

        Raises
        ------
        UsageError
            If it is no architecture of this space.

        Examples
        --------
        >>> through = "|skip_connect~0|+|none~0|{0}~1|+|none~0|none~1|skip_connect~2|"
        >>> late = "|{0}~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
        >>> texts = [text.format("nor_conv_3x3") for text in (through, late)]
        >>> len({NasBench201.canonical_cell(NasBench201.architecture_of(t)) for t in texts})
        1
        """
        NasBench201.string_of(arch)  # refuses other spaces'
        nodes = ["0"]
        for node in range(1, _NODES):
            terms = []
            for source in range(node):
                operation = arch[f"cell/{source}_{node}"]
                if operation == "none" or nodes[source] == "#":
                    terms.append("#")
                elif operation == "skip_connect":
                    terms.append(nodes[source])
                else:
                    terms.append(f"({nodes[source]})@{operation}")
            nodes.append("+".join(sorted(terms)))
        return nodes[-1]

    @classmethod
    def unique_cells(cls) -> list[Sample]:
        """Return one architecture for each cell that computes something else: 6,466.

        Examples
        --------
        >>> len(NasBench201.unique_cells())
        6466
        """
        labels = _labels()
        every = (dict(zip(labels, values, strict=True)) for values in product(_PUBLISHED, repeat=6))
        found: dict[str, Sample] = {}
        for arch in every:
            found.setdefault(cls.canonical_cell(arch), arch)
        return list(found.values())


def _labels() -> list[str]:
    """Return the labels, in the order of the strings."""
    pairs = sorted(combinations(range(_NODES), 2), key=lambda edge: edge[::-1])
    return [f"cell/{source}_{node}" for source, node in pairs]

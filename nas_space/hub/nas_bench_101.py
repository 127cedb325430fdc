"""The space of NAS-Bench-101 (Ying et al., arXiv 1902.09635)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..mutable import Categorical, MutableExpression, Sample, label_scope
from ..mutable.factor_sum import FactorSum
from ..mutable.factors import Factor
from ..nn import LayerChoice, ModelSpace, MutableBatchNorm2d, MutableConv2d, MutableModule, Repeat
from ..nn.elastic import blank_layers
from ..nn.switch import Switch
from .arguments import check_positive
from .cell_graphs import Matrix, canonical, cell_hash, channels_of, graphs, labellings, pruned

__all__ = ["NasBench101"]

_OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""As the benchmark calls and numbers them."""


class _Graph:
    """The choice of a cell's graph, and what follows from it."""

    def __init__(self, vertices: int, edges: int) -> None:
        self.matrices = graphs(vertices, edges)
        self.symbol = Categorical(list(map(_text, self.matrices)), label="graph")

    def value(self, of: Callable[[Matrix], int]) -> Any:
        """Return the expression of a whole number that each graph determines."""
        values = np.array([of(matrix) for matrix in self.matrices])
        if (values == values[0]).all():
            return int(values[0])
        return MutableExpression.lookup(FactorSum([Factor((self.symbol,), values)]))


def _conv(inputs: Any, outputs: Any, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        MutableConv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False),
        # The benchmark's decay of 0.997 in TensorFlow, which keeps what torch takes from a batch.
        MutableBatchNorm2d(outputs, momentum=0.003),
        nn.ReLU(inplace=True),
    )


class VertexInput(MutableModule):
    """Sums the tensors that a vertex reads.

    A module of its own, so that what runs again for each set of sources, as following a space
    does, is this and not the vertex; and so of :class:`CellOutput`.
    """

    def __init__(self, sources: Any, width: Any) -> None:
        super().__init__()
        self.sources, self.width = sources, width

    def forward(self, tensors: list[Tensor], projected: Tensor) -> Tensor:
        """Return the sum; ``projected`` is the cell's input, in the vertex's width."""
        sources, width = self.sources, self.width
        # What a vertex reads is as wide as it is, or has one channel of the remainder more.
        terms = [x[:, :width] for u, x in enumerate(tensors) if u and sources >> u & 1]
        if sources & 1:
            terms.append(projected)
        return reduce(add, terms)


class CellVertex(MutableModule):
    """Does an operation on the sum of what a vertex reads."""

    def __init__(self, graph: _Graph, place: int, inputs: int, outputs: int) -> None:
        super().__init__()

        # Where a graph has no such vertex, any number does.
        def width(matrix: Matrix) -> int:
            inner = channels_of(matrix, outputs)
            return inner[place - 1] if place <= len(inner) else outputs

        def sources(matrix: Matrix) -> int:
            return _bits(matrix, place) if place < len(matrix) - 1 else 1

        # The width of a vertex, and what it reads, follow from the graph, so they are expressions
        # of its one label: a table, looked up, and no other choice of theirs.
        self.place = place
        own: Any = graph.value(width)
        self.input = VertexInput(graph.value(sources), own)
        self.projection = _if(graph.value(lambda m: sources(m) & 1), inputs, own)
        layers: dict[str, Callable[[], nn.Module]] = {
            "conv3x3-bn-relu": partial(_conv, own, own, 3),
            "conv1x1-bn-relu": partial(_conv, own, own, 1),
            "maxpool3x3": partial(nn.MaxPool2d, 3, 1, 1),
        }
        self.op = LayerChoice(layers, label=f"op{place}")

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return the tensors of all vertices, this one's in its place."""
        y = self.op(self.input(tensors, self.projection(tensors[0])))
        return [*tensors[: self.place], y, *tensors[self.place + 1 :]]


class CellOutput(MutableModule):
    """Concatenates the vertices that the output reads, and adds the input where it does so, too."""

    def __init__(self, concatenated: Any, through: Any) -> None:
        super().__init__()
        self.concatenated, self.through = concatenated, through

    def forward(self, inner: list[Tensor], projected: Tensor) -> Tensor:
        """Return the output; ``projected`` is the cell's input, in the cell's width."""
        read = [y for place, y in enumerate(inner) if self.concatenated >> place & 1]
        if not read:
            return projected
        out = read[0] if len(read) == 1 else torch.cat(read, 1)
        return out + projected if self.through else out


class NasBench101Cell(MutableModule):
    """Vertices in turn; those that the output reads are concatenated, its input is added."""

    def __init__(self, graph: _Graph, inputs: int, outputs: int) -> None:
        super().__init__()
        self.most = max(map(len, graph.matrices)) - 2
        self.vertices = Repeat(
            lambda index: CellVertex(graph, index + 1, inputs, outputs),
            graph.value(lambda matrix: len(matrix) - 2) if self.most else 0,
        )
        through = graph.value(lambda matrix: matrix[0][-1])
        self.projection = _if(through, inputs, outputs)
        self.output = CellOutput(
            graph.value(lambda matrix: _bits(matrix, len(matrix) - 1) >> 1), through
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the cell's width, of the same size."""
        # As many tensors whatever the graph, so that a Repeat of vertices hands on one form: in the
        # place of a vertex that the graph lacks stands the cell's input, which nothing reads there.
        _, *inner = self.vertices([x] * (1 + self.most))
        return self.output(inner, self.projection(x))  # type: ignore[no-any-return]


class NasBench101(ModelSpace):
    """The cells of NAS-Bench-101: graphs of up to seven vertices and nine edges, of 3 operations.

    A label ``cell/graph`` says which graph the cell is, and ``cell/op<i>`` what inner vertex
    ``i`` does: ``conv3x3-bn-relu``, ``conv1x1-bn-relu`` or ``maxpool3x3``.  Graphs are those all
    of whose vertices are on ways from input to output, each once whatever the order of its
    vertices: 2,494, written as the rows of the matrix right of its diagonal.  NNI's labels
    (``num_nodes``, ``input<i>``) also describe graphs with vertices that do nothing, and one cell
    in many ways; :meth:`architecture_of` reads these, and the benchmark's matrices.

    Parameters
    ----------
    stem_out_channels
        Width of the first stack; the others have two and four times as much.
    num_stacks, num_modules_per_stack
        Stacks, and cells of each.
    max_num_vertices, max_num_edges
        Of a cell's graph; input and output are vertices.
    num_labels
        Classes.

    Raises
    ------
    UsageError
        If a number is not positive, or there are fewer than 2 or more than 7 vertices.

    Notes
    -----
    The input is projected for vertices that read it, as in the benchmark; NNI's networks have
    projections, which nothing uses, for the others too.

    Examples
    --------
    >>> space = NasBench101(4, num_modules_per_stack=1, max_num_vertices=5)
    >>> space.count()
    2716
    >>> arch = space.architecture_of([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["conv3x3-bn-relu"])
    >>> arch
    {'cell/graph': '11/1', 'cell/op1': 'conv3x3-bn-relu'}
    >>> space.freeze(arch).eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    example_shape: ClassVar[tuple[int, ...]] = (3, 32, 32)

    def __init__(
        self,
        stem_out_channels: int = 128,
        num_stacks: int = 3,
        num_modules_per_stack: int = 3,
        max_num_vertices: int = 7,
        max_num_edges: int = 9,
        num_labels: int = 10,
    ) -> None:
        super().__init__()
        check_positive(
            stem_out_channels=stem_out_channels,
            num_stacks=num_stacks,
            num_modules_per_stack=num_modules_per_stack,
            max_num_edges=max_num_edges,
            num_labels=num_labels,
        )
        if max_num_vertices not in range(2, 8):
            raise UsageError(f"max_num_vertices is 2 to 7, but got {max_num_vertices!r}")
        if stem_out_channels < max_num_vertices - 2:
            raise UsageError(
                f"up to {max_num_vertices - 2} vertices share the channels of a cell, but "
                f"stem_out_channels={stem_out_channels}"
            )
        self.num_labels = num_labels
        with label_scope("cell"), blank_layers():
            graph = _Graph(max_num_vertices, max_num_edges)
            self.stem_conv = _conv(3, stem_out_channels, 3)
            self.features = nn.ModuleList()
            before = width = stem_out_channels
            for stack in range(num_stacks):
                if stack:
                    self.features.append(nn.MaxPool2d(2, 2))
                    width *= 2
                for _ in range(num_modules_per_stack):
                    self.features.append(NasBench101Cell(graph, before, width))
                    before = width
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_labels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # By the inputs of the largest shape, whose variance is kept: as the benchmark's
                # variance scaling does, from a normal distribution cut at two standard deviations.
                spread = module.weight[0].numel() ** -0.5
                nn.init.trunc_normal_(module.weight, std=spread, a=-2 * spread, b=2 * spread)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores, ``(batch, num_labels)``, of images ``(batch, 3, height, width)``."""
        x = self.stem_conv(x)
        for layer in self.features:
            x = layer(x)
        return self.classifier(self.gap(x).flatten(1))  # type: ignore[no-any-return]

    @staticmethod
    def architecture_of(
        matrix: Sequence[Sequence[int]] | Mapping[str, Any], operations: Sequence[str] = ()
    ) -> Sample:
        """Return the architecture of a cell as the benchmark, or NNI, describes it.

        Parameters
        ----------
        matrix
            Edges from row to column; vertices that are on no way from the first to the last are
            left out. Or a sample of NNI's space, with ``cell/num_nodes``, ``cell/input<i>``
            and ``cell/op<i>``.
        operations
            Of inner vertices; the benchmark's own lists, with ``input`` and ``output`` at
            their ends, are taken too.

        Raises
        ------
        UsageError
            If it is no such description, the input is not connected to the output, or there are
            more than 7 vertices or 9 edges.
        """
        if isinstance(matrix, Mapping):
            matrix, operations = _of_nni(matrix)
        inner = list(operations)
        if len(inner) == len(matrix) and [*inner[:1], *inner[1:][-1:]] == ["input", "output"]:
            inner = inner[1:-1]
        rows = [list(row) for row in matrix]
        number = len(rows)
        if (
            number < 2
            or len(inner) != number - 2
            or any(len(row) != number or any(row[: v + 1]) for v, row in enumerate(rows))
            or not {entry for row in rows for entry in row} <= {0, 1}
            or not set(inner) <= set(_OPERATIONS)
        ):
            raise UsageError(
                "a cell is a square matrix of 0 and 1 above its diagonal, and for each vertex but "
                f"the first and the last one of {list(_OPERATIONS)}; got {matrix!r} and "
                f"{list(operations)!r}"
            )
        # Limits hold for what is left of a cell: the benchmark's own matrices have vertices that do
        # nothing, and are counted without them.
        used = pruned(rows)
        if not used:
            raise UsageError(f"the input of this cell is not connected to its output: {matrix!r}")
        least, order = canonical([[rows[u][v] for v in used] for u in used])
        if len(used) > 7 or sum(map(sum, least)) > 9:
            raise UsageError(
                f"cells have up to 7 vertices and 9 edges, but this has {len(used)} and "
                f"{sum(map(sum, least))}"
            )
        found: Sample = {"cell/graph": _text(least)}
        for place, vertex in enumerate(order[1:-1], start=1):
            found[f"cell/op{place}"] = inner[used[vertex] - 1]
        return found

    @staticmethod
    def matrix_of(arch: Mapping[str, Any]) -> tuple[Matrix, list[str]]:
        """Return the benchmark's matrix and list of operations, ``input`` and ``output`` included.

        Raises
        ------
        UsageError
            If it is no architecture of this space.
        """
        try:
            rows = arch["cell/graph"].split("/")
            number = len(rows) + 1
            matrix = tuple(
                tuple(int(bit) for bit in "0" * (number - len(row)) + row) for row in [*rows, ""]
            )
            operations = [arch[f"cell/op{place}"] for place in range(1, number - 1)]
        except (KeyError, AttributeError, ValueError):
            matrix, operations = (), []
        if matrix not in graphs(7, 9) or not set(operations) <= set(_OPERATIONS):
            raise UsageError(
                "an architecture of NAS-Bench-101 has cell/graph and an operation cell/op<i> for "
                f"each inner vertex, but got {dict(arch)}"
            )
        return matrix, ["input", *operations, "output"]

    @classmethod
    def hash_of(cls, arch: Mapping[str, Any]) -> str:
        """Return the benchmark's key of a cell, under which its results stand.

        Raises
        ------
        UsageError
            If it is no architecture of this space.
        """
        matrix, (_, *operations, _) = cls.matrix_of(arch)
        return cell_hash(matrix, [-1, *map(_OPERATIONS.index, operations), -2])

    @staticmethod
    def unique_cells() -> Iterator[Sample]:
        """Yield one architecture for each cell up to isomorphism: 423,624."""
        for matrix in graphs(7, 9):
            text = _text(matrix)
            for labelling in labellings(matrix, len(_OPERATIONS)):
                operations = {
                    f"cell/op{place}": _OPERATIONS[kind]
                    for place, kind in enumerate(labelling, start=1)
                }
                yield {"cell/graph": text, **operations}


def _if(condition: Any, inputs: int, outputs: Any) -> nn.Module:
    """Return a projection, where there is one."""
    made = partial(_conv, inputs, outputs, 1)
    if isinstance(condition, int):
        return made() if condition else nn.Identity()
    return Switch(condition, {1: made, 0: nn.Identity})


def _bits(matrix: Matrix, vertex: int) -> int:
    """Return the vertices that one reads, as bits."""
    return sum(row[vertex] << source for source, row in enumerate(matrix))


def _text(matrix: Matrix) -> str:
    return "/".join(
        "".join(map(str, row[place:])) for place, row in enumerate(matrix[:-1], start=1)
    )


def _of_nni(sample: Mapping[str, Any]) -> tuple[list[list[int]], list[str]]:
    try:
        number = sample["cell/num_nodes"]
        reads = [sample[f"cell/input{v}"] for v in range(1, number)]
        operations = [sample[f"cell/op{v}"] for v in range(1, number - 1)]
        matrix = [[int(v > 0 and u in reads[v - 1]) for v in range(number)] for u in range(number)]
    except (KeyError, TypeError):
        raise UsageError(
            "a sample of NNI's NAS-Bench-101 has cell/num_nodes, cell/input<i> and cell/op<i>, but "
            f"got {dict(sample)}"
        ) from None
    return matrix, operations

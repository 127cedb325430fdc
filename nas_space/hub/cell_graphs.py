"""The graphs of NAS-Bench-101's cells up to isomorphism, and the widths of their vertices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, permutations, product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Matrix", "canonical", "cell_hash", "channels_of", "graphs", "labellings", "pruned"]

Matrix: TypeAlias = tuple[tuple[int, ...], ...]
"""Edges: row to column, from earlier vertices to later ones, the input first, the output last."""


@cache
def graphs(vertices: int, edges: int) -> tuple[Matrix, ...]:
    """Return every graph whose vertices all lie on paths from input to output, up to isomorphism.

    Of graphs that differ in the order of inner vertices only, :func:`canonical` says which one.

    Parameters
    ----------
    vertices, edges
        The most that there may be; input and output are vertices.

    Examples
    --------
    >>> [len(graphs(number, 9)) for number in (2, 3, 4, 5)]
    [1, 3, 13, 110]
    """
    # Of all orders of the inner vertices that keep edges pointing forward, the one whose code is
    # the least is taken. It is among the graphs themselves, and no two orders of one graph share a
    # code without being the same matrix: so each graph is there once, by comparing numbers only.
    found: list[Matrix] = []
    for number in range(2, vertices + 1):
        every = np.array(list(_connected(number, edges)), dtype=np.int64)
        least = every[_codes(every).min(0) == _code(every)]
        found += [_matrix(array) for array in least]
    return tuple(found)


def canonical(matrix: Sequence[Sequence[int]]) -> tuple[Matrix, list[int]]:
    """Return a graph with its inner vertices in the order in which its code is the smallest.

    The code of a graph is the binary number of its edges.

    Returns
    -------
    matrix, order
        The graph, and the vertices of the given one in their new order.
    """
    array = np.array(matrix, dtype=np.int64)
    codes = _codes(array[None])[:, 0]
    order = _permutations(len(array))[int(codes.argmin())]
    return _matrix(array[np.ix_(order, order)]), order


def labellings(matrix: Matrix, kinds: int) -> Iterator[tuple[int, ...]]:
    """Yield the operations of a graph's inner vertices, up to automorphisms of the graph.

    Of labellings that an automorphism maps to each other the smallest one is yielded.

    Parameters
    ----------
    matrix
        Of :func:`graphs`.
    kinds
        How many operations there are; a labelling says the number of one for each inner vertex.
    """
    array = np.array(matrix, dtype=np.int64)
    codes = _codes(array[None])[:, 0]
    same = [
        [vertex - 1 for vertex in order[1:-1]]
        for order, code in zip(_permutations(len(array)), codes, strict=True)
        if code == codes[0]
    ]
    for labelling in product(range(kinds), repeat=len(matrix) - 2):
        if all(tuple(labelling[i] for i in order) >= labelling for order in same):
            yield labelling


def pruned(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Return the vertices of a graph that lie on a path from its input to its output.

    Input and output are among them if there is such a path, and nothing is otherwise.
    """
    edges = np.array(matrix, dtype=np.int64)
    reach = np.linalg.matrix_power(edges + np.eye(len(edges), dtype=np.int64), len(edges)) > 0
    if not reach[0, -1]:
        return []
    return [v for v in range(len(edges)) if reach[0, v] and reach[v, -1]]


def channels_of(matrix: Matrix, outputs: int) -> list[int]:
    """Return the channels of each inner vertex.

    Those that the output reads share its channels evenly, the first ones the remainder; what
    others read has as many as the widest of these.

    References
    ----------
    Ying et al., *NAS-Bench-101*, arXiv 1902.09635, appendix S1.
    """
    last = len(matrix) - 1
    read = [v for v in range(1, last) if matrix[v][last]]
    channels = [0] * (last + 1)
    for place, vertex in enumerate(read):
        channels[vertex] = outputs // len(read) + (place < outputs % len(read))
    for vertex in reversed(range(1, last)):
        if vertex not in read:
            channels[vertex] = max(channels[w] for w in range(1, last) if matrix[vertex][w])
    return channels[1:last]


def cell_hash(matrix: Sequence[Sequence[int]], labels: Sequence[int]) -> str:
    """Return the benchmark's fingerprint of a cell: the same for isomorphic cells.

    Parameters
    ----------
    matrix
        A graph, all of whose vertices are used.
    labels
        A number for each vertex: -1 of the input, -2 of the output.

    Notes
    -----
    By Ying's iterative graph invariants: each vertex hashes its degrees and label, and then, as
    often as there are vertices, its neighbours' hashes.
    """
    edges = np.array(matrix, dtype=np.int64)
    number = range(len(edges))
    degrees = zip(edges.sum(1).tolist(), edges.sum(0).tolist(), labels, strict=True)
    hashes = [_digest(str(each)) for each in degrees]
    for _ in number:
        hashes = [
            _digest(
                "|".join(
                    (
                        "".join(sorted(hashes[u] for u in number if edges[u, v])),
                        "".join(sorted(hashes[u] for u in number if edges[v, u])),
                        hashes[v],
                    )
                )
            )
            for v in number
        ]
    return _digest(str(sorted(hashes)))


def _digest(text: str) -> str:
    """Return the digest that the benchmark's keys are made of; the security of MD5 is not asked."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _connected(number: int, edges: int) -> Iterator[list[list[int]]]:
    """Yield the graphs in which each vertex has an edge in, and each an edge out.

    All earlier vertices are reached from the input, so any edge in reaches the next one too.
    """
    chosen: list[tuple[int, ...]] = []

    def grow(left: int) -> Iterator[list[list[int]]]:
        vertex = len(chosen) + 1
        if vertex == number:
            if len({source for taken in chosen for source in taken}) == number - 1:
                columns = [(), *chosen]
                yield [[int(u in columns[v]) for v in range(number)] for u in range(number)]
            return
        # Each vertex to come needs an edge of its own, so that many are not for this one.
        for size in range(1, min(vertex, left - (number - 1 - vertex)) + 1):
            for taken in combinations(range(vertex), size):
                chosen.append(taken)
                yield from grow(left - size)
                chosen.pop()

    yield from grow(edges)


def _codes(matrices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the code of each graph in each order; the largest number where edges go back."""
    found = []
    for order in _permutations(matrices.shape[-1]):
        moved = matrices[:, order][:, :, order]
        backwards = np.tril(moved).any((1, 2))
        found.append(np.where(backwards, np.iinfo(np.int64).max, _code(moved)))
    return np.array(found)


def _code(matrices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    weights = 1 << np.arange(len(rows), dtype=np.int64)
    code: npt.NDArray[np.int64] = matrices[:, rows, columns] @ weights
    return code


@cache
def _permutations(number: int) -> list[list[int]]:
    """Return the orders of vertices that leave input and output, the given one first."""
    return [[0, *order, number - 1] for order in permutations(range(1, number - 1))]


def _matrix(array: npt.NDArray[np.int64]) -> Matrix:
    return tuple(map(tuple, array.tolist()))

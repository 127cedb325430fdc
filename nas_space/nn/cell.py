"""``Cell``: a small graph of chosen operators over chosen inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from itertools import compress
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import DomainError
from ..mutable import MutableList, label_scope
from .activation import current, required
from .choice import InputChoice, LayerChoice
from .construction import slim
from .module import MutableModule
from .switch import Switch

__all__ = ["Cell", "CellOp", "CellOps", "LooseEnds"]

CellOp = nn.Module | Callable[..., nn.Module]
CellOps = Mapping[str, CellOp] | Sequence[CellOp] | Callable[[], Any]


class Cell(MutableModule):
    """Nodes that each sum some operators, of which each reads one node before.

    The cell of the NASNet family.  Nodes are numbered from the inputs of the cell on, its
    predecessors.  Operator ``k`` of node ``i`` is the choice ``op_<i>_<k>``, and what it
    reads the choice ``input_<i>_<k>``, both within the label of the cell: cells of one label
    share their choices.

    Parameters
    ----------
    op_candidates
        The operators to choose from, by name or as a list, whose names are ``'0'``, ``'1'``,
        ….  One is a module, of which each place gets a copy; a function without arguments, which
        makes one for each place; a function of one argument, which is given the expression that
        says which node the place reads; or a function ``(node, op, input)``: then each place has
        one for every node that it may read.  Or a function that makes them all.
    num_nodes
        Nodes beside the predecessors.
    num_ops_per_node
        How many operators a node sums.
    num_predecessors
        Inputs of the cell.
    merge_op
        What the cell's output concatenates: ``'all'`` nodes, or the ``'loose_end'`` ones,
        that no other node reads.  Predecessors never count.
    preprocessor
        Takes the list of inputs and gives one of the same length.
    postprocessor
        Takes the output and the list of inputs, and gives what the cell gives.
    concat_dim
        Along which nodes are concatenated.
    label
        Of the cell; numbered by the label scope if it is not given.

    Raises
    ------
    DomainError
        If there are no operators, or ``merge_op`` is none of the two.

    Examples
    --------
    >>> cell = Cell([nn.Identity(), nn.ReLU()], num_nodes=2, label="cell")
    >>> arch = {"cell/op_1_0": "1", "cell/input_1_0": [0]}
    >>> arch |= {"cell/op_2_0": "0", "cell/input_2_0": [0]}
    >>> cell.freeze(arch)(torch.tensor([[-1.0]]))
    tensor([[ 0., -1.]])

    References
    ----------
    Zoph et al., arXiv 1707.07012; Liu et al., arXiv 1806.09055; for loose ends Radosavovic et
    al., arXiv 1905.13214.
    """

    def __init__(
        self,
        op_candidates: CellOps,
        num_nodes: int,
        num_ops_per_node: int = 1,
        num_predecessors: int = 1,
        merge_op: Literal["all", "loose_end"] = "all",
        preprocessor: Callable[[list[Tensor]], list[Tensor]] | None = None,
        postprocessor: Callable[[Tensor, list[Tensor]], Any] | None = None,
        concat_dim: int = 1,
        *,
        label: str | None = None,
    ) -> None:
        super().__init__()
        if merge_op not in ("all", "loose_end"):
            raise DomainError(f"merge_op is 'all' or 'loose_end', but got {merge_op!r}")
        self.preprocessor = preprocessor
        self.ops = nn.ModuleList()
        self.inputs = nn.ModuleList()
        self.postprocessor = postprocessor
        self.num_nodes = num_nodes
        self.num_ops_per_node = num_ops_per_node
        self.num_predecessors = num_predecessors
        self.merge_op = merge_op
        self.concat_dim = concat_dim
        with label_scope(label) as scope:
            self.label = scope.name
            for node in range(num_predecessors, num_predecessors + num_nodes):
                self._add_node(node, op_candidates)
        if merge_op == "loose_end":
            self.merge = LooseEnds(self.loose_ends, concat_dim)

    def _add_node(self, node: int, candidates: CellOps) -> None:
        ops, inputs = nn.ModuleList(), nn.ModuleList()
        for k in range(self.num_ops_per_node):
            read = InputChoice(node, 1, label=f"input_{node}_{k}")
            choice = read.expression("choice")
            made = {
                name: partial(_made, op, node, k, choice) for name, op in _named(candidates).items()
            }
            ops.append(LayerChoice(made, label=f"op_{node}_{k}"))
            inputs.append(read)
        self.ops.append(ops)
        self.inputs.append(inputs)

    def _nodes(self) -> range:
        return range(self.num_predecessors, self.num_predecessors + self.num_nodes)

    @property
    def loose_ends(self) -> list[Any]:
        """For each node an expression that says whether no other reads it; ``True`` of the last.

        So ``sum(condition(loose, width, 0))`` are the channels of what the cell concatenates, a
        segment for each node.
        """
        return [self._is_loose(node) for node in self._nodes()]

    def _is_loose(self, node: int) -> Any:
        """Return whether none of the nodes behind one reads it."""
        free: Any = True
        for reads in list(self.inputs)[node - self.num_predecessors + 1 :]:
            for read in reads:  # type: ignore[attr-defined]  # a list of modules
                here = read.expression("choice")[0] != node
                free = here if free is True else free & here
        return free

    @property
    def output_node_indices(self) -> list[int]:
        """The nodes that the output concatenates; all, where no architecture is active."""
        loose: Any = None if self.merge_op == "all" else self.merge.is_loose
        if isinstance(loose, MutableList) and current() is None:
            only = slim()  # built for one architecture, it has what that one has
            loose = None if only is None else list(map(only, loose))
        if loose is None:
            return list(self._nodes())
        return list(compress(self._nodes(), loose))

    def forward(self, *inputs: Any) -> Any:
        """Run the cell on its predecessors, given as a list or one by one."""
        given = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], list) else [*inputs]
        if len(given) != self.num_predecessors:
            raise DomainError(
                f"the cell {self.label!r} has {self.num_predecessors} predecessors, but got "
                f"{len(given)} inputs"
            )
        states = list(given if self.preprocessor is None else self.preprocessor(given))
        for ops, reads in zip(self.ops, self.inputs, strict=True):
            terms = [
                self._term(op, read, states)
                for op, read in zip(ops, reads, strict=True)  # type: ignore[call-overload]
            ]
            states.append(torch.sum(torch.stack(terms), 0))
        nodes = states[self.num_predecessors :]
        merge = (
            self.merge if self.merge_op == "loose_end" else partial(torch.cat, dim=self.concat_dim)
        )
        output = merge(nodes)
        return output if self.postprocessor is None else self.postprocessor(output, given)

    def _term(self, op: nn.Module, read: nn.Module, states: list[Tensor]) -> Tensor:
        if not isinstance(read, InputChoice):
            return op(read(states))  # type: ignore[no-any-return]
        choice = read.expression("choice")
        return required(self).choose_input(choice, lambda chosen: chosen[0], states, op)  # type: ignore[no-any-return]


class LooseEnds(MutableModule):
    """Concatenate those of some tensors that are loose ends.

    A module of its own, so that what has to run again for each combination of loose ends, as
    following a space does, is this and not the cell.

    Parameters
    ----------
    is_loose
        For each tensor an expression of a truth value, or a plain one.
    dim
        Along which dimension they are concatenated.
    """

    def __init__(self, is_loose: Sequence[Any], dim: int) -> None:
        super().__init__()
        self.is_loose = MutableList(is_loose)
        self.dim = dim

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Concatenate the loose ends."""
        activation = current()
        if activation is None:
            return torch.cat(list(compress(tensors, self.is_loose)), self.dim)
        loose = self.expression("is_loose")
        parts = [
            activation.optional(condition, tensor, self.dim)
            for condition, tensor in zip(loose, tensors, strict=True)
        ]
        return torch.cat([part for part in parts if part is not None], self.dim)


def _named(candidates: Any) -> dict[str, Any]:
    if callable(candidates):
        candidates = candidates()
    if isinstance(candidates, Mapping):
        return dict(candidates)
    if isinstance(candidates, (list, tuple)):
        return {str(index): op for index, op in enumerate(candidates)}
    raise DomainError(
        "operators of a cell are a list or a dict of modules or of functions (node, op, input), "
        f"but got {type(candidates).__name__}"
    )


def _made(op: Any, node: int, k: int, choice: Any) -> nn.Module:
    if isinstance(op, nn.Module):
        return copy.deepcopy(op)
    if not callable(op):
        raise DomainError(
            f"an operator of a cell is a module or a function (node, op, input) that makes one, "
            f"but got {op!r}"
        )
    wanted = _taken(op)
    if wanted < 2:
        made: nn.Module = op(choice[0]) if wanted else op()
        return made
    # Made anew for each input that it may read, since these may differ.
    return Switch(choice[0], {index: partial(op, node, k, index) for index in range(node)})


def _taken(op: Callable[..., Any]) -> int:
    """Return how many arguments a function wants; one of ``*args`` wants all that there are."""
    parameters = signature(op).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 3
    return sum(
        parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY
        for parameter in parameters
        if parameter.kind is not parameter.VAR_KEYWORD
    )

"""Choices between modules, and between inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from ..errors import DomainError, suggest
from ..mutable import Categorical, CategoricalMultiple, MutableExpression
from ..mutable.node import Node
from .activation import required
from .construction import slim
from .freezing import Freezer
from .module import MutableModule
from .structure import Survey

__all__ = [
    "Candidate",
    "Candidates",
    "ChosenInputs",
    "InputChoice",
    "LayerChoice",
    "ReductionType",
    "reduce_inputs",
]

Candidate = nn.Module | Callable[[], nn.Module]
Candidates = Mapping[str, Candidate] | Sequence[Candidate] | nn.ModuleList | nn.ModuleDict
ReductionType = Literal["mean", "concat", "sum", "none"]


class _Choosing(MutableModule):
    """A module that differs by one choice."""

    @property
    def label(self) -> str:
        """The label of the choice."""
        choice: Any = self.expression("choice")
        return str(choice.label)


class LayerChoice(_Choosing):
    """One of several modules.

    Parameters
    ----------
    candidates
        Name to candidate, or a list, whose names are 0, 1, ….  A candidate is a module, or
        a function without arguments that makes one: then ``frozen_factory`` makes only the
        one that is chosen.
    weights
        Probability of each candidate in random sampling; uniform by default.
    label
        The name of the choice.

    Raises
    ------
    DomainError
        If there is no candidate, or one is neither a module nor makes one.

    Examples
    --------
    >>> op = LayerChoice({"conv": lambda: nn.Conv2d(8, 8, 3), "skip": nn.Identity()}, label="op")
    >>> op.simplify()
    {'op': Categorical(['conv', 'skip'], label='op')}
    >>> op.freeze({"op": "skip"})
    Identity()
    """

    def __init__(
        self,
        candidates: Candidates,
        *,
        weights: Sequence[float] | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__()
        named = _named(candidates)
        self.choice = Categorical(list(named), weights=weights, label=label)
        choice: Any = self.expression("choice")
        self.names: list[Any] = list(named)
        only = slim()
        wanted = self.names if only is None else [only(choice)]
        for name in wanted:
            self._modules[str(name)] = _made(named[name], name, choice.label)

    @property
    def candidates(self) -> dict[str, nn.Module] | list[nn.Module]:
        """The candidates, as a list or by name, as they were given."""
        if self.names == list(range(len(self.names))):
            return list(self)
        return dict(self._built())

    def _built(self) -> Iterator[tuple[Any, nn.Module]]:
        """Yield the candidates that are there: all of them, unless one architecture is built."""
        for name in self.names:
            module = self._modules.get(str(name))
            if module is not None:
                yield name, module

    def __getitem__(self, name: Any) -> nn.Module:
        module = self._modules.get(str(name)) if name in self.names else None
        if module is None:
            raise KeyError(
                f"the choice {self.label!r} has no candidate {name!r}"
                f"{suggest(str(name), map(str, self.names))}; it has {self.names}"
            )
        return module

    def __setitem__(self, name: Any, module: nn.Module) -> None:
        if name not in self.names:
            raise KeyError(
                f"{name!r} is no candidate of {self.label!r}; candidates can be replaced, not added"
            )
        self._modules[str(name)] = _made(module, name, self.label)

    def __delitem__(self, name: Any) -> None:
        raise KeyError(
            f"{name!r} cannot be removed from {self.label!r}: build the choice without it instead"
        )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[nn.Module]:
        return (module for _, module in self._built())

    def describe(self, survey: Survey) -> Node | None:
        choice: Node = self.expression("choice")
        # Where only one candidate is built, the others contribute nothing.
        cases = dict.fromkeys(self.names) | {name: survey(module) for name, module in self._built()}
        if all(case is None for case in cases.values()):
            return choice
        found: Node = MutableExpression.switch_case(choice, cases)
        return found

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        freezer.refuse_hooks(self)
        name = freezer.values(self.expression("choice"))
        return freezer.child(str(name), self[name])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the candidate that is chosen."""
        modules = self._modules
        branch: Any = lambda name: modules[str(name)]  # noqa: E731
        choice = self.__dict__["_expressions"]["choice"]
        return required(self).choose(choice, branch, args, kwargs)

    def extra_repr(self) -> str:
        return f"label={self.label!r}"


def _named(candidates: Any) -> dict[Any, Candidate]:
    if isinstance(candidates, (nn.ModuleDict, Mapping)):
        named: dict[Any, Candidate] = dict(candidates.items())
        for name in named:
            if not isinstance(name, str) or not name or "." in name:
                raise DomainError(f"a candidate's name is a string without dots, but got {name!r}")
    elif isinstance(candidates, (list, tuple, nn.ModuleList)):
        named = dict(enumerate(candidates))
    else:
        raise DomainError(
            f"candidates are a list or a dict of modules, but got {type(candidates).__name__}"
        )
    if not named:
        raise DomainError("a choice needs at least one candidate")
    return named


def _made(candidate: Any, name: Any, label: str) -> nn.Module:
    if isinstance(candidate, nn.Module):
        return candidate
    made = candidate() if callable(candidate) else candidate
    if not isinstance(made, nn.Module):
        raise DomainError(
            f"the candidate {name!r} of {label!r} must be a module, or a function without "
            f"arguments that makes one, but got {candidate!r}"
            + (f", which made {made!r}" if callable(candidate) else "")
        )
    return made


class InputChoice(_Choosing):
    """Some of several inputs, reduced to one.

    Parameters
    ----------
    n_candidates
        How many inputs there are.
    n_chosen
        How many are chosen; any number if ``None``.
    reduction
        ``'sum'``, ``'mean'``, ``'concat'`` (along dimension 1), or ``'none'`` for the list.
    weights
        As for :class:`~nas_space.mutable.CategoricalMultiple`.
    label
        The name of the choice.

    Examples
    --------
    >>> pick = InputChoice(3, n_chosen=2, label="pick")
    >>> pick.freeze({"pick": [0, 2]})([torch.ones(1), torch.zeros(1), torch.ones(1)])
    tensor([2.])
    """

    def __init__(
        self,
        n_candidates: int,
        n_chosen: int | None = 1,
        reduction: ReductionType = "sum",
        *,
        weights: Sequence[float] | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "concat", "sum", "none"):
            raise DomainError(
                f"reduction must be one of 'mean', 'concat', 'sum', 'none', but got {reduction!r}"
            )
        self.n_candidates, self.n_chosen, self.reduction = n_candidates, n_chosen, reduction
        self.choice = CategoricalMultiple(
            range(n_candidates), n_chosen=n_chosen, weights=weights, label=label
        )

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        chosen = freezer.values(self.expression("choice"))
        return freezer.substitute(self, ChosenInputs(chosen, self.reduction))

    def forward(self, candidate_inputs: Sequence[torch.Tensor]) -> Any:
        """Reduce the inputs that are chosen."""
        if len(candidate_inputs) != self.n_candidates:
            raise DomainError(
                f"the choice {self.label!r} is among {self.n_candidates} inputs, but got "
                f"{len(candidate_inputs)}"
            )
        return required(self).mix(
            self.__dict__["_expressions"]["choice"],
            lambda chosen: reduce_inputs([candidate_inputs[i] for i in chosen], self.reduction),
        )

    def extra_repr(self) -> str:
        return (
            f"n_candidates={self.n_candidates}, n_chosen={self.n_chosen}, "
            f"reduction={self.reduction!r}, label={self.label!r}"
        )


class ChosenInputs(nn.Module):
    """What an :class:`InputChoice` freezes to.

    Parameters
    ----------
    chosen
        Indices of the inputs that are used.
    reduction
        How they become one.
    """

    def __init__(self, chosen: Sequence[int] | int, reduction: ReductionType) -> None:
        super().__init__()
        self.chosen = [chosen] if isinstance(chosen, int) else list(chosen)
        self.reduction = reduction

    def forward(self, candidate_inputs: Sequence[torch.Tensor]) -> Any:
        """Reduce the chosen inputs."""
        return reduce_inputs([candidate_inputs[i] for i in self.chosen], self.reduction)

    def extra_repr(self) -> str:
        return f"chosen={self.chosen}, reduction={self.reduction!r}"


def reduce_inputs(inputs: list[torch.Tensor], reduction: str) -> Any:
    """Return several inputs as one; ``None`` of none, a single one as it is."""
    if reduction == "none":
        return inputs
    if len(inputs) <= 1:
        return inputs[0] if inputs else None
    if reduction == "concat":
        return torch.cat(inputs, dim=1)
    total = inputs[0]
    for value in inputs[1:]:
        total = total + value
    return total / len(inputs) if reduction == "mean" else total

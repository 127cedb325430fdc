"""``Penalty``: what an architecture costs, as a part of what a search minimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ...errors import UsageError
from ...tables import Table, tabulate

__all__ = ["Penalty"]

_SHAPES = ("linear", "positive", "negative", "absolute")
_FORMS = ("add", "mul")


class Penalty:
    r"""A cost with a target, in the two forms of ProxylessNAS.

    With the relative excess :math:`e = f(cost / baseline - 1)`, the loss becomes
    :math:`loss + scale \cdot e`, or :math:`loss \cdot (1 + e)^{scale}`.  Where a policy is
    learned by gradients, the cost is its exact expectation under the policy.

    Parameters
    ----------
    profiler
        The cost: an expression over labels, a table of it, or a profiler, which has an
        ``expression``.
    baseline
        The target.
    scale
        How much it counts.
    nonlinear
        Which excess counts: ``'linear'`` counts saving as well, ``'positive'`` only what is
        above the target, ``'negative'`` only what is below, ``'absolute'`` both alike.
    aggregate
        ``'add'`` or ``'mul'``.

    Raises
    ------
    UsageError
        If an argument makes no sense.

    Examples
    --------
    >>> import torch
    >>> from nas_space.mutable import Categorical
    >>> width = Categorical([8, 16], label="width")
    >>> penalty = Penalty(width * 3, baseline=24, scale=0.5)
    >>> even = {"width": torch.tensor([0.5, 0.5])}
    >>> penalty(torch.tensor(1.0), penalty.expected(even))
    tensor(1.2500)

    References
    ----------
    Cai et al., *ProxylessNAS*, arXiv 1812.00332, section 3.3 (added) and 4.2 (multiplied).
    """

    def __init__(
        self,
        profiler: Any,
        baseline: float,
        scale: float = 1.0,
        *,
        nonlinear: Literal["linear", "positive", "negative", "absolute"] = "linear",
        aggregate: Literal["add", "mul"] = "add",
    ) -> None:
        if not baseline > 0:
            raise UsageError(f"the baseline of a penalty must be above 0, but got {baseline}")
        if nonlinear not in _SHAPES or aggregate not in _FORMS:
            raise UsageError(
                f"nonlinear must be one of {_SHAPES} and aggregate one of {_FORMS}, but got "
                f"(nonlinear={nonlinear!r}, aggregate={aggregate!r})"
            )
        cost = getattr(profiler, "expression", profiler)
        self.table: Table = profiler if isinstance(profiler, Table) else tabulate(cost)
        self.baseline, self.scale = baseline, scale
        self.nonlinear, self.aggregate = nonlinear, aggregate

    @staticmethod
    def of(penalty: Penalty | Mapping[str, Any] | None) -> Penalty | None:
        """Return a penalty from its arguments; as it is, if it is one."""
        if penalty is None or isinstance(penalty, Penalty):
            return penalty
        return Penalty(**penalty)

    def expected(self, probabilities: Mapping[str, Tensor]) -> Tensor:
        """Return the exact expectation of the cost under independent choices; differentiable."""
        found: Tensor = self.table.expected(probabilities)
        return found

    def cost(self, arch: Mapping[str, Any]) -> float:
        """Return the cost of one architecture."""
        return float(self.table.evaluate(arch))

    def __call__(self, loss: Tensor, cost: Any) -> Tensor:
        """The loss with the penalty for a cost."""
        excess = self._excess(cost)
        found: Tensor = (
            loss + self.scale * excess
            if self.aggregate == "add"
            else loss * (1 + excess) ** self.scale
        )
        return found

    def rewarded(self, reward: float, cost: float) -> float:
        """Return a reward, of which more is better, without what a cost takes off.

        The sign of the scale does not matter: it is always a penalty.
        """
        excess, scale = self._excess(cost), abs(self.scale)
        if self.aggregate == "add":
            return float(reward - scale * excess)
        return float(reward * (1 + excess) ** -scale)

    def _excess(self, cost: Any) -> Any:
        # Written with ``abs``, so that it is one formula for tensors and numbers, and
        # differentiable on both sides of the target.
        excess = cost / self.baseline - 1
        if self.nonlinear == "absolute":
            return abs(excess)
        if self.nonlinear == "positive":
            return (excess + abs(excess)) / 2
        if self.nonlinear == "negative":
            return (excess - abs(excess)) / 2
        return excess

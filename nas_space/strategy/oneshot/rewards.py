"""Rewards: what they are compared with."""

from __future__ import annotations

__all__ = ["advantage"]


def advantage(memory: dict[str, float], reward: float, decay: float) -> float:
    """Return by how much a reward exceeds the moving average, which it then joins.

    The average does not know the reward that is compared with it, so the gradient stays
    unbiased.  The first reward has nothing to exceed.

    Parameters
    ----------
    memory
        Holds the average under ``'baseline'``.
    reward
        The reward.
    decay
        The share of the average that stays.

    Examples
    --------
    >>> memory = {}
    >>> [advantage(memory, reward, 0.5) for reward in (1.0, 2.0, 2.0)]
    [0.0, 1.0, 0.5]
    """
    baseline = memory.get("baseline", reward)
    memory["baseline"] = decay * baseline + (1 - decay) * reward
    return reward - baseline

"""Find the channels of a network that a smaller one has where no order of them says so.

After a shuffle, the first channels of a smaller network are not the first ones of the original:
they go another way.  But a channel is known by its way, which is through what it goes: the
dimensions of weights that its elements are of.  A smaller network is run by itself, its channels
are told apart, and each stands for one of the original's with the same way.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from .layouts import Dimension, Listed
from .trial import Layouts, Members, Trial

__all__ = ["listed_layouts"]


def listed_layouts(
    trial: Trial, name: str, values: Sequence[int], layouts: Layouts
) -> Layouts | None:
    """Return for each dimension that has a variable in it the places that each value keeps.

    ``None`` where there are none, or a dimension is made of other variables as well.

    Parameters
    ----------
    trial
        Of the network.
    name, values
        The variable, and what it may be; the original's value is the last.
    layouts
        Any, by which a smaller network has the right sizes.
    """
    sizes = {
        (key, dim): size
        for key, axes in trial.axes.items()
        for dim, size in axes.items()
        if name in size.names
    }
    if any(size.names != {name} for size in sizes.values()):
        return None
    whole = trial.channels()
    found: dict[Dimension, dict[int, tuple[int, ...]]] = defaultdict(dict)
    for value in values[:-1]:
        places = _places(trial.channels_of({name: value}, layouts), whole)
        if places is None:
            return None
        for dimension in sizes:
            found[dimension][value] = tuple(kept for _, kept in sorted(places[dimension].items()))
    for dimension, size in sizes.items():
        found[dimension][values[-1]] = tuple(range(size.evaluate(trial.sizes)))
    return {
        dimension: Listed(name, sizes[dimension], tuple(by_value.items()))
        for dimension, by_value in found.items()
    }


def _places(
    small: Sequence[Members], whole: Sequence[Members]
) -> Mapping[Dimension, Mapping[int, int]] | None:
    """Return by dimension, for each place in a smaller network that in the original."""
    ways: dict[tuple[Dimension, ...], deque[Members]] = defaultdict(deque)
    for members in whole:
        ways[_way(members)].append(members)
    found: dict[Dimension, dict[int, int]] = defaultdict(dict)
    for members in small:
        left = ways[_way(members)]
        if not left:
            return None
        for (dimension, place), (_, kept) in zip(members, left.popleft(), strict=True):
            found[dimension][place] = kept
    return found


def _way(members: Members) -> tuple[Dimension, ...]:
    return tuple(dimension for dimension, _ in members)

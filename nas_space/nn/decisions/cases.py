"""Functions that no rule knows, run once for each combination of values.

Each run gets the elements that one architecture has, so it is exact for any function.  What it
gives stays apart as the cases of one tensor, and is averaged only where a layer reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...errors import NasSpaceError, SpaceError
from ...mutable.node import Node, key_of
from .mixed_tensor import mixed_in, mixer_of, narrowed
from .mixer import Atoms, Mixer, Values, union
from .refusals import Absent, refused

__all__ = ["MOST_CASES", "by_cases", "gathered", "run_by_cases", "too_many"]

MOST_CASES = 1024
"""Up to how many combinations of values one function is run for."""


def by_cases(
    name: str, mixer: Mixer, atoms: Atoms, run: Callable[[Values], Any]
) -> Iterator[tuple[Values, Tensor, Any]]:
    """Yield what something gives under each combination of values, and the weight of that.

    Raises
    ------
    SpaceError
        If torch refuses one of them, or there are too many.
    """
    for values, weight, context in mixer.outcomes_of(atoms, lambda n: too_many(name, atoms, n)):
        # ``Absent``: an input has no case here, as it was made where this one has no probability.
        try:
            with context:
                output = run(values)
        except Absent:
            continue
        except NasSpaceError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
            which = {str(atom): values(atom) for atom in atoms}
            raise refused(name, atoms, f"where they are {which}, torch says: {error}") from error
        yield values, weight, output


def run_by_cases(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return what a function gives, run once for each combination of values."""
    mixed = mixed_in((args, kwargs))
    mixer, atoms = mixer_of(mixed), union(*(item.atoms for item in mixed))

    def run(values: Values) -> Any:
        narrow_args, narrow_kwargs = narrowed((args, kwargs), values)
        return function(*narrow_args, **narrow_kwargs)

    outputs = [(v, out) for v, _, out in by_cases(name, mixer, atoms, run)]
    return gathered(name, mixer, atoms, outputs, mixed)


def gathered(
    name: str,
    mixer: Mixer,
    atoms: Atoms,
    outputs: Sequence[tuple[Values, Any]],
    inputs: Sequence[Any],
    own: Sequence[Any] = (),
) -> Any:
    """Return one structure of tensors of cases, of a structure for each case.

    Parameters
    ----------
    name
        Of what gave them, for messages.
    mixer, atoms
        The mixture, and the expressions that tell the cases apart.
    outputs
        What reads these, and what there is.
    inputs, own
        What it was made of: tensors of the mixture, and axes that are a layer's own.
    """
    flat, form = tree_flatten(outputs[0][1])
    each = [(values, *tree_flatten(output)) for values, output in outputs]
    if any(other != form for _, _, other in each):
        raise refused(name, atoms, "what it gives has another form for other values")
    made = []
    for place, first in enumerate(flat):
        items = {key_of(tuple(map(values, atoms))): found[place] for values, found, _ in each}
        if isinstance(first, Tensor):
            made.append(mixer.gathered(atoms, items, inputs, own))
        elif len({key_of(item) for item in items.values()}) == 1:
            made.append(first)
        else:
            raise refused(name, atoms, "what it gives is no tensor, and differs")
    return tree_unflatten(made, form)


def too_many(name: str, atoms: Sequence[Node], cases: int) -> SpaceError:
    """Return the error for what would have to be run too often."""
    return refused(
        name, atoms, f"it has to be run once for each of {cases} combinations, above {MOST_CASES}"
    )

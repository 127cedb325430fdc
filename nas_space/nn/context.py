"""What NNI's code asks of the architecture that is built for, under its names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..mutable import Mutable, Sample
from .building import alone, building_alone, slim


@contextmanager
def model_context(sample: Mapping[str, Any]) -> Iterator[Sample]:
    """A context in which calling the class of a space, or of a part of one, makes a network.

    The network is the one of an architecture, with fresh weights; as
    :meth:`ModelSpace.frozen_factory` makes it.

    Parameters
    ----------
    sample
        The architecture.

    Examples
    --------
    >>> from nas_space.nn import LayerChoice
    >>> with model_context({"op": "skip"}):
    ...     LayerChoice({"conv": lambda: nn.Conv2d(8, 8, 3), "skip": nn.Identity}, label="op")
    Identity()
    """
    arch = dict(sample)
    with building_alone(arch):
        yield arch


def current_model() -> Sample | None:
    """The architecture that is built for; ``None`` while a whole space is built.

    Examples
    --------
    >>> with model_context({"op": "skip"}):
    ...     current_model()
    {'op': 'skip'}
    """
    only = slim()
    found = alone() if only is None else only.arch
    return None if found is None else dict(found)


def recursive_freeze(
    module: nn.Module, sample: Mapping[str, Any], include_root: bool = True
) -> tuple[nn.Module, bool]:
    """The frozen form of a module that holds mutable ones, and whether anything was.

    Parameters
    ----------
    module
        Any module; it stays as it is.
    sample
        The architecture.
    include_root
        Whether the module itself is frozen where it is mutable, or only what is in it.

    Returns
    -------
    tuple of torch.nn.Module and bool
        The module itself, and ``False``, where nothing in it is mutable.

    Examples
    --------
    >>> from nas_space.nn import LayerChoice
    >>> body = nn.Sequential(LayerChoice([nn.ReLU(), nn.Tanh()], label="act"))
    >>> recursive_freeze(body, {"act": 1})
    (Sequential(
      (0): Tanh()
    ), True)
    """
    from .freezing import Freezer
    from .structure import Survey

    if include_root and isinstance(module, Mutable):
        return module.freeze(sample), True
    survey = Survey()
    structure = survey.contents(module)
    if structure is None:
        return module, False
    freezer = Freezer(StructureReader(structure).read(sample))
    freezer.root = module
    return freezer.clone(module), True


class StructureReader(Mutable):
    """What reads the labels that a structure needs.

    Parameters
    ----------
    structure
        Of what is to be frozen.
    """

    def __init__(self, structure: Any) -> None:
        self._structure = structure

    def structure(self) -> Any:
        return self._structure

    def freeze_values(self, values: Any) -> Any:
        return values

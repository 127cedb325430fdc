"""Contexts that say which architecture constructors are run for, and freezing of any module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ...mutable import Mutable, Sample, frozen_context
from ...nn import ModelSpace
from ...nn.construction import Slim, building_for, constructing_by, constructor, slim
from ...nn.freezing import Freezer
from ...nn.structure import Survey
from ...tables.model import BareStructure

__all__ = ["current_model", "model_context", "recursive_freeze"]


@contextmanager
def model_context(sample: Mapping[str, Any]) -> Iterator[Sample]:
    """Enter a context in which calling the class of a space, or of a part of one, makes a network.

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
    with constructing_by(_FrozenConstructor(arch)):
        yield arch


def current_model() -> Sample | None:
    """Return the architecture that is built for; ``None`` while a whole space is built.

    Examples
    --------
    >>> with model_context({"op": "skip"}):
    ...     current_model()
    {'op': 'skip'}
    """
    only, how = slim(), constructor()
    if only is not None:
        return dict(only.arch)
    return dict(how.arch) if isinstance(how, _FrozenConstructor) else None


class _FrozenConstructor:
    """Makes what one architecture has in the place of an instance."""

    def __init__(self, arch: Sample) -> None:
        self.arch = arch

    def __call__(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
        arch = self.arch
        if issubclass(cls, ModelSpace):
            network: nn.Module = cls.frozen_factory(arch)(*args, **kwargs)
            return network
        with building_for(Slim(arch)), frozen_context(arch):
            built = cls.construct(*args, **kwargs)
        freezer = Freezer(Mutable.read(built, arch), "move")
        freezer.root = built
        made: nn.Module = built.freeze_module(freezer)
        return made


def recursive_freeze(
    module: nn.Module, sample: Mapping[str, Any], include_root: bool = True
) -> tuple[nn.Module, bool]:
    """Return the frozen form of a module that holds mutable ones, and whether anything was.

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
    if include_root and isinstance(module, Mutable):
        return module.freeze(sample), True
    survey = Survey()
    structure = survey.contents(module)
    if structure is None:
        return module, False
    freezer = Freezer(BareStructure(structure).read(sample))
    freezer.root = module
    return freezer.clone(module), True

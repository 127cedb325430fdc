"""Building the network of one architecture without building its space."""

from __future__ import annotations

from typing import TypeVar, cast

import torch

from ..errors import NasSpaceError
from ..mutable import Mutable, Sample, frozen_context
from .construction import Slim, building_for
from .freezing import Freezer
from .inactive_labels import is_retired
from .root import RootModule

__all__ = ["build_network"]

R = TypeVar("R", bound=RootModule)


def build_network(cls: type[R], arch: Sample, /, *args: object, **kwargs: object) -> R:
    """Return the network of one architecture, with fresh weights, by the constructors of a class.

    The same constructors run as for a space, with the same expressions; only primitives build no
    more than the architecture needs.

    Parameters
    ----------
    cls
        The class of the space.
    arch
        The architecture.
    args, kwargs
        What the class takes.

    Raises
    ------
    NasSpaceError
        As the whole space would: an architecture that seems wrong is checked again by the whole,
        which knows all labels and where they are used.
    """

    def check_with_whole_space() -> None:
        with building_for(None):
            try:
                with torch.device("meta"):
                    space = cls(*args, **kwargs)
            except NasSpaceError:
                raise
            except Exception:  # noqa: BLE001 - a constructor may read what only real tensors have
                space = cls(*args, **kwargs)
            space.read(arch)

    try:
        with building_for(Slim(arch)), frozen_context(arch):
            space = cls(*args, **kwargs)
        values = Mutable.read(space, arch)
    except NasSpaceError:
        check_with_whole_space()
        raise
    for name, value in arch.items():
        if name not in values.active and not is_retired(name, value, cls.retired_labels):
            check_with_whole_space()
            break
    return cast(R, Freezer(values, "move").module(space))

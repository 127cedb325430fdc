"""Building the network of one architecture without building its space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Self, cast

import torch
from torch import nn

from ..errors import NasSpaceError, SampleValidationError, UsageError
from ..mutable import Mutable, Sample, frozen_context
from .building import Slim, building_for
from .freezing import Freezer
from .module import MutableModule
from .validation import is_retired


class BuiltForOne(MutableModule):
    """What a space can do before it is built: be built for one architecture alone."""

    retired_labels: ClassVar[Mapping[str, Any]]

    @classmethod
    def frozen_factory(cls, arch: Mapping[str, Any]) -> Callable[..., Self]:
        """A function that builds the network of one architecture, without building the space.

        Parameters
        ----------
        arch
            The architecture.  It is checked, as by :meth:`freeze`, when the network is built.

        Returns
        -------
        Callable
            It takes the arguments of the class.  The weights are fresh.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> arch = ProxylessNAS(width_mult=0.25).sample(seed=0)
        >>> net = ProxylessNAS.frozen_factory(arch)(num_labels=10, width_mult=0.25)
        >>> net.architecture == arch
        True
        """
        if not isinstance(arch, Mapping):
            raise SampleValidationError(
                f"an architecture is a dict from label to value, but got {arch!r}"
            )
        return partial(cls._frozen_for, dict(arch))

    @classmethod
    def _frozen_for(cls, arch: Sample, /, *args: Any, **kwargs: Any) -> Self:
        def check_with_whole_space() -> None:
            with building_for(None), torch.device("meta"):
                cls(*args, **kwargs).read(arch)

        try:
            with building_for(Slim(arch)), frozen_context(arch):
                space: Self = cls(*args, **kwargs)
            values = Mutable.read(space, arch)
        except NasSpaceError:
            check_with_whole_space()  # which knows all labels, and where they are used
            raise
        for name, value in arch.items():
            if name not in values.active and not is_retired(name, value, cls.retired_labels):
                check_with_whole_space()
                break
        return cast(Self, Freezer(values, "move").module(space))

    @classmethod
    def load_searched_model(
        cls, name: str, pretrained: bool = False, download: bool = False, progress: bool = True
    ) -> nn.Module:
        """A network of a published architecture.

        Raises
        ------
        UsageError
            If none of that name is known; the base class knows none.
        """
        del pretrained, download, progress
        raise UsageError(f"{cls.__name__} has no published architectures, so none named {name!r}")

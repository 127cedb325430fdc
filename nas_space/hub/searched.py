"""Spaces of which architectures have been published, and how to get these as networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from ..errors import CheckpointError
from ..nn import ModelSpace
from .pretrained import load_checkpoint
from .published import Published, find

__all__ = ["SearchedSpace"]


class SearchedSpace(ModelSpace):
    """Base class of spaces that others have searched before."""

    published: ClassVar[Mapping[str, Published]] = {}
    """Their findings, by name."""
    example_shape: ClassVar[tuple[int, ...]] = (3, 224, 224)
    last_layer: ClassVar[str] = "classifier"
    """The module that keeps fresh weights where there is another number of labels."""

    @classmethod
    def load_searched_model(
        cls,
        name: str,
        pretrained: bool = False,
        download: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Return a network of a published architecture.

        Parameters
        ----------
        name
            One of those that the class documents.
        pretrained
            Whether to load the published weights.  With another number of labels than 1000,
            the classifier keeps its fresh ones.
        download
            Whether the weights may be fetched if they are not in the local cache.
        progress
            Whether a download shows its progress.
        kwargs
            Arguments of the class that are not the published architecture's own.

        Raises
        ------
        UsageError
            If the name is unknown.
        CheckpointError
            If the weights are not to be had, or damaged.

        Examples
        --------
        >>> from nas_space.hub import MobileNetV3Space, ProxylessNAS
        >>> net = ProxylessNAS.load_searched_model("proxyless-mobile")
        >>> sum(parameter.numel() for parameter in net.parameters())
        4080512
        >>> net = MobileNetV3Space.load_searched_model("mobilenetv3-small-100")
        >>> sum(parameter.numel() for parameter in net.parameters())
        2542856
        """
        published = find(name, cls.published, cls.__name__)
        network = cls.frozen_factory(published.architecture)(**{**published.arguments, **kwargs})
        if pretrained:
            if not published.checkpoint:
                raise CheckpointError(
                    f"{name} was published without weights that can be loaded here; leave out "
                    "pretrained=True, and train it"
                )
            load_checkpoint(
                network,
                published.checkpoint,
                head=cls.last_layer,
                download=download,
                progress=progress,
            )
        return network

"""``ModelSpace``: a network that describes many, and owns the weights of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import nn

from ..errors import DecompositionError, DomainError, SampleValidationError, SpaceError, UsageError
from ..extensions import call as call_registered
from ..mutable import MutableSymbol, Sample, Values
from ..mutable.factors import combinations_of
from ..tables import grid
from ..tables.queryable import Queryable
from .activation import Activation, current
from .compilation import compile_regions
from .copy_on_write import SharedWeights
from .digests import network_digest
from .factory import build_network
from .freezing import Freezer
from .inactive_labels import Symbols
from .own_freeze import parts_apart
from .restricted import RestrictedSpace, random
from .root import RootModule, refuse_frozen

__all__ = ["ModelSpace", "architecture_digest"]

_ATTEMPTS = 100_000
"""Draws that may be rejected for one that constraints in Python allow."""

_FEW = 2**16
"""How many combinations are gone through in order, those that constraints forbid included."""


class ModelSpace(SharedWeights, Queryable, RootModule):
    """Base class of a space of networks: an ordinary module, written with choices in it.

    The space holds the weights of every architecture it describes.  An architecture is a
    plain dictionary from label to value.  Of one, :meth:`freeze` makes a plain network that
    inherits the weights; :meth:`activate` runs the space itself as that architecture.

    Without ``label_prefix``, every choice needs a label of its own.  With
    ``class Net(ModelSpace, label_prefix='net')``, choices without one are numbered, and all
    labels begin with ``net/``; so do those of a space without a prefix that is a part of it.

    Attributes
    ----------
    example_shape
        The shape of one sample, without the batch, where nothing else is said.
    retired_labels
        Labels that architectures published for this space may carry though it has no such
        choice, with the one value that they may have.

    Raises
    ------
    LabelError
        If a choice has no label, or two different ones have the same.
    ExpressionError
        If a plain layer of torch is given an expression.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         width = Categorical([4, 8], label="width")
    ...         self.first = MutableLinear(2, width)
    ...         self.second = MutableLinear(width, 1)
    ...
    ...     def forward(self, x):
    ...         return self.second(self.first(x).relu())
    >>> space = Net()
    >>> arch = space.sample(seed=0)
    >>> arch
    {'width': 8}
    >>> x, net = torch.randn(3, 2), space.freeze(arch)
    >>> with space.activate(arch):
    ...     torch.equal(space(x), net(x))
    True
    """

    example_shape: ClassVar[tuple[int, ...] | None] = None

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        # Within ``__call__``, which stays torch's own: a frozen network is called, and compiled, as
        # any other, and asks for no context.
        if "_architecture" in self.__dict__:
            return super()._call_impl(*args, **kwargs)
        here = current()
        if here is None or here.is_single:
            return super()._call_impl(*args, **kwargs)
        run = partial(here.called, self, nn.Module._call_impl.__get__(self))
        return here.whole(lambda *args, **kwargs: run(args, kwargs), args, kwargs)

    # -- naming architectures ------------------------------------------------------------------

    def _repr_html_(self) -> str:
        return str(call_registered("html", self))

    def canonical(self, arch: Mapping[str, Any]) -> Sample:
        """Return an architecture with its active labels only, in the space's order.

        Two architectures with the same canonical form are the same network.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> space = ProxylessNAS(width_mult=0.25)
        >>> arch = space.sample(seed=0)
        >>> space.canonical({"s7_depth": 1} | arch) == arch
        True
        """
        active = self.read(arch).active
        return {name: active[name] for name in self.simplify() if name in active}

    def arch_id(self, arch: Mapping[str, Any]) -> str:
        """Return a digest of the :meth:`canonical` form: the same in every process and release."""
        return architecture_digest(self.canonical(arch), self.symbols())

    def network_id(self, arch: Mapping[str, Any]) -> str:
        """Return a digest of the frozen network's structure, layer by layer, without weights.

        Two architectures have the same exactly if they freeze to the same network; they may have
        different labels, for example where two candidates of a choice are the same layer.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.

        Examples
        --------
        >>> from nas_space.nn import LayerChoice, ModelSpace
        >>> class Net(ModelSpace):
        ...     def __init__(self):
        ...         super().__init__()
        ...         candidates = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Identity()}
        ...         self.layer = LayerChoice(candidates, label="layer")
        >>> a, b, c = (Net().network_id({"layer": name}) for name in "abc")
        >>> a == b, a == c
        (True, False)
        """
        return network_digest(self.freeze(self.canonical(arch), device="meta"))

    def explain(self, arch: Mapping[str, Any], input_shape: tuple[int, ...] | None = None) -> Any:
        """Say what an architecture is, module by module; see :func:`nas_space.explain`.

        Costs are known above this layer, which registers the function that is called here; see
        :mod:`nas_space.extensions`.
        """
        return call_registered("explain", self, arch, input_shape)

    # -- choosing architectures ----------------------------------------------------------------

    def _draws_at_most(self) -> int:
        refuse_frozen(self)
        return _ATTEMPTS

    random = random

    def grid(self, memo: Sample | None = None, granularity: int | None = None) -> Iterator[Any]:
        combinations = combinations_of(list(self.symbols().values()))
        few = combinations is not None and combinations <= _FEW
        if memo or granularity is not None or few or not self.constraints():
            yield from super().grid(memo, granularity)
            return
        try:
            for arch in grid(self):  # without going through what the constraints forbid
                if memo is not None:
                    memo.clear()
                    memo.update(arch)
                yield self.freeze(arch)
        except (DecompositionError, DomainError):
            yield from super().grid(memo, granularity)

    def where(self, *conditions: Any, attempts: int | None = None) -> RestrictedSpace:
        """Return the architectures that meet some conditions, as a space.

        See :func:`nas_space.tables.restrict`.  The space stays as it is, and its weights are
        those of the restricted one.  A cost is about labels: that of a space with other labels
        is refused, that of one with the same labels and other widths is taken as it is.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> from nas_space.mutable import MutableExpression
        >>> space = ProxylessNAS(width_mult=0.25)
        >>> depth = MutableExpression.sum(space.simplify()[f"s{i}_depth"] for i in range(2, 7))
        >>> space.where(depth <= 6).count()
        1446336
        """
        return RestrictedSpace.of(self, conditions, attempts)

    # -- running and freezing ------------------------------------------------------------------

    def activate(self, arch: Mapping[str, Any]) -> Activation:
        """Return a context in which the space runs as one architecture, with the shared weights.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        """
        refuse_frozen(self)
        self.check_shared_weights()
        return Activation(self.read(arch))

    def check_shared_weights(self) -> None:
        """Raise if a part is only what its constructor made for one architecture.

        Raises
        ------
        SpaceError
            If the space, or a part with choices of its own, says by its own ``freeze`` what it
            becomes: that has weights of its own, so there are none to share.
        """
        state = self.__dict__
        if "_apart" not in state:  # looked for once, as the structure is
            state["_apart"] = list(parts_apart(self))
        for path, kind in state["_apart"]:
            raise SpaceError(
                f"{path or 'the space'!r}, a {kind}, says by its own freeze(...) what it becomes, "
                "so it shares no weights between architectures and cannot run as one; run "
                "space.freeze(arch), or write it with layers of nas_space.nn"
            )

    def freeze(
        self,
        sample: Mapping[str, Any],
        *,
        weights: Literal["copy", "share"] = "copy",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Return a plain network of one architecture, with the weights of the space.

        No constructor runs.  The network keeps the classes of a user's own modules, and the
        layers of this library become plain layers of torch.

        Parameters
        ----------
        sample
            The architecture.  Labels that are not active are checked and dropped.
        weights
            ``'copy'``, or ``'share'`` for a view of the space's parameters to evaluate with:
            what would move, train or save it copies them first. Of a parameter cut in such a
            way that gaps remain, the part is copied at once.
        device, dtype
            Where the weights go, and the type of the floating-point ones.

        Raises
        ------
        SampleValidationError
            If the architecture is not in the space.
        SpaceError
            If the space is a frozen network already, or holds what cannot be frozen, such as a
            function that closes over it.
        """
        refuse_frozen(self)
        if weights not in {"copy", "share"}:
            raise UsageError(f"weights must be 'copy' or 'share', but got {weights!r}")
        freezer = Freezer(self.read(sample), weights, device, dtype)
        with torch.inference_mode(False):  # else the network could never be trained
            network = cast(Self, freezer.module(self))
        if weights == "share":
            network._share(freezer.parameters())
        return network

    def freeze_values(self, values: Values) -> nn.Module:
        refuse_frozen(self)
        return super().freeze_values(values)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        network = super().freeze_module(freezer)
        mine, active = self.architecture, freezer.values.active
        if mine is None:  # else it is a frozen network, as a part of another space
            mine = {name: active[name] for name in self.simplify() if name in active}
        network.__dict__["_architecture"] = mine
        return network

    @property
    def architecture(self) -> Sample | None:
        """The architecture that a frozen network has; ``None`` for a space."""
        found = self.__dict__.get("_architecture")
        return None if found is None else dict(found)

    torch.jit.unused(architecture)  # scripting compiles properties, and this is Python

    def compile_regions(self, **options: Any) -> list[str]:
        """Compile the parts of the space; see :func:`nas_space.nn.compilation.compile_regions`.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> space = ProxylessNAS(width_mult=0.25)
        >>> len(space.compile_regions())
        129
        """
        return compile_regions(self, **options)

    # -- networks without a space --------------------------------------------------------------

    @classmethod
    def frozen_factory(cls, arch: Mapping[str, Any]) -> Callable[..., Self]:
        """Return a function that builds the network of one architecture, without the space.

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
        return partial(cast("Callable[..., Self]", build_network), cls, dict(arch))

    @classmethod
    def load_searched_model(
        cls, name: str, pretrained: bool = False, download: bool = False, progress: bool = True
    ) -> nn.Module:
        """Return a network of a published architecture.

        Raises
        ------
        UsageError
            If none of that name is known; the base class knows none.
        """
        del pretrained, download, progress
        raise UsageError(f"{cls.__name__} has no published architectures, so none named {name!r}")


def architecture_digest(canonical: Sample, known: Symbols) -> str:
    """Return sixteen hex digits that tell architectures of one space apart."""
    plain = {name: _as_json(value, known[name]) for name, value in canonical.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json(value: Any, symbol: MutableSymbol[Any]) -> Any:
    """Return a value as JSON can hold it: itself, or else its number among those of the symbol."""
    try:
        json.dumps(value)
    except TypeError:
        return ["code", symbol.code(value)]
    return value

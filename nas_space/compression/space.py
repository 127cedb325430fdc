"""``elastic``: a space from a network that exists."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..mutable import Sample
from ..nn import ModelSpace
from ..nn.copying import copied
from ..nn.freezing import Freezer
from .absorbing import absorb
from .adopted import Adopted, origin_of
from .analysis import analyse, report
from .blocks import BlockRun, sort_runs
from .building import Building
from .calling import arguments_of, undisturbed
from .checks import batches_in, check_inputs, check_network, check_plain
from .groups import Groups
from .options import Options
from .parts import running
from .recognition import check_alike, frozen_to
from .refitting import refit
from .saving import became, guard_saving, sizes_in_config
from .sorting import Loss, TensorLayout, in_order, sort
from .symbolic import forgetting_caches, keeping

__all__ = ["ElasticSpace", "elastic"]


@dataclass
class _ElasticState:
    """What a space knows of itself beside its modules: by ``origin``, its network's own note."""

    original: Sample
    groups: Groups
    plan: TensorLayout
    runs: list[BlockRun]
    origin: tuple[Any, Any]
    orders: dict[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> str:
        """A digest of the order in which channels and blocks come."""
        channels = {name: list(map(int, order)) for name, order in sorted(self.orders.items())}
        blocks = [run.paths for run in self.runs]
        return hashlib.sha256(json.dumps([channels, blocks]).encode()).hexdigest()[:16]


class ElasticSpace(ModelSpace, Adopted):
    """A space made of a network by :func:`nas_space.elastic`, of which it is one architecture.

    It has the attributes, the methods and the keys of the network.
    """

    @property
    def original(self) -> Sample:
        """The architecture that the network was."""
        return self.canonical(self._state.original)

    def groups(self) -> Groups:
        """Return what varies together, where, in which steps; what is fixed, and why."""
        return self._state.groups

    def sort_channels(
        self,
        data: Iterable[Any] | None = None,
        *,
        by: Literal["magnitude", "activation", "taylor"] | Callable[..., Tensor] | None = None,
        loss: Loss | None = None,
    ) -> Self:
        """Put the most important channels first; what the network computes stays the same.

        A choice keeps the first channels, so this decides which ones.  Channels whose order is
        told from outside, such as those of an output, stay where they are.

        Parameters
        ----------
        data
            Batches of inputs of the network, each in the form of the inputs of
            :func:`nas_space.elastic`.
        by
            ``'magnitude'``: the squares of all weights of a channel.  ``'activation'``: the
            power of what a channel has, times that of the weights that read it.  ``'taylor'``:
            the square of the first-order change of the loss if it were zero (Molchanov et al.,
            Importance Estimation for Neural Network Pruning, 2019).  Or a function of the name
            of a parameter and its tensor, which gives the importance of each element.  By
            default, activation where there are data, and else magnitude.
        loss
            For ``'taylor'``, a number made of what the network returns; by default the mean
            square of that.

        Returns
        -------
        ElasticSpace
            The space itself, whose tensors were permuted in place.

        Raises
        ------
        UsageError
            If the order is not known, or needs data.

        Examples
        --------
        >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
        >>> x = torch.randn(8, 4)
        >>> space = elastic(net, x).sort_channels([x])
        >>> torch.allclose(space.freeze(space.original)(x), net(x), atol=1e-6)
        True
        """
        batches = [] if data is None else batches_in(data, self, "sort_channels")
        sort(self, self._state.plan, self._state.orders, batches, by, loss)
        return self

    def sort_blocks(
        self,
        data: Iterable[Any] | None = None,
        *,
        by: Literal["end", "influence", "output"] | Callable[[str, nn.Module], float] | None = None,
    ) -> Self:
        """Have depths keep the most important blocks, in their order; nothing is moved.

        Parameters
        ----------
        data
            Batches of inputs of the network.
        by
            ``'output'``: by how much the output of the network changes without the block, in the
            mean square.  ``'influence'``: one less the cosine between what goes into a block and
            what comes out (Men et al., ShortGPT: Layers in Large Language Models are More
            Redundant Than You Expect, 2024).  ``'end'``: the last ones are left out first, as
            before any sorting.  Or a function of the path of a block and the block.  By default
            the output where there are data, and else the end.

        Returns
        -------
        ElasticSpace
            The space itself.

        Raises
        ------
        UsageError
            If the order is not known, or needs data.

        Examples
        --------
        >>> class Block(nn.Module):
        ...     def __init__(self, scale):
        ...         super().__init__()
        ...         self.scale, self.layer = scale, nn.Linear(4, 4)
        ...
        ...     def forward(self, x):
        ...         return x + self.scale * self.layer(x)
        >>> net = nn.Sequential(Block(0.0), Block(1.0), Block(2.0)).eval()
        >>> x = torch.randn(8, 4)
        >>> space = elastic(net, x).sort_blocks([x])
        >>> small = space.freeze(space.original | {"depth": 2})
        >>> torch.equal(small(x), net(x))
        True
        """
        batches = [] if data is None else batches_in(data, self, "sort_blocks")
        sort_runs(self, [run for run in self._state.runs if run.is_counted], batches, by)
        return self

    def refit(
        self,
        network: nn.Module,
        data: Iterable[Any],
        teacher: nn.Module | None = None,
        *,
        ridge: float = 1e-3,
    ) -> nn.Module:
        """Fit what reads a cut group, by least squares, to what the teacher computes there.

        Without labels and without training: layer by layer in the order of the forward, the
        weights of each linear layer or convolution that reads fewer channels than in the teacher
        are those that reconstruct its output best, given what the smaller network has there: the
        sum, where the output is added to something, and by directions where that is normalised.
        Rows of padding, by the ``attention_mask`` in a batch, do not count, here and in
        :meth:`sort_channels`.

        Parameters
        ----------
        network
            A network that the space was frozen to.  Its weights are changed in place.
        data
            Batches of inputs for calibration.
        teacher
            The network that the space was made of, or one that it was frozen to which is larger in
            every choice; by default the original.  Of the former, what :meth:`sort_channels` has
            moved in the space is copied, so that rows are the same where they are channels.
        ridge
            How much the weights are held where they are, as a part of the mean power of inputs.

        Returns
        -------
        nn.Module
            The network.

        Raises
        ------
        UsageError
            If the network was not frozen from a space, or there are no data.

        Examples
        --------
        >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
        >>> x = torch.randn(256, 4)
        >>> space = elastic(net, x)
        >>> small = space.freeze({"0.width": 8})
        >>> before = (small(x) - net(x)).square().mean()
        >>> after = (space.refit(small, [x])(x) - net(x)).square().mean()
        >>> bool(after < before)
        True
        """
        state = self._state
        arch = frozen_to(self, state.order, network, "refit")
        model_arch = None
        if teacher is None:
            teacher = self.freeze(self.original)
            model_arch = self.original
        else:
            check_plain(teacher, "the teacher")
            if origin_of(teacher) == state.origin:
                check_alike(self.freeze(self.original, device="meta"), teacher, "the teacher")
                if state.orders:
                    teacher = in_order(teacher, state.plan, state.orders)
            else:
                model_arch = frozen_to(self, state.order, teacher, "the teacher")
        if not ridge >= 0:
            raise UsageError(f"ridge must be at least 0, but is {ridge}")
        batches = batches_in(data, network, "refit")
        for batch in batches:
            check_inputs(teacher, batch, "the teacher")
        refit(self, state.plan, network, arch, batches, teacher, model_arch, ridge)
        return network

    def absorb(self, network: nn.Module) -> Self:
        """Take over the weights of a network that the space was frozen to, as they are by now.

        So a smaller network can go on from what a larger one has learnt.

        Parameters
        ----------
        network
            A network that the space was frozen to, trained since.

        Returns
        -------
        ElasticSpace
            The space itself, of whose tensors the part that the network has is changed in place.

        Raises
        ------
        UsageError
            If the network was not frozen from a space, or not to these sizes.

        Examples
        --------
        >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
        >>> space = elastic(net, torch.randn(8, 4))
        >>> small = space.freeze({"0.width": 8})
        >>> _ = small[0].bias.data.fill_(1.0)
        >>> space.absorb(small).freeze(space.original)[0].bias[:9].tolist()[6:8]
        [1.0, 1.0]
        """
        arch = frozen_to(self, self._state.order, network, "absorb")
        absorb(self, self._state.plan, network, arch)
        return self

    @property
    def _state(self) -> _ElasticState:
        found: _ElasticState = self.__dict__["_elastic"]
        return found

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        network, state = super().freeze_module(freezer), self._state
        vars(network).pop("_elastic", None)
        vars(network)["_order"] = state.order
        if hasattr(network, "save_pretrained") and hasattr(network, "config"):
            changed = became(self, state.plan, freezer.values)
            sizes_in_config(network, changed)
            guard_saving(network, changed)
        return network

    def freeze(
        self,
        sample: Mapping[str, Any],
        *,
        weights: Literal["copy", "share"] = "copy",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        if weights == "copy":
            return super().freeze(sample, weights=weights, device=device, dtype=dtype)
        raise UsageError("a network that was given cannot be frozen with weights='share'")


def elastic(
    net: nn.Module,
    inputs: Any,
    *,
    widths: Sequence[float] = (0.5, 0.75, 1.0),
    depth: bool | Literal["any"] = True,
    kernels: bool | Sequence[int] = False,
    divisor: int = 8,
    fixed: Sequence[str] = (),
    only: Sequence[str] = ("*",),
    outputs: Literal["fixed", "free"] = "fixed",
    share: Literal["layer", "kind"] = "layer",
    in_place: bool = False,
) -> ElasticSpace:
    """Return a space of smaller networks, of which a network that exists is the largest.

    The forward of the network is run on symbolic sizes, which tells what varies together, and on
    numbers of channels, which tells in which order they are.  Every choice is tried before it is
    offered.  What cannot vary is fixed, and :meth:`ElasticSpace.groups` says why.

    Parameters
    ----------
    net
        Any module, in evaluation mode.  Its code stays as it is.
    inputs
        What its forward is called with: a tensor, a tuple of arguments, or a dictionary of
        arguments by name.
    widths
        Which parts of a width are offered; 1.0 always is.
    depth
        Whether blocks whose output is shaped like their input may be left out: so many of each
        run of blocks, of which :meth:`ElasticSpace.sort_blocks` says which, or with ``'any'``
        each by a label of its own.
    kernels
        Whether kernels of convolutions may be smaller, around the same middle: all odd sizes from
        3 on, or which.
    divisor
        Widths are multiples of it, where they are large enough.
    fixed, only
        Patterns of labels that are fixed, and of those that may vary.
    outputs
        Whether sizes that reach an output of the network may vary.
    share
        One label for each layer, or one for all layers of a kind.
    in_place
        Whether the network itself becomes the space, instead of a copy.

    Returns
    -------
    ElasticSpace
        ``space.original`` is the architecture that the network is.  Where nothing can vary, it has
        no labels, and the groups say why.

    Raises
    ------
    UsageError
        If the network or the inputs are not what is needed.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    >>> space = elastic(net, torch.ones(1, 4))
    >>> space.groups()
    0.width: 8, 16 (width of 3 places: 0.weight[0], 0.bias[0], 2.weight[1])
    fixed:
    ...
    >>> space.freeze({"0.width": 8})
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    sizes = kernels if isinstance(kernels, bool) else tuple(kernels)
    options = Options(
        tuple(widths), depth, sizes, divisor, tuple(fixed), tuple(only), outputs, share
    )
    options.check()
    check_network(net, ElasticSpace)
    check_inputs(net, inputs)
    args, kwargs = arguments_of(inputs)
    # On the network itself, so that no copy is held beside what is cut while it is tried.
    with keeping(net):
        for module in net.modules():
            module.training = False
        with running("the network"), torch.no_grad(), undisturbed(net), forgetting_caches(net):
            net(*args, **kwargs)
        found = analyse(net, args, kwargs, options)
    work = net if in_place else _copied(net)
    building = Building(work, found, options)
    groups = report(found, building.labels, [*building.depths, *building.kernel_groups()])
    _check_patterns(options, groups)
    building.run(ElasticSpace)
    space = cast(ElasticSpace, work)
    origin = origin_of(space)
    for name in ("_architecture", "_order"):  # of the space that a smaller network came from
        space.__dict__.pop(name, None)
    space.__dict__["_arguments"] = ((), {})
    space.__dict__["_elastic"] = _ElasticState(
        building.original, groups, building.plan(), building.runs, origin
    )
    space.refresh()
    return space


def _copied(net: nn.Module) -> nn.Module:
    try:
        return copied(net)
    except Exception as error:
        raise UsageError(
            f"the network cannot be copied: {error}; give in_place=True to make the space of the "
            "network itself"
        ) from error


def _check_patterns(options: Options, groups: Groups) -> None:
    known = [group.label for group in (*groups, *groups.fixed)]
    for pattern in (*options.fixed, *options.only):
        if not any(fnmatch.fnmatchcase(label, pattern) for label in known):
            shown = ", ".join(known[:8])
            raise UsageError(
                f"no label is like {pattern!r}; there are {shown}{', ...' * (len(known) > 8)}"
            )

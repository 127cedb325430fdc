"""Whether a network is one that a space was frozen to.

A frozen network is a plain module, so what it came from is a note on it: its architecture, and a
digest of the order in which its channels and blocks came.  A note is no proof.  The space is
frozen to the same architecture once more, without values, and the two must be alike: the same
modules of the same classes, with tensors of the same names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from ..errors import SampleValidationError, UsageError
from ..mutable import Sample
from .adopted import origin_of
from .checks import check_plain
from .symbolic import own_tensors

__all__ = ["check_alike", "frozen_to"]


def frozen_to(space: Any, order: str, network: Any, who: str) -> Sample:
    """Return the architecture that a space was frozen to.

    Parameters
    ----------
    space
        The space.
    order
        The digest of its order.
    network
        What came out, trained since or not.
    who
        What the network is, for the message.

    Raises
    ------
    UsageError
        It is no network of this space as the space is now.
    """
    check_plain(network, who)
    arch, its_order = origin_of(network)
    kind = type(network).__name__
    if not isinstance(arch, Mapping):
        raise UsageError(
            f"{who} takes a network that this space was frozen to, but this {kind} was not frozen "
            "from a space, or is wrapped; give space.freeze(arch), trained or not"
        )
    try:
        wanted = space.freeze(arch, device="meta")
    except SampleValidationError as error:
        raise UsageError(
            f"{who} takes a network that this space was frozen to, but this {kind} was frozen from "
            f"another one: {error}"
        ) from error
    check_alike(wanted, network, who)
    if its_order is None:
        raise UsageError(
            f"{who} takes a network that has its channels and blocks in the order of the space, "
            f"but this {kind} was frozen by an earlier version, which did not note the order; if "
            "the space is sorted as it was then, put its weights into one that has the note: "
            "again = space.freeze(arch); again.load_state_dict(network.state_dict())"
        )
    if its_order != order:
        raise UsageError(
            f"{who} takes a network that has its channels and blocks in the order of the space, "
            f"but this {kind} was frozen from another space, or before this one was sorted; freeze "
            "it after sort_channels and sort_blocks"
        )
    return dict(arch)


def check_alike(wanted: nn.Module, network: nn.Module, who: str) -> None:
    """Raise if a network differs from another in more than the values of tensors.

    Raises
    ------
    UsageError
        With the path of what differs.
    """
    ours, theirs = dict(wanted.named_modules()), dict(network.named_modules())
    for path in dict.fromkeys([*ours, *theirs]):
        mine, found = ours.get(path), theirs.get(path)
        if mine is None or found is None:
            difference = "is not there" if found is None else "was added"
        elif _kind(mine) != _kind(found):
            difference = f"is a {type(found).__name__}, not a {type(mine).__name__}"
        else:
            difference = _tensors_differ(mine, found)
        if difference:
            raise UsageError(
                f"{who} takes a network as it was frozen, its tensors trained or not, but "
                f"{path or 'the network'} {difference}"
            )


def _kind(module: nn.Module) -> tuple[type, bool]:
    """The class of a module, which torch makes anew for each that has parametrizations."""
    own: type = parametrize.type_before_parametrizations(module)
    return own, parametrize.is_parametrized(module)


def _tensors_differ(mine: nn.Module, found: nn.Module) -> str:
    shapes, others = (
        {name: tuple(tensor.shape) for name, tensor in own_tensors(module).items()}
        for module in (mine, found)
    )
    for name in dict.fromkeys([*shapes, *others]):
        one, other = shapes.get(name), others.get(name)
        if one != other:
            return f"has a {name} of {other or 'no shape'}, not of {one or 'no shape'}"
    return ""

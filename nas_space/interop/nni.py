"""Spaces of this library under the real NNI 3.0.

NNI is archived and needs older versions of what it shares with this library, so it is never
imported before one of these functions is called; ``pip install 'nas-space[nni]'``, best into an
environment of its own, has what it needs.

Examples
--------
Its strategies run on what :func:`to_nni` gives, unmodified::

    nni_space = to_nni(space)
    experiment = NasExperiment(nni_space, evaluator, nni.nas.strategy.DARTS())
    experiment.run()
    load_supernet(space, nni_space)
    network = space.freeze(experiment.export_top_models(formatter="dict")[0])
"""

from __future__ import annotations

import re
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ..errors import SpaceError, UsageError

__all__ = ["load_supernet", "to_nni"]

_INSTALL = "pip install 'nas-space[nni]', best into an environment of its own"


def to_nni(space: Any) -> Any:
    """An NNI ``ModelSpace`` of the same labels, domains, expressions, forward and weights.

    NNI's strategies run on it through ``NasExperiment``.  What they export is an architecture
    that ``space.freeze`` takes.  Networks that they try are those of ``space.freeze``, with the
    weights of the space; or, once a one-shot strategy has made a supernet of it, with the weights
    of that.

    Parameters
    ----------
    space
        A space, or a restriction of one, whose conditions become constraints.  It stays as it is.

    Returns
    -------
    nni.nas.nn.pytorch.ModelSpace
        With copies of the weights.

    Raises
    ------
    UsageError
        If NNI is missing, too old or too new, or Lightning or setuptools are too new for it.
    SpaceError
        If something in the space has no counterpart in NNI: the message says what.
    """
    require_nni()
    from .nni_space import nni_space_class

    return nni_space_class()(space=space)


def load_supernet(space: nn.Module, nni_space: Any) -> None:
    """Copies weights that were trained in an NNI supernet into a space.

    Parameters
    ----------
    space
        Where they go.
    nni_space
        What :func:`to_nni` made of the space, or NNI's own space of the same modules, after one
        of NNI's one-shot strategies has made a supernet of it.

    Raises
    ------
    SpaceError
        If the supernet lacks a tensor of the space, or has one of another shape; nothing is
        copied then.
    """
    mine = space.state_dict(keep_vars=True)
    theirs = _weights_of(nni_space)
    missing = [name for name in mine if name not in theirs]
    other = [name for name in mine if name in theirs and mine[name].shape != theirs[name].shape]
    if missing or other:
        name = (missing + other)[0]
        found = "is missing" if missing else f"has the shape {tuple(theirs[name].shape)}"
        raise SpaceError(
            f"NNI's space holds other tensors than {type(space).__name__}: {name!r} {found} there, "
            f"and {tuple(mine[name].shape)} is needed (one of {len(missing) + len(other)}); an NNI "
            "space holds all weights only after a one-shot strategy has made a supernet of it"
        )
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(theirs[name])


def _weights_of(nni_space: Any) -> dict[str, torch.Tensor]:
    """The tensors of an NNI supernet, by the names they had before it was made one."""
    found: dict[str, torch.Tensor] = nni_space.state_dict()
    for path, module in nni_space.named_modules():
        if type(module).__name__ == "ProxylessMixedRepeat":
            # A block that may be left out stands there as the second of two candidates.
            start = re.escape(f"{path}.blocks" if path else "blocks")
            pattern = re.compile(rf"({start}\.(\d+))\.1\.")
            least = module.min_depth
            found = {
                pattern.sub(lambda m: f"{m[1]}." if int(m[2]) >= least else m[0], name, count=1): t  # noqa: B023
                for name, t in found.items()
            }
    return found


def require_nni() -> None:
    """Raises :class:`UsageError` unless NNI 3.0 is installed with what it needs."""
    found = _version("nni")
    if found is None:
        raise UsageError(f"NNI is not installed: {_INSTALL}")
    if not found.startswith("3."):
        age = "old" if int(found.split(".")[0]) < 3 else "new"
        raise UsageError(f"NNI {found} is too {age}: 3.0 is needed; {_INSTALL}")
    lightning = _version("pytorch-lightning")
    if lightning is None:
        raise UsageError(f"NNI needs pytorch-lightning, which is not installed: {_INSTALL}")
    if int(lightning.split(".")[0]) >= 2:
        raise UsageError(
            f"NNI 3.0 does not work with pytorch-lightning {lightning}: "
            f"pip install 'pytorch-lightning>=1.8,<1.9'; or {_INSTALL}"
        )
    if lightning.startswith("1.9") and _version("lightning-fabric") is not None:
        raise UsageError(
            "pytorch-lightning 1.9 and lightning-fabric overwrite each other's files: "
            "pip install 'pytorch-lightning>=1.8,<1.9', and then "
            "pip install --force-reinstall --no-deps lightning-fabric"
        )
    if find_spec("pkg_resources") is None:
        raise UsageError(
            "pytorch-lightning 1 needs pkg_resources, which newer versions of setuptools do not "
            f"have: pip install 'setuptools<80'; or {_INSTALL}"
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

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

from importlib import metadata
from importlib.util import find_spec
from typing import Any

from ..errors import UsageError
from .nni_weights import load_supernet

__all__ = ["load_supernet", "to_nni"]

_INSTALL = "pip install 'nas-space[nni]', best into an environment of its own"


def to_nni(space: Any) -> Any:
    """Return an NNI ``ModelSpace`` of the same labels, domains, expressions, forward and weights.

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


def require_nni() -> None:
    """Raise :class:`UsageError` unless NNI 3.0 is installed with what it needs."""
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

"""``load_search``: read a search from where its trials are kept, without the space it is of."""

from __future__ import annotations

from typing import Any

import optuna

from ..errors import StorageError, suggest
from .definition import SearchDefinition
from .ledger import WEIGHTS
from .network_files import networks_of
from .passwords import without_password
from .result import SearchResult
from .storage import Storage, file_of, open_storage, reading
from .studies import NoSampler, quiet

__all__ = ["load_search"]


def load_search(storage: Storage, name: str | None = None, *, space: Any = None) -> SearchResult:
    """Return what a search has found, from where its trials are kept.

    Parameters
    ----------
    storage
        As for ``search``.
    name
        Of the study; not needed where there is one only.
    space
        What was searched.  Without it, networks cannot be had from the result.

    Raises
    ------
    StorageError
        If the storage cannot be reached, there is no such study in it, or it is of another
        space.

    Examples
    --------
    >>> import tempfile
    >>> import nas_space as ns
    >>> from nas_space.hub import ProxylessNAS
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = f"{folder}/search.db"
    ...     found = ns.search(
    ...         space, lambda net, arch: len(arch), trials=5, weights="none", storage=store
    ...     )
    ...     load_search(store).best() == found.best()
    True
    """
    if (file := file_of(storage)) is not None and not file.exists():
        raise StorageError(f"there is no file {without_password(storage)!r}")
    with quiet(), reading(storage):
        study = _find(open_storage(storage), name, without_password(storage))
        definition = SearchDefinition.in_study(study)
        assert definition is not None
        if space is not None:
            definition.check_space(SearchDefinition.of(space, ()), study, storage)
        networks = networks_of(storage, study.study_name, 0)
        weights = study.user_attrs.get(WEIGHTS, "inherit")
        result = SearchResult(study, space, definition.measured(), weights, networks)
        _ = result.outcomes  # reads them all, and is kept
    return result


def _find(storage: optuna.storages.BaseStorage, name: str | None, where: str) -> optuna.Study:
    """The study of a name, or the only one, among those that are searches of ours."""
    studies = [
        optuna.load_study(study_name=each, storage=storage, sampler=NoSampler())
        for each in optuna.get_all_study_names(storage)
    ]
    found = {s.study_name: s for s in studies if SearchDefinition.in_study(s) is not None}
    if name is None and len(found) == 1:
        [name] = found
    if name is None:
        raise StorageError(f"{where!r} holds the searches {list(found)}; say which is meant")
    if name not in found:
        raise StorageError(
            f"there is no search {name!r} in {where!r}{suggest(name, found)}; there are "
            f"{list(found)}"
        )
    return found[name]

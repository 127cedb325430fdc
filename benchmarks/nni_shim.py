"""What stands in the place of NNI's own modules when its unit tests are run on this library.

The tests are migrated as any code is; what is left of NNI's names in them is internal to NNI: the
formats in which it wraps spaces, its counters of labels, a comparison of mutables.  Here these are
a few lines each, over this library.  What is not here, its tests cannot have.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

import nas_space
import nas_space.nn
from nas_space import mutable
from nas_space.errors import NasSpaceError
from nas_space.interop import nni_compat
from nas_space.interop.nni_compat import mutable_equal
from nas_space.mutable import labels
from nas_space.nn import parametrized

__all__ = ["Raises", "install"]


class Wrapped:
    """A space, in the format in which NNI would have it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @classmethod
    def from_model(cls, model: Any) -> Wrapped:
        return cls(model)

    def freeze(self, sample: Any) -> Wrapped:
        return type(self)(self.model.freeze(sample))

    def executable_model(self) -> Any:
        return self.model

    def random(self, *args: Any, **kwargs: Any) -> Wrapped:
        return type(self)(self.model.random(*args, **kwargs))

    def grid(self, *args: Any, **kwargs: Any) -> Iterator[Wrapped]:
        return (type(self)(model) for model in self.model.grid(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


class RawFormatModelSpace(Wrapped):
    """One of NNI's formats."""


class SimplifiedModelSpace(Wrapped):
    """One of NNI's formats."""


class GraphModelSpace(Wrapped):
    """One of NNI's formats."""


class PytorchGraphModelSpace(GraphModelSpace):
    """One of NNI's formats."""


def unique_by_label(mutables: Any) -> dict[str, Any]:
    """Return mutables by label; two of one label must be equal."""
    found: dict[str, Any] = {}
    for each in mutables:
        known = found.setdefault(str(each.label), each)
        if known is not each and not known.equals(each):
            raise ValueError(f"two different mutables have the label {each.label}")
    return found


def reset_uid(*_: Any) -> None:
    """Begin to number labels from one again."""
    labels._GLOBAL._numbers = itertools.count(1)


class Raises:
    """``pytest.raises`` for whom the words of an error, and its place in the tree, may differ.

    Parameters
    ----------
    expected
        The exceptions that NNI raises.
    match
        What its message matches.
    """

    otherwise = False
    """Whether an error of this library was another one than NNI's since this was reset."""

    def __init__(self, expected: Any, *, match: str | None = None) -> None:
        self.expected, self.match = expected, match

    def __enter__(self) -> Raises:
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> bool:
        del kind, traceback
        if value is None:
            pytest.fail(f"did not raise {self.expected}")
        same = isinstance(value, self.expected)
        if same and (self.match is None or re.search(self.match, str(value))):
            return True
        Raises.otherwise = same or isinstance(value, NasSpaceError)
        return Raises.otherwise


def looked_up(*homes: Any) -> Callable[[str], Any]:
    """Return a ``__getattr__`` of a module that has the names of several."""

    def get(name: str) -> Any:
        for home in homes:
            if hasattr(home, name):
                return getattr(home, name)
        raise AttributeError(name)

    return get


def install() -> None:
    """Put the modules where ``import nni...`` finds them."""
    pytest.raises = Raises  # type: ignore[assignment]

    def module(name: str, *homes: Any, **names: Any) -> None:
        made = ModuleType(name)
        made.__path__ = []
        made.__dict__.update(names)
        if homes:
            made.__getattr__ = looked_up(*homes)  # type: ignore[method-assign]
        sys.modules[name] = made
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, made)

    module("nni", nas_space, trace=lambda cls: cls)
    module("nni.mutable", mutable)
    module(
        "nni.mutable.mutable", _mutable_equal=mutable_equal, _dedup_labeled_mutables=unique_by_label
    )
    module("nni.mutable.utils", reset_uid=reset_uid)
    module(
        "nni.mutable.symbol",
        Symbol=lambda name: mutable.Categorical([0, 1, 2, 3], label=name),
        SymbolicExpression=mutable.MutableExpression,
    )
    module("nni.common")
    module("nni.common.serializer", is_traceable=lambda _: True)
    module("nni.nas")
    module("nni.nas.evaluator", FunctionalEvaluator=None)
    module("nni.nas.evaluator.pytorch")
    module("nni.nas.evaluator.pytorch.lightning")
    module(
        "nni.nas.space",
        nas_space.nn,
        nni_compat,
        ExecutableModelSpace=Wrapped,
        GraphModelSpace=GraphModelSpace,
        RawFormatModelSpace=RawFormatModelSpace,
        SimplifiedModelSpace=SimplifiedModelSpace,
    )
    module("nni.nas.space.pytorch", PytorchGraphModelSpace=PytorchGraphModelSpace)
    module("nni.nas.hub")
    module("nni.nas.hub.pytorch")
    module("nni.nas.nn")
    module("nni.nas.nn.pytorch", nas_space.nn, nni_compat, parametrized, torch.nn)
    module("nni.nas.nn.pytorch.layers", torch.nn)
    module("nni.nas.nn.pytorch.base", strict_label_scope=labels.strict_label_scope)

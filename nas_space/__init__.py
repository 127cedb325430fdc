"""Describe spaces of neural networks in PyTorch, and search them.

>>> import nas_space as ns
>>> from nas_space.hub import ProxylessNAS
>>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
>>> net = space.freeze(space.sample(seed=0))

Names are imported when they are first used: torch only by those that need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import extensions
from .lazy import lazily

if TYPE_CHECKING:
    from . import (
        cli,
        compression,
        errors,
        executors,
        hub,
        interop,
        mutable,
        nn,
        profiler,
        report,
        runs,
        runtimes,
        strategy,
        study,
        tables,
        training,
    )
    from .compression import elastic, load_network, save_network
    from .errors import NasSpaceError
    from .mutable import (
        Categorical,
        CategoricalMultiple,
        Constraint,
        ExpressionConstraint,
        MutableDict,
        MutableExpression,
        MutableList,
        Numerical,
        SampleBatch,
        ensure_frozen,
        frozen_context,
        label_scope,
        lognormal,
        loguniform,
        make_divisible,
        normal,
        qlognormal,
        qloguniform,
        qnormal,
        quniform,
        randint,
        uniform,
    )
    from .nn import ModelSpace, active, choice
    from .report.explanation import explain
    from .runtimes import export, quantize
    from .study import search

__version__ = "0.1.0"

__all__ = [
    "Categorical",
    "CategoricalMultiple",
    "Constraint",
    "ExpressionConstraint",
    "ModelSpace",
    "MutableDict",
    "MutableExpression",
    "MutableList",
    "NasSpaceError",
    "Numerical",
    "SampleBatch",
    "active",
    "choice",
    "elastic",
    "ensure_frozen",
    "explain",
    "export",
    "frozen_context",
    "label_scope",
    "load_network",
    "lognormal",
    "loguniform",
    "make_divisible",
    "normal",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quantize",
    "quniform",
    "randint",
    "save_network",
    "search",
    "uniform",
]

# Spaces are explained above the layer that defines them.
extensions.register("explain", "nas_space.report.explanation:explain")
extensions.register("architecture_picture", "nas_space.report.architecture:architecture_picture")
extensions.register("html", "nas_space.report.notebooks:html_of")
extensions.register("bounds", "nas_space.tables.queries:bounds")

__getattr__, __dir__ = lazily(__name__)

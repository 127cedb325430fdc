"""The symbolic layer: expressions over labelled choices, without any neural network.

>>> from nas_space.mutable import Categorical, make_divisible
>>> width = Categorical([16, 24], label="width")
>>> hidden = make_divisible(width * 6, 8)
>>> hidden.freeze({"width": 24})
144
"""

from ..errors import ConstraintViolation, SampleMissingError, SampleValidationError
from .batch import SampleBatch
from .bounds import bounds, distinct_values
from .categorical import Categorical
from .constraints import Constraint, ExpressionConstraint, MutableAnnotation
from .containers import MutableDict, MutableList
from .expression import MutableExpression
from .frozen_contexts import ensure_frozen, frozen_context, frozen_factory
from .labels import auto_label, label, label_scope
from .multiple import CategoricalMultiple
from .mutable import LabeledMutable, Mutable, Sample, Values
from .numerical import Numerical
from .rounding import make_divisible
from .shortcuts import (
    choice,
    lognormal,
    loguniform,
    normal,
    qlognormal,
    qloguniform,
    qnormal,
    quniform,
    randint,
    uniform,
)
from .symbols import MISSING, MutableSymbol

__all__ = [
    "MISSING",
    "Categorical",
    "CategoricalMultiple",
    "Constraint",
    "ConstraintViolation",
    "ExpressionConstraint",
    "LabeledMutable",
    "Mutable",
    "MutableAnnotation",
    "MutableDict",
    "MutableExpression",
    "MutableList",
    "MutableSymbol",
    "Numerical",
    "Sample",
    "SampleBatch",
    "SampleMissingError",
    "SampleValidationError",
    "Values",
    "auto_label",
    "bounds",
    "choice",
    "distinct_values",
    "ensure_frozen",
    "frozen_context",
    "frozen_factory",
    "label",
    "label_scope",
    "lognormal",
    "loguniform",
    "make_divisible",
    "normal",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quniform",
    "randint",
    "uniform",
]

"""Names of NNI 3.0 for migrated code: nothing in the library needs them.

``nas-space migrate`` points imports here.  What NNI calls by a name that the library uses itself
is not here but in its own layer, as :mod:`nas_space.interop.names` tells.

>>> from nas_space.interop.nni_compat import ValueChoice
>>> ValueChoice([1, 2], label="x").candidates
[1, 2]
"""

from .choices import ValueChoice, legacy_description, mutable_equal
from .contexts import current_model, model_context, recursive_freeze
from .profilers import (
    ExpressionProfiler,
    FlopsParamsCounterConfig,
    FlopsParamsProfiler,
    FlopsProfiler,
    NumParamsProfiler,
    Profiler,
)

__all__ = [
    "ExpressionProfiler",
    "FlopsParamsCounterConfig",
    "FlopsParamsProfiler",
    "FlopsProfiler",
    "NumParamsProfiler",
    "Profiler",
    "ValueChoice",
    "current_model",
    "legacy_description",
    "model_context",
    "mutable_equal",
    "recursive_freeze",
]

"""Decisions: what the labels of a space mean while it runs.

Beside the plain :class:`~nas_space.nn.activation.Activation`, under which a space runs as one
architecture, these run it as several at once.  Strategies own the probabilities; the primitives
know none of this.
"""

from .blending import check_blendable
from .functions import apply
from .gated import Gated
from .marginals import Marginals, Outcomes
from .misread import misread
from .mixed_number import Overriding
from .traced import Slice, Traced
from .weighted import Weighted

__all__ = [
    "Gated",
    "Marginals",
    "Outcomes",
    "Slice",
    "Traced",
    "Weighted",
    "check_blendable",
    "misread",
]

Overriding.override = staticmethod(apply)

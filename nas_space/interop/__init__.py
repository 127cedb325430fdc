r"""Other libraries, one adapter each, imported on demand.

:mod:`nas_space.interop.migrate` moves code written for NNI here, and
:mod:`nas_space.interop.nni` runs the real NNI's strategies on spaces of this library.

>>> from nas_space.interop.migrate import migrate
>>> print(migrate("from nni.nas.nn.pytorch import LayerChoice\n").text, end="")
from nas_space.nn import LayerChoice
"""

__all__: list[str] = []

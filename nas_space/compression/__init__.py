"""Networks that exist, made smaller: a space from a network, and what makes it small.

>>> from torch import nn, ones
>>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
>>> space = elastic(net, ones(1, 4))
>>> space.original
{'0.width': 16}
"""

from .groups import Group, Groups
from .saving import load_network, save_network
from .space import ElasticSpace, elastic

__all__ = ["ElasticSpace", "Group", "Groups", "elastic", "load_network", "save_network"]

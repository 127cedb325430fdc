"""Searches over trials, kept by Optuna: strategy, evaluator and storage brought together.

>>> from nas_space.hub import ProxylessNAS
>>> from nas_space.study import minimize, search
>>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
>>> def evaluate(network, arch):
...     return sum(parameter.numel() for parameter in network.parameters())
>>> result = search(space, evaluate, objectives=minimize("size"), trials=5)
>>> result.top(2)[0] == result.best()
True
"""

from nas_space.study.evaluators import from_scratch, inherited
from nas_space.study.fingerprint import describe, fingerprint
from nas_space.study.intermediate import report
from nas_space.study.objectives import Objective, maximize, minimize
from nas_space.study.oneshot import OneShotResult
from nas_space.study.progress import SearchProgress, ShowProgress
from nas_space.study.result import Outcome, SearchResult
from nas_space.study.search import search
from nas_space.study.storage import open_storage
from nas_space.study.stored import load_search

__all__ = [
    "Objective",
    "OneShotResult",
    "Outcome",
    "SearchProgress",
    "SearchResult",
    "ShowProgress",
    "describe",
    "fingerprint",
    "from_scratch",
    "inherited",
    "load_search",
    "maximize",
    "minimize",
    "open_storage",
    "report",
    "search",
]

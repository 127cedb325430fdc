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

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .callbacks import SearchCallback
    from .evaluators import FromScratch, Inherited, from_scratch, inherited
    from .fingerprint import describe, fingerprint
    from .intermediate import report
    from .loading import load_search
    from .objectives import Objective, maximize, minimize
    from .oneshot import OneShotResult
    from .progress import SearchProgress, ShowProgress
    from .result import Outcome, SearchResult
    from .search import search
    from .storage import open_storage
    from .table_evaluator import TableEvaluator
    from .zero_cost import Filtered, ZeroCost, filtered, proxy_scores, zero_cost

__all__ = [
    "Filtered",
    "FromScratch",
    "Inherited",
    "Objective",
    "OneShotResult",
    "Outcome",
    "SearchCallback",
    "SearchProgress",
    "SearchResult",
    "ShowProgress",
    "TableEvaluator",
    "ZeroCost",
    "describe",
    "filtered",
    "fingerprint",
    "from_scratch",
    "inherited",
    "load_search",
    "maximize",
    "minimize",
    "open_storage",
    "proxy_scores",
    "report",
    "search",
    "zero_cost",
]

__getattr__, __dir__ = lazily(__name__)

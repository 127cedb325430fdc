"""Training and scoring networks: tasks, loops on Lightning Fabric, data, checkpoints.

A :class:`Task` is what a user brings; :func:`fit` trains a network on it, :func:`evaluate` scores
it. Everything takes plain modules; a space is one, and is trained along random architectures by
``fit(..., path=...)``.

Examples
--------
>>> import torch
>>> from torch.utils.data import TensorDataset
>>> from nas_space.training import Task, evaluate, fit
>>> x = torch.randn(256, 2)
>>> data = TensorDataset(x, (x[:, 0] > x[:, 1]).long())
>>> task = Task.classification(data, validation=data)
>>> net = fit(torch.nn.Linear(2, 2), task, epochs=10)
>>> evaluate(net, task)["accuracy"] > 0.9
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .augmentation import Jitter
    from .batch_norm import recalibrate
    from .batches import Batches, Source, training_batches
    from .checkpoint import dump_state, load_state, save_state
    from .data import Splits, load_data, split_by_class
    from .early_stopping import EarlyStopping
    from .fabric import make_fabric
    from .loop import Progress, Trainer, fit
    from .optimization import Schedule, cosine, parameter_groups
    from .proxies import grad_norm, naswot, synflow, zico
    from .scoring import evaluate, predict
    from .slices import SliceOptimizer, used_slices
    from .task import Metric, Task
    from .weights import load_weights, read_weights, save_weights

__all__ = [
    "Batches",
    "EarlyStopping",
    "Jitter",
    "Metric",
    "Progress",
    "Schedule",
    "SliceOptimizer",
    "Source",
    "Splits",
    "Task",
    "Trainer",
    "cosine",
    "dump_state",
    "evaluate",
    "fit",
    "grad_norm",
    "load_data",
    "load_state",
    "load_weights",
    "make_fabric",
    "naswot",
    "parameter_groups",
    "predict",
    "read_weights",
    "recalibrate",
    "save_state",
    "save_weights",
    "split_by_class",
    "synflow",
    "training_batches",
    "used_slices",
    "zico",
]

__getattr__, __dir__ = lazily(__name__)

"""Spaces to run under NNI, and what to run them with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from nni.nas.experiment import NasExperiment
from nni.nas.experiment.config import SequentialEngineConfig
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import Tensor, nn

from nas_space import ModelSpace
from nas_space.hub import MobileNetV3Space, ProxylessNAS
from nas_space.mutable import Categorical
from nas_space.nn import (
    InputChoice,
    LayerChoice,
    MutableBatchNorm2d,
    MutableConv2d,
    MutableLinear,
    Repeat,
)

logging.disable(logging.WARNING)


class Elastic(ModelSpace, label_prefix="user"):
    """A user's own space: inputs, repeats, layers, and elastic layers over shared widths."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([4, 8], label="width")
        kernel = Categorical([1, 3], label="kernel")
        self.stem = MutableConv2d(3, width, kernel, padding=kernel // 2)
        self.norm = MutableBatchNorm2d(width, eps=1e-3)
        self.body = Repeat(
            lambda i: LayerChoice(
                {
                    "conv": lambda: MutableConv2d(width, width, 3, padding=1, groups=width),
                    "pool": lambda: nn.MaxPool2d(3, 1, 1),
                },
                label=f"op{i}",
            ),
            (1, 3),
            label="depth",
        )
        self.pick = InputChoice(3, n_chosen=1, label="pick")
        self.head = MutableLinear(width, 10)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(self.stem(x)).relu()
        y = self.body(x)
        return self.head(self.pick([x, y, x + y]).mean((2, 3)))


class Layers(ModelSpace):
    """A space without elastic layers, as NNI's Proxyless needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = Repeat(
            lambda i: LayerChoice([nn.Conv2d(4, 4, 1), nn.MaxPool2d(3, 1, 1)], label=f"op{i}"),
            (1, 3),
            label="depth",
        )
        self.pick = InputChoice(2, label="pick")
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x).relu()
        return self.head(self.pick([x, self.body(x)]).mean((2, 3)))


def mobilenetv3() -> MobileNetV3Space:
    return MobileNetV3Space(
        num_labels=10,
        base_widths=(16, 16, 16, 32, 64, 128),
        width_multipliers=(0.5, 1.0),
        expand_ratios=(1.0, 2.0),
        squeeze_excite=("none", "optional", "force"),
        depth_range=(1, 2),
        stride=(2, 1, 2, 2, 1, 1),
        activation=("hswish", "relu", "relu", "hswish", "hswish", "hswish"),
    )


def proxylessnas() -> ProxylessNAS:
    return ProxylessNAS(num_labels=10, width_mult=0.1)


SPACES: dict[str, Any] = {
    "proxylessnas": proxylessnas,
    "mobilenetv3": mobilenetv3,
    "user": Elastic,
    "layers": Layers,
}


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch))


def complete(space: ModelSpace, arch: dict[str, Any]) -> dict[str, Any]:
    """An architecture with a value for every label, as NNI wants it."""
    return {name: symbol.default_choice() for name, symbol in space.symbols().items()} | arch


def take_path(supernet: Any, sample: dict[str, Any]) -> Any:
    """NNI's supernet on one path."""
    memo = dict(sample)
    for module in supernet.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(memo)
    return supernet


def run(space: Any, evaluator: Any, strategy: Any, folder: Path, trials: int = 1) -> NasExperiment:
    """An experiment in this process, with its files in a folder."""
    experiment = NasExperiment(space, evaluator, strategy)
    experiment.config.experiment_working_directory = str(folder)
    experiment.config.execution_engine = SequentialEngineConfig()
    experiment.config.max_trial_number = trials
    experiment.config.trial_concurrency = 1
    experiment.run()
    experiment.stop()
    return experiment

"""NNI's own strategies, as installed, on spaces of this library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nni
import pytest
import torch
from nni.nas import strategy as strategies
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, DataLoader
from torch import nn
from torch.utils.data import TensorDataset

from nas_space.interop.nni import load_supernet, to_nni
from tests.interop.under_nni.spaces import SPACES, complete, images, run, take_path

OVER_TRIALS: dict[str, Any] = {
    "Random": strategies.Random,
    "GridSearch": strategies.GridSearch,
    "RegularizedEvolution": lambda: strategies.RegularizedEvolution(
        population_size=2, sample_size=2
    ),
    "TPE": strategies.TPE,
}
ONE_SHOT: dict[str, Any] = {
    "RandomOneShot": strategies.RandomOneShot,
    "DARTS": strategies.DARTS,
    "GumbelDARTS": strategies.GumbelDARTS,
    "Proxyless": strategies.Proxyless,
    "ENAS": lambda: strategies.ENAS(batches_per_update=1, reward_metric_name="val_acc"),
}


def size_of(network: nn.Module) -> None:
    """Reports how many parameters a network has."""
    nni.report_final_result(sum(p.numel() for p in network.parameters()))


def classification(batches: int = 1) -> Classification:
    data = TensorDataset(images(4 * batches), torch.arange(4 * batches) % 10)
    return Classification(
        train_dataloaders=DataLoader(data, batch_size=4),
        val_dataloaders=DataLoader(data, batch_size=4),
        num_classes=10,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.mark.parametrize("strategy", OVER_TRIALS)
@pytest.mark.parametrize("name", ["proxylessnas", "mobilenetv3", "user"])
def test_strategies_over_trials(name: str, strategy: str, tmp_path: Path) -> None:
    space = SPACES[name]()
    tried: list[nn.Module] = []

    def evaluate(network: nn.Module) -> None:
        tried.append(network)
        size_of(network)

    experiment = run(
        to_nni(space), FunctionalEvaluator(evaluate), OVER_TRIALS[strategy](), tmp_path, trials=3
    )
    assert len(tried) == 3
    assert all(type(network) is type(space) for network in tried)
    assert all(space.contains(network.architecture) for network in tried)
    best = space.freeze(experiment.export_top_models(formatter="dict")[0])
    sizes = [sum(p.numel() for p in network.parameters()) for network in tried]
    assert sum(p.numel() for p in best.parameters()) == max(sizes)


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        (name, strategy)
        for name in SPACES
        for strategy in ONE_SHOT
        # What NNI's Proxyless cannot: test_limits.py.
        if strategy != "Proxyless" or name in {"proxylessnas", "layers"}
    ],
)
def test_one_shot_strategies(name: str, strategy: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = SPACES[name]()
    before = {key: value.clone() for key, value in space.state_dict().items()}
    nni_space = to_nni(space)
    experiment = run(nni_space, classification(), ONE_SHOT[strategy](), tmp_path)
    arch = experiment.export_top_models(formatter="dict")[0]
    network = space.freeze(arch).eval()

    # The space stays as it is, until the trained weights come back.
    inherited = nni_space.freeze(arch).eval()
    assert all(torch.equal(value, before[key]) for key, value in space.state_dict().items())
    load_supernet(space, nni_space)
    assert any(not torch.equal(value, before[key]) for key, value in space.state_dict().items())
    trained = space.freeze(arch).eval()
    assert network.architecture == trained.architecture
    x = images()
    assert torch.equal(inherited(x), trained(x))


@pytest.mark.parametrize("name", SPACES)
def test_a_network_equals_the_path_of_the_supernet_it_came_from(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = SPACES[name]().eval()
    nni_space = to_nni(space)
    run(nni_space, classification(), strategies.RandomOneShot(), tmp_path)
    nni_space.eval()
    load_supernet(space, nni_space)
    x = images()
    for arch in space.sample(10, seed=0):
        with torch.no_grad():
            expected = take_path(nni_space, complete(space, arch))(x)
            assert torch.equal(space.freeze(arch)(x), expected)

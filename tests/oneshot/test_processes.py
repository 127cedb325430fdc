"""Two processes, by gloo, do what one would on the joint batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.strategy.oneshot import Run
from nas_space.training import Metric, load_state, make_fabric, save_state
from tests.oneshot.planted import task
from tests.oneshot.test_run import ALL

pytestmark = pytest.mark.slow
STEPS = 5


class Net(ns.ModelSpace):
    """Without batch norm, which sees the share of a process only."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4, 6], label="width")
        self.first = mnn.MutableLinear(4, width)
        self.last = mnn.MutableLinear(width, 4)
        self.deep = mnn.Repeat(lambda _: nn.Linear(4, 4), (0, 2), label="depth")
        self.op = mnn.LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3, bias=False)], label="op")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(self.deep(self.last(self.first(x).tanh())).tanh())
        return y


def searched(name: str, fabric: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    space = Net()
    given = task(
        optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.1),
        # A mean over examples, so that the mean over processes is that of the joint batch.
        metrics={"error": Metric(mse_loss, maximize=False)},
    )
    run = Run(ALL[name](), space, given, steps=STEPS, seed=0, fabric=fabric)
    paths: list[Any] = []
    along = run.trainer.along

    def noted(arch: Any) -> Any:
        paths.append(dict(arch))
        return along(arch)

    run.trainer.along = noted  # type: ignore[method-assign]
    while not run.done:
        run.advance()
    policy = {} if run.policy is None else dict(run.policy.state_dict())
    return {
        "weights": {k: v.clone() for k, v in space.state_dict().items()},
        "policy": {k: v.clone() for k, v in policy.items()},
        "paths": [sorted(path.items()) for path in paths],
        "best": sorted(run.best().items()),
    }


def in_process(fabric: Any, folder: Path) -> None:
    torch.set_num_threads(1)
    result = {name: searched(name, fabric) for name in ALL}
    save_state(folder / str(fabric.global_rank), result)
    found = ns.search(Net(), task(), strategy=ALL["random"](), steps=2, fabric=fabric)
    if fabric.is_global_zero:  # it alone, as a script does that prints what was found
        assert found.best() == found.top(3)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    folder = tmp_path_factory.mktemp("two")
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    fabric: Any = Fabric(accelerator="cpu", devices=2, strategy=strategy)
    fabric.launch(in_process, folder)
    return [load_state(folder / str(rank)) for rank in range(2)]


@pytest.mark.parametrize("name", ALL)
def test_every_rank_goes_the_same_way_and_ends_with_the_same_bits(name, two):
    first, second = (each[name] for each in two)
    assert first["paths"] == second["paths"]
    assert first["best"] == second["best"]
    for part in ("weights", "policy"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), key


@pytest.mark.parametrize("name", ALL)
def test_two_processes_do_what_one_does_on_the_joint_batch(name, two):
    alone = searched(name, make_fabric("cpu"))
    for part in ("weights", "policy"):
        for key, value in alone[part].items():
            torch.testing.assert_close(two[0][name][part][key], value, rtol=1e-3, atol=1e-4)
    assert [list(map(tuple, path)) for path in two[0][name]["paths"]] == alone["paths"]

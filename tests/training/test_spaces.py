"""Training of spaces: what the loops do for plain modules holds for them."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import TensorDataset

from nas_space import nn as mnn
from nas_space.mutable import Categorical
from nas_space.training import Task, Trainer, evaluate, fit, recalibrate

from . import small

ARCHITECTURES: list[dict[str, Any]] = [
    {"width": width, "op": op, "momentum": momentum}
    for width in (2, 4)
    for op in ("conv", "identity")
    for momentum in (0.1, 0.5)
]


class Space(mnn.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        momentum = Categorical([0.1, 0.5], label="momentum")
        self.stem = mnn.MutableConv2d(3, width, 3)
        self.norm = mnn.MutableBatchNorm2d(width, momentum=momentum)
        self.op = mnn.LayerChoice(
            {
                "conv": nn.Sequential(
                    mnn.MutableConv2d(width, width, 3), mnn.MutableBatchNorm2d(width)
                ),
                "identity": nn.Identity(),
            },
            label="op",
        )
        self.head = mnn.MutableLinear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.op(self.norm(self.stem(x)).relu())
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture
def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(30, 3, 7, 7, generator=generator), torch.arange(30) % 3)
    return Task.classification(data, data, batch_size=6)


@pytest.fixture
def space(task: Task) -> Space:
    torch.manual_seed(0)
    made = Space()
    fit(made, task, steps=5, path=lambda step: made.activate(ARCHITECTURES[step]))
    return made


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_recalibrating_an_active_space_is_recalibrating_the_network(
    space: Space, task: Task, arch: dict[str, Any]
) -> None:
    network = space.freeze(arch)
    recalibrate(network, task)
    before = copy.deepcopy(space.state_dict())
    with space.activate(arch):
        not_yet = evaluate(space, task)
        recalibrate(space, task)
        in_space = evaluate(space, task)
    assert in_space != not_yet
    assert small.same(space.freeze(arch), network)
    assert evaluate(network, task) == in_space
    for name, value in space.state_dict().items():
        on_path = arch["op"] == "conv" or not name.startswith("op")
        if "running" in name:
            used = arch["width"] if on_path else 0
            assert torch.equal(value[used:], before[name][used:])
            assert not (value[:used] == before[name][:used]).any()
        else:
            counted = on_path and "num_batches" in name
            assert counted or torch.equal(value, before[name])


def test_recalibrating_keeps_the_choice_of_a_momentum(space: Space, task: Task) -> None:
    for arch in ARCHITECTURES:
        with space.activate(arch):
            recalibrate(space, task, batches=1)
    assert "momentum" in space.simplify()
    assert space.freeze(ARCHITECTURES[0]).norm.momentum == 0.1
    assert space.freeze(ARCHITECTURES[1]).norm.momentum == 0.5


def test_random_paths_without_a_seed_follow_the_seed_of_the_run(task: Task, tmp_path: Path) -> None:
    """``space.sample()`` draws from numpy's global state, which the trainer seeds in each step."""

    class Cut(BaseException):
        pass

    def run(**options: Any) -> tuple[nn.Module, list[Any]]:
        torch.manual_seed(0)
        made, taken = Space(), []

        def path(step: int) -> AbstractContextManager[Any]:
            taken.append((step, made.sample()))
            return made.activate(taken[-1][1])

        return fit(made, task, steps=8, path=path, **options), taken

    def cut(progress: Any) -> None:
        if progress.step == 5:
            raise Cut

    whole, taken = run()
    file = tmp_path / "run.safetensors"
    with pytest.raises(Cut):
        run(checkpoint=file, every=2, on_step=cut)
    resumed, rest = run(checkpoint=file, resume=True)
    assert small.same(resumed, whole)
    assert rest == taken[4:]
    assert len({str(arch) for _, arch in taken}) > 2


def test_branches_off_the_path_get_no_update(space: Space, task: Task) -> None:
    task = replace(task, optimizer=partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.5))
    archs = [{**ARCHITECTURES[0], "op": op} for op in ("conv", "identity")]
    trainer = Trainer(space, task, steps=4, path=lambda step: space.activate(archs[step % 2]))
    for step in range(4):
        before = copy.deepcopy(space.state_dict())
        trainer.advance()
        after = space.state_dict()
        untouched = all(torch.equal(after[name], before[name]) for name in after if "op" in name)
        assert untouched == (step % 2 == 1)

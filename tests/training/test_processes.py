"""Several processes on one machine, by gloo: they must do what one would on the joint batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from nas_space.errors import UsageError
from nas_space.training import (
    Progress,
    Task,
    evaluate,
    fit,
    load_state,
    make_fabric,
    predict,
    recalibrate,
    save_state,
)

from . import small

pytestmark = pytest.mark.slow
STEPS = 6


class Branches(nn.Module):
    """One of three branches runs; the others get no gradient in any process."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.branches = nn.ModuleList(nn.Linear(4, 6) for _ in range(3))
            self.head = nn.Linear(6, 3)
        self.active = 0
        self.taken: list[int] = []
        self.noise: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.noise.append(float(torch.rand(())))  # as dropout would draw
        return self.head(self.branches[self.active](x).tanh())  # type: ignore[no-any-return]

    @contextmanager
    def path(self, step: int) -> Iterator[None]:
        del step  # the trainer has seeded the global generators
        self.active = int(torch.randint(3, ()))
        self.taken.append(self.active)
        yield


def task(**options: Any) -> Task:
    # Without augmentation, whose noise each process draws for its own share.
    return small.task(
        augment=None,
        optimizer=partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
        **options,
    )


def gradients_of(network: nn.Module) -> dict[str, Tensor | None]:
    return {
        name: None if parameter.grad is None else parameter.grad.clone()
        for name, parameter in network.named_parameters()
    }


def in_process(fabric: Any, folder: Path) -> None:
    torch.set_num_threads(1)
    result = run(fabric)
    result["resumed"] = resumed(fabric, folder / "run.safetensors")
    save_state(folder / str(fabric.global_rank), result)


def run(fabric: Any) -> dict[str, Any]:
    """Everything to compare, from one of the processes."""
    network, gradients, halfway = Branches(), [], {}

    def on_step(progress: Progress) -> None:
        if progress.step < STEPS:
            gradients.append(gradients_of(network))
        if progress.step == 2:
            halfway.update({k: v.clone() for k, v in network.state_dict().items()})

    fit(network, task(), steps=STEPS, fabric=fabric, path=network.path, on_step=on_step)
    output, target = predict(network, task(), fabric=fabric, batch_size=2)

    normed = small.network()
    fit(normed, small.task(), steps=3, fabric=fabric)
    recalibrated = recalibrate(small.network(), task(), fabric=fabric)

    return {
        "weights": network.state_dict(),
        "gradients": gradients,
        "halfway": halfway,
        "taken": network.taken,
        "noise": network.noise,
        "output": output,
        "target": target,
        "scores": evaluate(network, task(), fabric=fabric),
        "normed": normed.state_dict(),
        "recalibrated": recalibrated.state_dict(),
    }


def resumed(fabric: Any, checkpoint: Path) -> list[dict[str, Tensor]]:
    """A run with dropout, noise and batch norm: never interrupted, and resumed after two steps."""

    class Cut(BaseException):
        pass

    def cut(progress: Progress) -> None:
        if progress.step == 3:  # one step after the state was written
            raise Cut

    whole, parts = small.network(), small.network()
    fit(whole, small.task(), steps=5, fabric=fabric)
    options: dict[str, Any] = {"steps": 5, "fabric": fabric, "checkpoint": checkpoint}
    with pytest.raises(Cut):
        fit(parts, small.task(), **options, every=2, on_step=cut)
    fabric.barrier()
    parts = small.network()
    fit(parts, small.task(), **options, resume=True)
    return [whole.state_dict(), parts.state_dict()]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    folder = tmp_path_factory.mktemp("two")
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    fabric: Any = Fabric(accelerator="cpu", devices=2, strategy=strategy)
    fabric.launch(in_process, folder)
    return [load_state(folder / str(rank)) for rank in range(2)]


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return run(make_fabric("cpu"))


def test_all_processes_take_the_same_path_as_one_would(
    one: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    assert two[0]["taken"] == two[1]["taken"] == one["taken"]
    assert len(set(one["taken"])) > 1


def test_noise_is_drawn_by_each_process_for_itself(two: list[dict[str, Any]]) -> None:
    noise = [*two[0]["noise"], *two[1]["noise"]]
    assert len(set(noise)) == 2 * STEPS


def test_gradients_are_those_of_one_process_on_the_joint_batch(
    one: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    assert len(one["gradients"]) == STEPS - 1
    for step, expected in enumerate(one["gradients"]):
        for rank in range(2):
            found = two[rank]["gradients"][step]
            for name, gradient in expected.items():
                if gradient is None:
                    assert found[name] is None
                else:
                    torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_weights_are_those_of_one_process_and_the_same_in_all(
    one: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    for key in ("halfway", "weights"):
        for name, value in one[key].items():
            assert torch.equal(two[0][key][name], two[1][key][name])
            torch.testing.assert_close(two[0][key][name], value, rtol=1e-4, atol=1e-6)


def test_predictions_and_scores_are_of_the_whole_split_in_order(
    one: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    for rank in range(2):
        assert torch.equal(two[rank]["target"], one["target"])
        torch.testing.assert_close(two[rank]["output"], one["output"], rtol=1e-3, atol=1e-4)
        assert two[rank]["scores"] == pytest.approx(one["scores"], rel=1e-3)


def test_batch_norm_statistics_end_the_same_in_all(
    one: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    for name, value in two[0]["normed"].items():
        assert torch.equal(value, two[1]["normed"][name])
    for rank in range(2):
        for name, value in one["recalibrated"].items():
            # Close, not equal: this process may use another number of threads.
            torch.testing.assert_close(two[rank]["recalibrated"][name], value)


def test_a_run_in_two_processes_is_resumed_bit_for_bit(two: list[dict[str, Any]]) -> None:
    for rank in range(2):
        whole, parts = two[rank]["resumed"]
        assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_one_device_is_not_enough_for_two_processes() -> None:
    if torch.cuda.is_available():
        with pytest.raises(UsageError, match="2 processes need a device each"):
            make_fabric("cuda:0", processes=2)
    fabric = make_fabric("cpu", processes=2)
    assert fabric.strategy._ddp_kwargs["find_unused_parameters"]  # type: ignore[attr-defined]

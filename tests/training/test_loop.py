from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

from nas_space.errors import CheckpointError, UsageError
from nas_space.randomness import generator_of
from nas_space.training import (
    Batches,
    Metric,
    Progress,
    Task,
    Trainer,
    evaluate,
    fit,
    load_state,
    make_fabric,
    parameter_groups,
    save_state,
)

from . import small


class Branches(nn.Module):
    """A supernet in miniature: one of three branches runs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.branches = nn.ModuleList(
                nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)) for _ in range(3)
            )
            self.head = nn.Linear(6, 3)
        self.active: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        assert self.active is not None, "no path is active"
        return self.head(self.branches[self.active](x))  # type: ignore[no-any-return]

    @contextmanager
    def activate(self, branch: int) -> Iterator[None]:
        self.active = branch
        yield
        self.active = None

    def random_path(self, step: int) -> AbstractContextManager[None]:
        del step  # the trainer seeds the global generators
        return self.activate(int(torch.randint(3, ())) + int(np.random.randint(1)))  # noqa: NPY002


# ---------------------------------------------------------------------------- a run at all


def test_training_is_the_plain_loop() -> None:
    """Written out by hand, without Fabric and without anything of this library in the loop."""
    task = small.task(
        optimizer=partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
        schedule=lambda optimizer, total: StepLR(optimizer, total // 2),
        clip=0.5,
    )
    trained = fit(_without_dropout(), task, steps=8, seed=5)

    by_hand = _without_dropout()
    optimizer = SGD(by_hand.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    schedule = StepLR(optimizer, 4)
    batches = Batches(task.train, 12, seed=5)  # type: ignore[arg-type]
    for step in range(8):
        x, y = batches[step]
        x = small.noisy(x, generator_of(5, "train/augment/0", step))
        optimizer.zero_grad()
        F.cross_entropy(by_hand(x), y).backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    assert small.same(trained, by_hand)


def _without_dropout() -> nn.Module:
    network = small.network()
    network[3] = nn.Identity()
    return network


def test_training_learns() -> None:
    network, task = small.network(), small.task()
    before = evaluate(network, task)["loss"]
    fit(network, task, epochs=20)
    assert evaluate(network, task)["loss"] < 0.7 * before


def test_progress_says_where_the_run_stands() -> None:
    seen: list[Progress] = []
    fit(small.network(), small.task(), steps=4, on_step=seen.append)
    assert [(p.step, p.total) for p in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [round(p.lr, 4) for p in seen] == [0.1, 0.0854, 0.05, 0.0146]
    assert all(p.loss > 0 for p in seen)
    assert len({p.loss for p in seen}) == 4


def test_epochs_are_counted_in_examples() -> None:
    steps: list[int] = []
    fit(small.network(), small.task(), epochs=3, on_step=lambda p: steps.append(p.step))
    assert len(steps) == 10  # 3 * 40 / 12


def test_the_seed_decides_and_nothing_else() -> None:
    def run(seed: int) -> nn.Module:
        torch.manual_seed(random.randrange(1000))
        return fit(small.network(), small.task(), steps=3, seed=seed)

    assert small.same(run(0), run(0))
    assert not small.same(run(0), run(1))


def test_dropout_and_augmentation_are_in_effect() -> None:
    def trained(network: nn.Module, **options: Any) -> nn.Module:
        return fit(network, small.task(**options), steps=3)

    assert not small.same(trained(small.network()), trained(_without_dropout()))
    assert not small.same(trained(small.network()), trained(small.network(), augment=None))


def test_the_callers_randomness_is_left_alone() -> None:
    def states() -> list[Any]:
        return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]  # noqa: NPY002

    before, during = states(), []
    fit(small.network(), small.task(), steps=2, on_step=lambda _: during.append(states()))
    assert [before, before] == during
    assert states() == before


def test_workers_do_not_change_the_result() -> None:
    alone = fit(small.network(), small.task(), steps=4)
    assert small.same(alone, fit(small.network(), small.task(workers=1), steps=4))


def test_no_gradients_are_left_and_the_mode_is_training() -> None:
    network = fit(small.network().eval(), small.task(), steps=1)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(module.training for module in network.modules())


def test_a_step_of_ones_own_takes_batches_of_any_form() -> None:
    data = [{"x": torch.tensor([float(i)]), "y": torch.tensor([2.0 * i])} for i in range(8)]
    task = Task(
        train=data,
        validation=data,
        step=lambda net, batch: (net(batch["x"]) - batch["y"]).square().mean(),
        predict=lambda net, batch: (net(batch["x"]), batch["y"]),
        metrics={"worst": Metric(lambda y, t: (y - t).abs().max(), maximize=False)},
        optimizer=partial(AdamW, lr=0.1),
        batch_size=4,
    )
    network = fit(nn.Linear(1, 1), task, steps=300)
    assert evaluate(network, task)["worst"] < 0.2


# --------------------------------------------------------------------------------- resume

OPTIMIZERS: dict[str, Any] = {
    "sgd": partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": partial(Adam, lr=0.01, amsgrad=True),
    "adamw": partial(AdamW, lr=0.01, weight_decay=0.1),
}


def _sequential(optimizer: Optimizer, total: int) -> SequentialLR:
    parts = [LinearLR(optimizer, 0.1, total_iters=3), CosineAnnealingLR(optimizer, total)]
    return SequentialLR(optimizer, parts, milestones=[3])


SCHEDULES: dict[str, Any] = {
    "none": lambda optimizer, total: None,  # noqa: ARG005
    "one cycle": lambda optimizer, total: OneCycleLR(optimizer, 0.1, total),
    "sequence": _sequential,
}


class Interrupted(BaseException):
    pass


def interrupted_at(step: int) -> Any:
    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Interrupted

    return on_step


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("supernet", [False, True])
def test_a_run_cut_off_at_any_step_ends_bit_for_bit_the_same(
    tmp_path: Path, every: int, supernet: bool
) -> None:
    def run(**options: Any) -> nn.Module:
        network = Branches() if supernet else small.network()
        path = network.random_path if isinstance(network, Branches) else None
        return fit(network, small.task(), steps=7, seed=2, path=path, every=every, **options)

    whole = run()
    for cut in range(1, 8):
        file = tmp_path / f"{cut}.safetensors"
        with pytest.raises(Interrupted):
            run(checkpoint=file, on_step=interrupted_at(cut))
        assert file.exists() == (cut >= every)
        steps: list[int] = []
        resumed = run(checkpoint=file, resume=True, on_step=lambda p: steps.append(p.step))  # noqa: B023
        assert small.same(resumed, whole)
        done = cut if cut == 7 else cut // every * every
        assert steps == list(range(done + 1, 8))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["default", *SCHEDULES])
def test_every_optimizer_and_schedule_is_resumed(
    tmp_path: Path, optimizer: str, schedule: str
) -> None:
    options = {} if schedule == "default" else {"schedule": SCHEDULES[schedule]}
    task = small.task(optimizer=OPTIMIZERS[optimizer], **options)
    file = tmp_path / "run.safetensors"
    whole = fit(small.network(), task, steps=6)
    with pytest.raises(Interrupted):
        fit(small.network(), task, steps=6, checkpoint=file, every=1, on_step=interrupted_at(4))
    assert small.same(fit(small.network(), task, steps=6, checkpoint=file, resume=True), whole)


class Noisy(TensorDataset):
    """A data set whose transform draws from the global generators."""

    def __getitem__(self, index: Any) -> Any:
        x, y = super().__getitem__(index)
        return x + float(torch.rand(())) + random.random(), y


def test_a_run_on_a_loader_is_resumed(tmp_path: Path) -> None:
    noisy = Noisy(*small.dataset().tensors)
    task = small.task(train=DataLoader(noisy, batch_size=12, shuffle=True))
    file = tmp_path / "run.safetensors"
    whole = fit(small.network(), task, epochs=3)
    with pytest.raises(Interrupted):
        fit(small.network(), task, epochs=3, checkpoint=file, every=1, on_step=interrupted_at(6))
    assert small.same(fit(small.network(), task, epochs=3, checkpoint=file, resume=True), whole)


def test_without_resume_the_run_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    fit(small.network(), small.task(), steps=2, checkpoint=file)
    steps: list[int] = []
    fit(
        small.network(),
        small.task(),
        steps=2,
        checkpoint=file,
        on_step=lambda p: steps.append(p.step),
    )
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"steps": 9}, "total is 2 there, 9 here"),
        ({"task": small.task(batch_size=20)}, "batch_size is 12 there, 20 here"),
        ({"network": nn.Linear(4, 3)}, "does not fit this Linear: weight is missing there"),
    ],
)
def test_the_state_of_another_run_is_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    file = tmp_path / "run.safetensors"
    fit(small.network(), small.task(), steps=2, checkpoint=file)
    run: dict[str, Any] = {"network": small.network(1), "task": small.task(), "steps": 2, **changed}
    before = copy.deepcopy(run["network"])
    with pytest.raises(CheckpointError, match=said):
        fit(**run, checkpoint=file, resume=True)
    assert small.same(run["network"], before)


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    class Net(nn.Linear):
        def no_weight_decay(self) -> set[str]:
            return {"bias"}

    file = tmp_path / "run.safetensors"
    fit(Net(4, 3), small.task(), steps=2, checkpoint=file)
    with pytest.raises(CheckpointError, match="not the state of such a run"):
        fit(nn.Linear(4, 3), small.task(), steps=2, checkpoint=file, resume=True)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    for tree in ([1, 2], {"step": 1}, {"run": None}, None):
        save_state(file, tree)
        with pytest.raises(CheckpointError):
            fit(small.network(), small.task(), steps=2, checkpoint=file, resume=True)


def test_the_state_holds_no_random_state(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    fit(small.network(), small.task(), steps=2, checkpoint=file)
    keys = ["run", "step", "network", "optimizer", "schedule", "precision"]
    assert list(load_state(file)) == keys


# ---------------------------------------------------------------------------------- paths


def test_branches_off_the_path_get_no_update_at_all() -> None:
    """No gradient, no momentum gathered in earlier steps, no decay, no statistics."""
    network = Branches()
    task = small.task(
        optimizer=partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.5), schedule=SCHEDULES["none"]
    )
    trainer = Trainer(network, task, steps=6, path=lambda step: network.activate(step % 2))
    for step in range(6):
        before = copy.deepcopy(network)
        trainer.advance()
        for number, branch in enumerate(network.branches):
            untouched = small.same(branch, before.branches[number])
            assert untouched == (number != step % 2)
        assert not small.same(network.head, before.head)


def test_a_path_is_entered_for_forward_and_backward_only() -> None:
    events: list[str] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            events.append("forward")
            y = super().forward(x)
            y.register_hook(lambda _: events.append("backward"))
            return y

    @contextmanager
    def path(step: int) -> Iterator[None]:
        events.append(f"enter {step}")
        yield
        events.append("leave")

    fit(Watched(4, 3), small.task(), steps=2, path=path, on_step=lambda _: events.append("step"))
    around = ["forward", "backward", "leave", "step"]
    assert events == ["enter 0", *around, "enter 1", *around]


def test_a_path_that_draws_changes_nothing_but_the_path() -> None:
    def path(_: int) -> AbstractContextManager[None]:
        torch.rand(5)
        return nullcontext()

    alone = fit(small.network(), small.task(), steps=3)
    assert small.same(fit(small.network(), small.task(), steps=3, path=path), alone)


@pytest.mark.parametrize("workers", [0, 1])
def test_paths_drawn_from_global_generators_depend_on_seed_and_step(workers: int) -> None:
    def paths(seed: int) -> list[float]:
        drawn: list[float] = []

        def path(_: int) -> AbstractContextManager[None]:
            drawn.append(float(torch.rand(())) + random.random() + np.random.rand())  # noqa: NPY002
            return nullcontext()

        task = small.task(workers=workers)
        fit(small.network(), task, steps=4, seed=seed, path=path)
        return drawn

    assert paths(0) == paths(0) != paths(1)
    assert len(set(paths(0))) == 4


# --------------------------------------------------------------------------- weight decay


class Exempt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.classifier = nn.Linear(4, 3)
        self.tied = self.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x)) * 0.0  # type: ignore[no-any-return]

    def no_weight_decay(self) -> set[str]:
        return {"tied.weight", "classifier.bias", "of.something.else"}


def test_parameters_that_are_exempt_do_not_decay() -> None:
    network = Exempt()
    before = copy.deepcopy(network)
    task = small.task(optimizer=partial(SGD, lr=0.1, weight_decay=0.5), schedule=SCHEDULES["none"])
    fit(network, task, steps=1)
    assert torch.allclose(network.body.weight, 0.95 * before.body.weight)
    assert torch.allclose(network.body.bias, 0.95 * before.body.bias)
    assert small.same(network.classifier, before.classifier)


def test_frozen_parameters_are_not_grouped() -> None:
    network = Exempt()
    network.body.weight.requires_grad = False
    groups = parameter_groups(network)
    assert [[p.shape for p in group["params"]] for group in groups] == [[(4,)], [(3, 4), (3,)]]
    assert "weight_decay" not in groups[0]
    assert groups[1]["weight_decay"] == 0


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(UsageError, match="no parameters to train"):
        fit(nn.ReLU(), small.task(), steps=1)


# -------------------------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either steps= or epochs="),
        ({"steps": 1, "epochs": 1}, "either steps= or epochs="),
        ({"steps": -1}, "must not be negative"),
        ({"steps": 1, "resume": True}, "resume=True needs checkpoint="),
        ({"steps": 1, "every": 0}, "every must be at least 1"),
    ],
)
def test_arguments_that_do_not_go_together(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit(small.network(), small.task(), **options)


def test_a_trainer_that_is_done_refuses_to_go_on() -> None:
    trainer = Trainer(small.network(), small.task(), steps=0)
    assert trainer.done
    with pytest.raises(UsageError, match="all 0 steps are done"):
        trainer.advance()


# ------------------------------------------------------------------------------ precision


def test_mixed_precision_runs_forward_in_it_and_keeps_weights_and_loss_in_32_bits() -> None:
    seen: list[torch.dtype] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            seen.append(y.dtype)
            return y

    def loss(output: Tensor, target: Tensor) -> Tensor:
        seen.append(output.dtype)
        return F.cross_entropy(output, target)

    fabric = make_fabric("cpu", "bf16-mixed")
    task = small.task(loss=loss)
    network = fit(Watched(4, 3), task, steps=1, fabric=fabric)
    assert seen == [torch.bfloat16, torch.float32]
    assert network.weight.dtype == torch.float32
    assert set(evaluate(network, task, fabric=fabric)) == {"accuracy", "loss"}


def test_true_half_precision_converts_inputs() -> None:
    fabric = make_fabric("cpu", "bf16-true")
    network = fit(nn.Linear(4, 3), small.task(), steps=2, fabric=fabric)
    assert network.weight.dtype == torch.bfloat16
    assert evaluate(network, small.task(), fabric=fabric)["loss"] > 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_training_on_cuda_is_in_bfloat16_and_leaves_its_generator_alone(tmp_path: Path) -> None:
    fabric = make_fabric("cuda")
    before = torch.cuda.get_rng_state()
    file = tmp_path / "run.safetensors"
    task = small.task()
    whole = fit(small.network(), task, steps=6, fabric=fabric)
    with pytest.raises(Interrupted):
        fit(
            small.network(),
            task,
            steps=6,
            fabric=fabric,
            checkpoint=file,
            every=1,
            on_step=interrupted_at(3),
        )
    resumed = fit(small.network(), task, steps=6, fabric=fabric, checkpoint=file, resume=True)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert next(resumed.parameters()).device.type == "cuda"
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
    assert evaluate(whole, task, fabric=fabric)["loss"] > 0


def test_training_where_the_network_is_by_default() -> None:
    data = TensorDataset(torch.rand(4, 2), torch.rand(4, 1))
    trainer = Trainer(nn.Linear(2, 1), Task.regression(data), steps=1)
    assert trainer.fabric.device == torch.device("cpu")


def test_strategies_that_shard_parameters_are_refused_with_what_to_use() -> None:
    strategy = ModelParallelStrategy(lambda module, _mesh: module)
    fabric = Fabric(accelerator="cpu", devices=1, strategy=strategy)
    with pytest.raises(UsageError, match=r"ModelParallelStrategy shards .* use DDP"):
        Trainer(nn.Linear(8, 2), small.task(), steps=1, fabric=fabric)

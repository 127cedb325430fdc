"""What holds for every strategy: same seed, same search; resumption; the weights it leaves."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import CheckpointError, SpaceError, UsageError
from nas_space.mutable import Categorical, Numerical
from nas_space.strategy.oneshot import (
    DARTS,
    ENAS,
    GumbelDARTS,
    OneShot,
    Proxyless,
    RandomOneShot,
    Run,
)
from nas_space.training import load_state, save_state
from tests.oneshot.planted import task

LR: dict[str, Any] = {"arc_learning_rate": 0.05, "log_prob_every_n_step": 2}
FEW: dict[str, Any] = {"candidates": 4, "calibration_batches": 1}

ALL: dict[str, Any] = {
    "random": lambda: RandomOneShot(**FEW),
    "fair": lambda: RandomOneShot(paths="fair", **FEW),
    "sandwich": lambda: RandomOneShot(paths="sandwich", **FEW),
    "darts": lambda: DARTS(**LR),
    "darts, second order": lambda: DARTS(unrolled=True, **LR),
    "gumbel": lambda: GumbelDARTS(**LR),
    "gumbel, hard": lambda: GumbelDARTS(hard=True, **LR),
    "proxyless": lambda: Proxyless(**LR),
    "proxyless, reinforce": lambda: Proxyless(form="reinforce", **LR),
    "enas": lambda: ENAS(batches_per_update=3, **FEW, **LR),
}


class Rich(ns.ModelSpace):
    """Every primitive, with labels that are active at times, dropout, and shared widths."""

    def __init__(self) -> None:
        super().__init__()
        width, ratio = Categorical([2, 4], label="width"), Categorical([1, 2], label="ratio")
        self.first = mnn.MutableLinear(4, width)
        self.norm = mnn.MutableBatchNorm1d(width)
        self.op = mnn.LayerChoice(
            {
                "same": nn.Identity(),
                "wide": lambda: nn.Sequential(
                    mnn.MutableLinear(width, width * ratio),
                    nn.Hardswish(),
                    mnn.MutableLinear(width * ratio, width),
                ),
            },
            label="op",
        )
        self.last = mnn.MutableLinear(width, 4)
        self.deep = mnn.Repeat(Block, (1, 3), label="depth")
        self.pick = mnn.InputChoice(3, n_chosen=2, label="pick")
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.op(self.norm(self.first(x)).relu()))
        y = self.deep(y)
        z: Tensor = self.head(self.pick([y, x, y * 0.5]))
        return z


class Block(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        drop = 0.1
        self.op = mnn.LayerChoice([nn.Linear(4, 4), nn.Dropout(drop)], label=f"block{index}")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.op(x)
        return y


def begin(name: str, seed: int = 0, steps: int = 7, **more: Any) -> Run:
    torch.manual_seed(seed)
    return Run(ALL[name](), Rich(), task(**more), steps=steps, seed=seed)


def finish(run: Run) -> dict[str, Any]:
    while not run.done:
        torch.rand(1)  # what others draw in between must not matter
        run.advance()
    return result_of(run)


def result_of(run: Run) -> dict[str, Any]:
    return {
        "weights": {k: v.clone() for k, v in run.network.state_dict().items()},
        "top": run.top(3),
        "probabilities": run.probabilities(),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    weights = zip(one["weights"].items(), other["weights"].items(), strict=True)
    return (
        all(a == b and torch.equal(x, y) for (a, x), (b, y) in weights)
        and one["top"] == other["top"]
        and one["probabilities"] == other["probabilities"]
    )


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_search_and_another_seed_another(name):
    first = finish(begin(name))
    assert same(first, finish(begin(name)))
    assert not same(first, finish(begin(name, seed=1)))


class Checkpointed(Rich):
    """With a gradient checkpoint around what has no running statistics."""

    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        def part(y: Tensor) -> Tensor:
            return self.deep(self.last(self.op(y)))  # type: ignore[no-any-return]

        y = checkpoint(part, self.norm(self.first(x)).relu(), use_reentrant=self.reentrant)
        z: Tensor = self.head(self.pick([y, x, y * 0.5]))
        return z


class Reentrant(Checkpointed):
    reentrant = True


MIXED = [name for name in ALL if name.startswith(("darts", "gumbel")) or name == "proxyless"]


@pytest.mark.parametrize(
    ("name", "space"),
    [
        *[(name, Checkpointed) for name in ALL],
        *[(name, Reentrant) for name in ALL if name not in MIXED],
    ],
)
def test_a_gradient_checkpoint_changes_nothing(name, space):
    found = []
    for kind in (Rich, space):
        torch.manual_seed(0)
        found.append(finish(Run(ALL[name](), kind(), task(), steps=4, seed=0)))
    assert found[0]["top"] == found[1]["top"]
    for one, other in zip(found[0]["weights"].values(), found[1]["weights"].values(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_a_reentrant_checkpoint_of_a_mixture_is_refused_before_the_first_step(name):
    with pytest.raises(SpaceError, match="use_reentrant=False"):
        Run(ALL[name](), Reentrant(), task(), steps=4, seed=0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("at", [1, 4])
def test_a_run_that_is_put_down_and_taken_up_ends_with_the_same_bits(name, at, tmp_path):
    run = begin(name)
    for _ in range(at):
        run.advance()
    save_state(tmp_path / "state.safetensors", run.state_dict())
    whole = finish(run)
    torch.manual_seed(5)
    resumed = Run(ALL[name](), Rich(), task(), steps=7, seed=0)
    resumed.load_state_dict(load_state(tmp_path / "state.safetensors"))
    assert resumed.step == at
    assert same(whole, finish(resumed))


def test_the_state_of_another_run_is_refused():
    state = begin("darts").state_dict()
    with pytest.raises(CheckpointError, match="DARTS"):
        begin("proxyless").load_state_dict(state)
    with pytest.raises(CheckpointError, match="seed"):
        begin("darts", seed=1).load_state_dict(state)


@pytest.mark.parametrize("name", ALL)
def test_the_network_is_the_space_under_its_architecture(name):
    run = begin(name)
    finish(run)
    arch, x = run.best(), torch.randn(5, 4)
    network, space = run.frozen().eval(), run.network.eval()
    with space.activate(arch):
        assert torch.equal(network(x), space(x))
    fresh = Rich().freeze(arch)
    assert not torch.equal(fresh.eval()(x), network(x))


@pytest.mark.parametrize("name", ALL)
def test_top_gives_different_architectures_of_the_space(name):
    run = begin(name, steps=2)
    finish(run)
    found = run.top(4)
    assert len({run.network.arch_id(arch) for arch in found}) == len(found) == 4
    assert all(run.network.canonical(arch) == arch for arch in found)
    assert run.best() == found[0] == run.top(2)[0]


@pytest.mark.parametrize("name", ALL)
def test_probabilities_are_noted_over_time(name):
    run = begin(name)
    finish(run)
    noted = run.probabilities()
    assert set(noted) == set(run.symbols)
    for label, over_time in noted.items():
        steps = [step for step, _ in over_time]
        assert steps[0] == 0
        assert steps[-1] == 7
        assert all(len(p) == run.symbols[label].size for _, p in over_time)
        assert all(sum(p) == pytest.approx(1.0, abs=1e-5) for _, p in over_time)


@pytest.mark.parametrize("name", [name for name in ALL if name != "fair"])
def test_everything_drawn_and_found_is_within_the_restriction(name, monkeypatch):
    torch.manual_seed(0)
    space: Any = Rich()
    symbols = space.symbols()
    within = space.where(symbols["width"] * symbols["depth"] <= 6)
    run = Run(ALL[name](), within, task(), steps=6, seed=0)
    trained: list[Any] = []
    along = run.trainer.along

    def noted(arch: Any) -> Any:
        trained.append(arch)
        return along(arch)

    monkeypatch.setattr(run.trainer, "along", noted)
    finish(run)
    assert all(within.contains(arch) for arch in trained + run.top(10))
    assert bool(trained) == (name not in {"darts", "darts, second order", "gumbel"})


def test_what_the_policy_draws_is_trained_where_it_is_in_the_space_soon_enough():
    torch.manual_seed(0)
    whole: Any = Rich()
    space = whole.where(whole.symbols()["depth"] <= 2)
    run = Run(ALL["proxyless"](), space, task(), steps=6, seed=0)
    deep, wanted = (whole.where(whole.symbols()["depth"] == n).sample(seed=0) for n in (3, 2))
    draws = iter([deep, deep, wanted])
    assert run.preferred(lambda: next(draws)) == wanted
    assert space.contains(run.preferred(lambda: deep))


def test_where_weights_stay_as_they_are_none_that_is_trained_gets_a_gradient():
    run = begin("proxyless")
    fixed, *trained = run.network.parameters()
    fixed.requires_grad_(False)
    with run.weights_as_they_are():
        assert not any(parameter.requires_grad for parameter in (fixed, *trained))
    assert not fixed.requires_grad
    assert all(parameter.requires_grad for parameter in trained)


@pytest.mark.parametrize("more", [{"log_prob_every_n_step": 0}, {"warmup_epochs": -1}])
def test_steps_that_are_none_are_refused(more):
    with pytest.raises(UsageError, match="warmup_epochs >= 0 and log_prob_every_n_step >= 1"):
        DARTS(**more)


@pytest.mark.parametrize("name", list(ALL)[3:])
def test_learning_the_policy_leaves_the_weights_alone(name):
    run = begin(name)
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    logits = [p.detach().clone() for p in run.policy.parameters()]
    for _ in range(3):
        run.strategy.learn(run)
        run.memory["baseline"] = -9.0  # so that there is something to learn from a reward
    assert all(torch.equal(before[k], v) for k, v in run.network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in run.network.parameters())
    after = list(run.policy.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(logits, after, strict=True))


def test_warm_up_leaves_the_policy_alone():
    run = Run(DARTS(warmup_epochs=0.5, **LR), Rich(), task(), steps=6)
    start = [p.detach().clone() for p in run.policy.parameters()]
    for step in range(6):
        run.advance()
        now = list(run.policy.parameters())
        moved = any(not torch.equal(a, b) for a, b in zip(start, now, strict=True))
        assert moved == (step >= 4)


def test_a_warm_up_without_end_is_refused():
    with pytest.raises(UsageError, match="warm-up takes 8 steps, but there are only 8"):
        Run(DARTS(warmup_epochs=1, **LR), Rich(), task(), steps=8)
    assert Run(RandomOneShot(warmup_epochs=1, **FEW), Rich(), task(), steps=8).warmup == 8


class Sliced(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        self.first = mnn.MutableLinear(4, width)
        self.norm = mnn.MutableBatchNorm1d(width)
        self.other = mnn.LayerChoice([nn.Identity(), nn.Linear(3, 3)], label="other")
        self.last = mnn.MutableLinear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.other(self.last(self.norm(self.first(x))))
        return y


class Always(OneShot):
    """Trains the architectures it is given, one after another."""

    def __init__(self, *archs: Any) -> None:
        super().__init__()
        self.archs = archs

    def path(self, run: Run) -> Any:
        return run.along(self.archs[run.step])


OPTIMIZERS: dict[str, Any] = {
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.1),
    "rmsprop": partial(torch.optim.RMSprop, lr=0.1, momentum=0.9, centered=True),
    "adagrad": partial(torch.optim.Adagrad, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("start", [[], [4], [4, 2]])
def test_inactive_slices_and_branches_are_not_updated(optimizer, start):
    archs = [{"width": width, "other": int(width == 4)} for width in [*start, 2]]
    run = Run(Always(*archs), Sliced(), task(optimizer=OPTIMIZERS[optimizer]), steps=len(archs))
    for _ in start:
        run.advance()
    space = run.network
    before = {k: v.clone() for k, v in space.state_dict().items()}
    state = {k: dict(v) for k, v in run.trainer.optimizer.optimizer.state.items()}
    kept = {k: {n: t.clone() for n, t in v.items() if t.dim()} for k, v in state.items()}
    run.advance()
    after = space.state_dict()
    unused = {
        "first.weight": (slice(2, None),),
        "first.bias": (slice(2, None),),
        "norm.weight": (slice(2, None),),
        "norm.bias": (slice(2, None),),
        "norm.running_mean": (slice(2, None),),
        "norm.running_var": (slice(2, None),),
        "last.weight": (slice(None), slice(2, None)),
    }
    for name, place in unused.items():
        assert torch.equal(before[name][place], after[name][place]), name
        used = tuple(slice(0, 2) if part != slice(None) else part for part in place)
        assert not torch.equal(before[name][used], after[name][used]), name
    for name in ("other.1.weight", "other.1.bias"):
        assert torch.equal(before[name], after[name])
    for name, parameter in space.named_parameters():
        assert parameter.shape == before[name].shape
        if name not in unused:
            continue
        for key, tensor in run.trainer.optimizer.optimizer.state[parameter].items():
            if tensor.dim():
                assert tensor.shape == parameter.shape
                old = kept.get(parameter, {}).get(key, torch.zeros_like(tensor))
                assert torch.equal(tensor[unused[name]], old[unused[name]]), (name, key)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_used_slices_are_updated_as_in_a_network_of_their_own(optimizer):
    """A space that is always the same architecture trains as that network alone does."""
    arch = {"width": 2, "other": 1}
    given = task(optimizer=OPTIMIZERS[optimizer])
    space = Sliced()
    network = space.freeze(arch)
    run = Run(Always(*[arch] * 4), space, given, steps=4)
    alone = ns.training.Trainer(network, given, steps=4)
    for _ in range(4):
        run.advance()
        alone.advance()
    trained = space.freeze(arch).state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, msg=name)


class Together(OneShot):
    """Trains along several architectures at each step."""

    def __init__(self, *archs: Any) -> None:
        super().__init__()
        self.archs = archs

    def train(self, run: Run, batch: Any) -> Tensor:
        losses = [run.descend(run.along(arch), lambda: run.loss(batch)) for arch in self.archs]
        return torch.stack(losses).sum()


class Twice(ns.ModelSpace):
    """A layer that is used twice, and attention, of which the slices are no views."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4, 6], label="width")
        self.first = mnn.MutableLinear(4, width)
        self.square = mnn.MutableLinear(width, width)
        self.attention = mnn.MutableMultiheadAttention(width, 1, batch_first=True)
        self.last = mnn.MutableLinear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.square(self.square(self.first(x)).tanh())[:, None]
        y, _ = self.attention(y, y, y)
        z: Tensor = self.last(y[:, 0])
        return z


@pytest.mark.parametrize("widths", [[2], [4, 4], [2, 4], [2, 6], [6]])
def test_gradients_of_slices_add_up(widths):
    """One step of plain descent is one along the sum of the gradients through the cuts."""
    archs = [{"width": width} for width in widths]
    given = task(optimizer=partial(torch.optim.SGD, lr=0.1), batch_size=256, clip=0.5)
    space, other = Twice(), Twice()
    other.load_state_dict(space.state_dict())
    run = Run(Together(*archs), space, given, steps=1)
    run.advance()
    x, y = given.train.tensors  # type: ignore[union-attr]
    for arch in archs:
        with other.activate(arch):
            torch.nn.functional.mse_loss(other(x), y).backward()
    torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(space.state_dict()[name], tensor, msg=name)


def kept_by(run: Run) -> int:
    """How many numbers a step keeps for its backward passes, at most at once by one pass."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run.advance()
    return sum(sizes)


class Wide(ns.ModelSpace):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.ops = mnn.LayerChoice(
            [nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 3)) for _ in range(n)],
            label="op",
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ops(x)
        return y


@pytest.mark.parametrize("name", ["random", "proxyless", "proxyless, reinforce", "enas"])
def test_what_a_step_keeps_does_not_grow_with_the_number_of_candidates(name):
    def kept(n: int) -> int:
        return kept_by(Run(ALL[name](), Wide(n), task(), steps=3))

    assert kept(8) < 1.1 * kept(2)


def test_darts_keeps_all_candidates():
    assert kept_by(Run(ALL["darts"](), Wide(8), task(), steps=3)) > 3 * kept_by(
        Run(ALL["darts"](), Wide(2), task(), steps=3)
    )


REFUSED: dict[str, Any] = {
    "stride": lambda: mnn.MutableConv1d(1, 1, 1, stride=Categorical([1, 2], label="what")),
    "continuous": lambda: mnn.MutableDropout(Numerical(0.1, 0.5, label="what")),
    "padding": lambda: mnn.MutableConv1d(1, 1, 3, padding=Categorical([0, 1], label="what")),
    "pool": lambda: mnn.MutableMaxPool1d(Categorical([1, 2], label="what")),
}


@pytest.mark.parametrize("name", ["darts", "gumbel", "proxyless"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_relaxed_is_refused_by_name_before_the_first_step(name, what):
    class Net(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.layer = REFUSED[what]()
            self.head = nn.LazyLinear(3)
            self.head.initialize_parameters(torch.zeros(1, 4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x[:, None])[:, 0]
            z: Tensor = self.head(y) if y.shape[1] == 4 else y
            return z

    with pytest.raises((SpaceError, UsageError), match="'what'"):
        Run(ALL[name](), Net(), task(), steps=3)


def test_validation_data_are_needed():
    with pytest.raises(UsageError, match="validation"):
        Run(DARTS(), Rich(), task(validation=None), steps=3)


def test_fair_paths_refuse_restrictions():
    space: Any = Rich()
    with pytest.raises(UsageError, match="uniform"):
        Run(ALL["fair"](), space.where(cost_of_width(space) <= 3), task(), steps=3)


def cost_of_width(space: Any) -> Any:
    return space.symbols()["width"]

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nas_space.errors import DataError, UsageError
from nas_space.training import Metric, Splits, Task, cosine, evaluate, fit, make_fabric, predict

from . import small

# --------------------------------------------------------------------------------- scores


def by_hand(network: nn.Module, data: TensorDataset) -> dict[str, float]:
    network = network.eval()
    x, y = data.tensors
    with torch.no_grad():
        output = network(x)
    accuracy = (output.argmax(1) == y).float().mean()
    return {"accuracy": float(accuracy), "loss": float(F.cross_entropy(output, y))}


@pytest.mark.parametrize("batch_size", [None, 1, 4, 100])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_scores_are_those_of_the_whole_split_for_any_batch(
    batch_size: int | None, split: str
) -> None:
    task, network = small.task(), small.network()
    scores = evaluate(network, task, split, batch_size=batch_size)
    data = task.split(split)
    assert isinstance(data, TensorDataset)
    assert scores == pytest.approx(by_hand(network, data), rel=1e-5)


def test_a_metric_sees_all_examples_at_once() -> None:
    """One that is no mean over batches."""
    task = small.task(metrics={"largest": Metric(lambda output, _: output.max())})
    network = small.network().eval()
    data = small.dataset(11, seed=1)
    expected = float(network(data.tensors[0]).detach().max())
    assert evaluate(network, task, batch_size=2)["largest"] == pytest.approx(expected)


def test_predictions_are_in_the_order_of_the_data() -> None:
    data = TensorDataset(torch.arange(9.0)[:, None], torch.arange(9))
    output, target = predict(nn.Identity(), Task.classification(data, data), batch_size=2)
    assert output[:, 0].tolist() == target.tolist() == [*range(9)]


def test_scoring_leaves_network_and_randomness_as_they_were() -> None:
    network = small.network()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    evaluate(network, small.task())
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), random_state)

    class Fails(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    failing = Fails(network)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(failing, small.task())
    assert [module.training for module in network.modules()] == modes
    assert failing.training


class Drawing(Dataset[Any]):
    """A data set with a random transform."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(3), index % 3


def test_scoring_twice_gives_the_same_even_where_data_draw() -> None:
    task = Task.classification(Drawing(), Drawing())
    scores = evaluate(nn.Identity(), task)
    torch.manual_seed(torch.initial_seed() + 1)
    assert evaluate(nn.Identity(), task) == scores


def test_scoring_keeps_no_graph() -> None:
    output, _ = predict(small.network(), small.task())
    assert not output.requires_grad


def test_a_loader_is_scored_like_the_data_set_behind_it() -> None:
    network = small.network()
    data = small.dataset(11, seed=1)
    loaded = small.task(validation=DataLoader(data, batch_size=4))
    assert evaluate(network, loaded) == pytest.approx(evaluate(network, small.task()))


def test_a_split_that_is_missing_unknown_or_empty_is_refused() -> None:
    task = Task.classification(small.dataset(), validation=TensorDataset(torch.zeros(0, 4)))
    with pytest.raises(UsageError, match="no 'test' data; it has 'train', 'validation'"):
        evaluate(small.network(), task, "test")
    with pytest.raises(UsageError, match="no 'loss' data"):
        evaluate(small.network(), task, "loss")
    with pytest.raises(DataError, match="validation data is empty"):
        evaluate(small.network(), task)


# ------------------------------------------------------------------------------ ready-made


def test_regression() -> None:
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x @ torch.tensor([[2.0], [-1.0]]))
    task = Task.regression(data, data, batch_size=16)
    network = fit(nn.Linear(2, 1), task, epochs=20)
    scores = evaluate(network, task)
    assert scores["rmse"] < 0.01
    error = (network(x) - data.tensors[1]).detach()
    assert scores["rmse"] == pytest.approx(float(error.square().mean().sqrt()))
    assert scores["mae"] == pytest.approx(float(error.abs().mean()))


def test_regression_refuses_targets_that_would_be_broadcast() -> None:
    data = TensorDataset(torch.rand(8, 2), torch.rand(8))
    with pytest.raises(DataError, match=r"outputs have the shape \(8, 1\) and targets \(8,\)"):
        fit(nn.Linear(2, 1), Task.regression(data), steps=1)


def test_label_smoothing_is_for_training_only() -> None:
    plain, smooth = small.task(), small.task(label_smoothing=0.5)
    network = small.network()
    batch = (torch.rand(6, 4), torch.arange(6) % 3)
    network.eval()
    expected = F.cross_entropy(network(batch[0]), batch[1], label_smoothing=0.5)
    assert torch.equal(smooth.training_loss(network, batch), expected)
    assert evaluate(network, plain) == evaluate(network, smooth)


def test_splits_bring_their_augmentation() -> None:
    splits = Splits(
        name="mine",
        train=small.dataset(),
        validation=small.dataset(),
        test=small.dataset(),
        num_classes=3,
        input_shape=(4,),
        augment=small.noisy,
    )
    task = Task.classification(splits)
    assert (task.train, task.test, task.augment) == (splits.train, splits.test, small.noisy)
    assert Task.classification(splits, augment=None).augment is None
    with pytest.raises(UsageError, match="give it alone"):
        Task.classification(splits, small.dataset())


def test_goodness_is_more_where_the_main_metric_is_better() -> None:
    assert small.task().fitness({"accuracy": 0.7, "loss": 9}) == 0.7
    assert Task.regression(small.dataset()).fitness({"rmse": 0.7, "mae": 9}) == -0.7


def test_tasks_go_to_other_processes() -> None:
    task = pickle.loads(pickle.dumps(small.task(label_smoothing=0.1)))
    assert small.same(
        fit(small.network(), task, steps=2),
        fit(small.network(), small.task(label_smoothing=0.1), steps=2),
    )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"metrics": {}}, UsageError, "at least one metric"),
        ({"metrics": {"a": max}}, UsageError, "metric 'a' is a builtin_function_or_method"),
        ({"batch_size": 0}, UsageError, "batch_size must be at least 1, but is 0"),
        ({"workers": -1}, UsageError, "workers must be at least 0, but is -1"),
        ({"clip": 0.0}, UsageError, "clip must be above 0"),
        ({"loss": None}, UsageError, r"needs a loss\(output, target\), or a step"),
        ({"train": 5}, DataError, "train data is a int"),
        ({"test": 5}, DataError, "test data is a int"),
    ],
)
def test_a_task_that_makes_no_sense(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        small.task(**options)


def test_batches_that_are_no_pairs_need_a_step_of_ones_own() -> None:
    task = small.task(train=TensorDataset(torch.rand(8, 4)), augment=None)
    with pytest.raises(DataError, match="not a pair"):
        fit(small.network(), task, steps=1)


# ------------------------------------------------------------------------------- schedule


@given(total=st.integers(1, 200), warmup=st.floats(0, 1))
def test_the_cosine_rises_to_its_peak_and_falls_to_nothing(total: int, warmup: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = cosine(optimizer, total, warmup=warmup)
    rates = []
    for _ in range(total):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    turn = round(total * warmup)
    assert rates[:turn] == sorted(rates[:turn])
    assert rates[turn:] == sorted(rates[turn:], reverse=True)
    assert all(0 < rate <= 2 for rate in rates)
    if turn < total:
        assert rates[turn] == 2
        assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)


# -------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "there is no device 'gpu'; use 'auto', 'cpu'"),
        ("meta", "no way to train on 'meta'"),
        ("cpu:3", "no 'cpu:3': this machine has 1"),
        ("cuda:99", "no 'cuda:99'|no cuda device here"),
    ],
)
def test_devices_that_are_not_there(device: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_fabric(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none_and_auto_is_the_cpu() -> None:
    with pytest.raises(UsageError, match="no cuda device here; use 'cpu' or 'auto'"):
        make_fabric("cuda")
    assert make_fabric().device == torch.device("cpu")


def test_32_bits_on_the_cpu_unless_said_otherwise() -> None:
    assert make_fabric("cpu").strategy.precision.precision == "32-true"
    assert make_fabric("cpu", "bf16-mixed").strategy.precision.precision == "bf16-mixed"


def test_the_same_device_in_all_ways_to_say_it() -> None:
    for device in ("cpu", "cpu:0", torch.device("cpu")):
        assert make_fabric(device).device.type == "cpu"


def test_options_replace_what_is_ready_made() -> None:
    loss = partial(F.nll_loss)
    assert small.task(loss=loss).loss is loss


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 200))
def test_whole_epochs_take_as_many_steps_as_their_examples_fill(
    length: int, batch_size: int, epochs: int
) -> None:
    task = Task.regression(TensorDataset(torch.zeros(length, 1)), batch_size=batch_size)
    size = min(length, batch_size)
    assert task.steps(epochs) == -(-length * epochs // size)

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from nas_space.errors import UsageError
from nas_space.training import Task, evaluate, fit, make_fabric

from . import small


class MisconfigurationException(Exception):  # noqa: N818 - as Lightning calls it
    pass


class LightningLike(nn.Module):
    """What Lightning's class does where there is no trainer."""

    automatic_optimization = True

    def log(self, name: str, value: Any) -> None:
        raise AssertionError(f"{name} = {value} was logged without a trainer")

    def test_dataloader(self) -> Any:
        raise MisconfigurationException("no test_dataloader")


class Classifier(LightningLike):
    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model or small.network()
        self.register_buffer("weights", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self(x), y, weight=self.weights)  # type: ignore[arg-type]
        self.log("train_loss", loss)
        return {"loss": loss, "index": batch_idx}

    def validation_step(self, batch: Any) -> None:
        x, y = batch
        output = self(x)
        self.log("val_acc", (output.argmax(1) == y).float().mean(), prog_bar=True)  # type: ignore[call-arg]
        self.log_dict({"val_loss": F.cross_entropy(output, y), "other": 3})  # type: ignore[operator]

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1, momentum=0.9)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(small.dataset(), batch_size=12, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(small.dataset(11, seed=1), batch_size=4)


METRICS = {"val_loss": "min", "val_acc": "max"}


def adapted(module: nn.Module, **options: Any) -> Task:
    return Task.from_lightning(module, **{"metrics": METRICS, **options})


def test_the_same_training_as_by_a_task_of_the_same_meaning() -> None:
    module = Classifier()
    data = {"train": small.dataset(), "validation": small.dataset(11, seed=1)}
    task = adapted(module, batch_size=12, **data)
    same_task = small.task(
        **data,
        augment=None,
        optimizer=partial(SGD, lr=0.1, momentum=0.9),
        schedule=lambda optimizer, total: None,  # noqa: ARG005
    )
    fit(module, task, steps=6)
    expected = fit(small.network(), same_task, steps=6)
    assert small.same(module.model, expected)
    scores, by_task = evaluate(module, task), evaluate(expected, same_task)
    assert scores["val_acc"] == pytest.approx(by_task["accuracy"])
    assert scores["val_loss"] == pytest.approx(by_task["loss"], rel=1e-5)


def test_another_network_takes_the_place_of_the_modules_own() -> None:
    """Which is how a search uses it: the module says how, the network is given."""
    module = Classifier()
    own = module.model
    task = adapted(module, network="model")
    other = small.network(seed=5)
    before = evaluate(other, task)
    fit(other, task, epochs=10)
    assert evaluate(other, task)["val_loss"] < before["val_loss"]
    assert module.model is own
    assert small.same(own, small.network())
    assert list(task.metrics) == ["val_loss", "val_acc"]
    assert not task.metrics["val_loss"].maximize


def test_data_come_from_the_module_unless_given() -> None:
    task = adapted(Classifier())
    assert isinstance(task.train, DataLoader)
    assert isinstance(task.validation, DataLoader)
    assert task.test is None
    data = small.dataset()
    assert adapted(Classifier(), train=data).train is data


def test_logging_is_put_back_and_needs_no_trainer() -> None:
    module = Classifier()
    fit(module, adapted(module), steps=1)
    with pytest.raises(AssertionError, match="without a trainer"):
        module.log("x", 1)
    assert "log" not in vars(module)
    own: list[str] = []
    vars(module)["log"] = own.append
    fit(module, adapted(module), steps=1)
    assert vars(module)["log"] == own.append
    assert not own


def test_metric_objects_count_once_for_each_batch() -> None:
    class Running:
        def __init__(self) -> None:
            self.values: list[float] = []

        def update(self, value: float) -> None:
            self.values.append(value)

        def compute(self) -> float:
            return sum(self.values)

        def reset(self) -> None:
            self.values.clear()

    class WithMetric(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.running = Running()

        def validation_step(self, batch: Any) -> None:
            self.running.update(float(len(batch[1])))
            self.log("size", self.running)

    module = WithMetric()
    task = adapted(module, metrics={"size": "max"})
    # Batches of 4, 4 and 3, each weighed by its examples.
    assert evaluate(module, task)["size"] == pytest.approx((16 + 16 + 9) / 11)


def schedules(kind: str, parameters: Any) -> Any:
    optimizer = Adam(parameters, lr=1.0)
    schedule = StepLR(optimizer, 1, gamma=0.5)
    return {
        "optimizer alone": optimizer,
        "list": [optimizer],
        "lists": ([optimizer], [schedule]),
        "dict": {"optimizer": optimizer, "lr_scheduler": schedule},
        "list of dict": [{"optimizer": optimizer, "lr_scheduler": schedule}],
        "by the step": {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 2},
        },
        "two": [optimizer, optimizer],
        "none": None,
        "plateau": {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer)},
    }[kind]


EPOCHS = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
"""Rates where a pass takes four steps."""


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("optimizer alone", [1.0] * 9),
        ("list", [1.0] * 9),
        ("lists", EPOCHS),
        ("dict", EPOCHS),
        ("list of dict", EPOCHS),
        ("by the step", [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625]),
    ],
)
def test_all_forms_of_configure_optimizers_and_their_resumption(
    tmp_path: Path, kind: str, rates: list[float]
) -> None:
    class Configured(Classifier):
        def configure_optimizers(self) -> Any:
            return schedules(kind, self.parameters())

    def run(seen: list[float], **options: Any) -> nn.Module:
        module = Configured()
        task = adapted(module, network="model", **options.pop("task", {}))
        return fit(small.network(), task, steps=9, on_step=lambda p: seen.append(p.lr), **options)

    file = tmp_path / "run.safetensors"
    seen: list[float] = []
    whole = run(seen)
    assert seen == rates

    class Cut(BaseException):
        pass

    class Stop(list[float]):
        def append(self, rate: float) -> None:
            super().append(rate)
            if len(self) == 6:
                raise Cut

    with pytest.raises(Cut):
        run(Stop(), checkpoint=file, every=1)
    rest: list[float] = []
    assert small.same(run(rest, checkpoint=file, resume=True), whole)
    assert rest == rates[6:]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("two", "must configure one optimizer"), ("none", "must configure"), ("plateau", "Plateau")],
)
def test_what_cannot_be_followed_is_refused(kind: str, said: str) -> None:
    class Configured(Classifier):
        def configure_optimizers(self) -> Any:
            return schedules(kind, self.parameters())

    module = Configured()
    with pytest.raises(UsageError, match=said):
        fit(module, adapted(module), steps=1)
    # With an optimizer given, the module's own does not matter.
    fit(module, adapted(module, optimizer=partial(SGD, lr=0.1)), steps=1)


def test_modules_that_do_not_fit_are_refused() -> None:
    module = Classifier()
    with pytest.raises(UsageError, match="logs no 'acc'; it logs 'val_acc', 'val_loss', 'other'"):
        evaluate(module, adapted(module, metrics={"acc": "max"}))
    with pytest.raises(UsageError, match="to be 'max' or 'min'"):
        adapted(module, metrics={"acc": "most"})
    with pytest.raises(UsageError, match=r"Classifier\.net is no module"):
        adapted(module, network="net")

    module.extra = nn.Parameter(torch.ones(1))
    with pytest.raises(UsageError, match="the parameter 'extra' beside 'model'"):
        adapted(module, network="model")
    module.automatic_optimization = False
    with pytest.raises(UsageError, match="optimises by hand"):
        adapted(module)

    class Silent(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Any]:
            del batch, batch_idx
            return {}

    silent = Silent()
    with pytest.raises(UsageError, match="or a dict with 'loss', but returned a dict"):
        fit(silent, adapted(silent), steps=1)


def test_true_half_precision_reaches_the_modules_steps() -> None:
    fabric = make_fabric("cpu", "bf16-true")
    module = Classifier(nn.Linear(4, 3))
    fit(module, adapted(module), steps=1, fabric=fabric)
    assert evaluate(module, adapted(module), fabric=fabric)["val_loss"] > 0


def test_mixed_precision_reaches_the_modules_steps() -> None:
    seen: list[torch.dtype] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            seen.append(y.dtype)
            return y

    module = Classifier(Watched(4, 3))
    fabric = make_fabric("cpu", "bf16-mixed")
    fit(module, adapted(module), steps=1, fabric=fabric)
    evaluate(module, adapted(module), fabric=fabric)
    assert set(seen) == {torch.bfloat16}

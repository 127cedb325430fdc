"""What is written for NNI's experiments: the lines that a report gives run as they are."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas_space
from nas_space.interop.migrate import migrate
from nas_space.nn import LayerChoice, ModelSpace
from nas_space.study import SearchResult
from nas_space.training import Task


class Net(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.body = LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3, bias=False)], label="op")

    def forward(self, x: Any) -> Any:
        return self.body(x)


class Module(nn.Module):
    """As a LightningModule has its steps."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.model: Any = nn.Identity()

    def training_step(self, batch: Any, _: int) -> Any:
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def validation_step(self, batch: Any, _: int) -> None:
        x, y = batch
        self.log("val_accuracy", (self.model(x).argmax(1) == y).float().mean())

    def log(self, *_: Any) -> None:
        raise AssertionError("a task records what is logged")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.model.parameters(), lr=self.rate)


def loader() -> Any:
    data = TensorDataset(torch.randn(16, 4), torch.arange(16) % 3)
    return DataLoader(data, batch_size=8)


def told(source: str, name: str) -> str:
    """What is reported of one of NNI's names."""
    (found,) = {f.instead for f in migrate(source).findings if f"{name} " in f"{f.what} "}
    return found


def run(line: str, **names: Any) -> dict[str, Any]:
    """Run what a report says to write, up to what it adds in words."""
    code = re.match(r"write (.*?\))(; |, whose|$)", line)
    assert code
    scope: dict[str, Any] = {"nas_space": nas_space, "torch": torch, **names}
    exec("import functools, nas_space.training\n" + code[1], scope)  # noqa: S102 - what is tested
    return scope


def evaluate(network: Any, arch: Any, shift: float = 0.0) -> float:
    return float(arch["op"]) * float(network.training) + shift


FUNCTIONAL = """
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.experiment import NasExperiment
from nni.nas.strategy import Random
evaluator = FunctionalEvaluator({arguments})
def evaluate(model, shift=0.0):
    nni.report_final_result(1)
exp = NasExperiment(space, {evaluator}, Random())
exp.config.max_trial_number = 2
exp.config.trial_concurrency = 1
exp.run()
print(exp.export_top_models(formatter="dict"))
"""


@pytest.mark.parametrize(
    ("arguments", "function"),
    [
        ("evaluate", "evaluate"),
        ("function=evaluate", "evaluate"),
        ("evaluate, shift=2.0", "functools.partial(evaluate, shift=2.0)"),
    ],
)
@pytest.mark.parametrize("evaluator", ["evaluator", "evaluator=evaluator"])
def test_an_experiment_is_one_call_with_what_the_file_has(arguments, function, evaluator):
    source = FUNCTIONAL.format(arguments=arguments, evaluator=evaluator)
    if "=" in evaluator:
        source = source.replace("Random())", "strategy=Random())")
    told_of_it = told(source, "FunctionalEvaluator")
    assert told_of_it.startswith(f"give {function} itself to nas_space.search")
    assert told_of_it.endswith(": def evaluate(model, arch, shift)")
    line = told(source, "NasExperiment")
    assert f"nas_space.search(space, {function}, strategy=Random(), trials=2, workers=1)" in line
    found = run(line, space=Net(), evaluate=evaluate, Random=nas_space.strategy.Random)["result"]
    assert isinstance(found, SearchResult)
    assert found.top(2)[0] == found.best()
    assert "result.top(k)" in line


SUPERVISED = """
import nni.nas.evaluator.pytorch as pl
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nni.nas.experiment import NasExperiment
evaluator = Classification(learning_rate=0.1, weight_decay=1e-4, max_epochs=1,
                           train_dataloaders=train, val_dataloaders=held_out)
experiment = NasExperiment(model_space=space, evaluator=evaluator, strategy=strategy)
"""


def test_a_supervised_evaluator_is_a_task():
    done = migrate(SUPERVISED)
    assert "from torch.utils.data import DataLoader\n" in done.text
    line = told(SUPERVISED, "Classification")
    task = run(line, train=loader(), held_out=loader())["task"]
    assert isinstance(task, Task)
    optimizer: Any = task.optimizer([nn.Parameter(torch.zeros(1))])  # type: ignore[list-item]
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 0.1
    assert optimizer.defaults["weight_decay"] == 1e-4
    assert "nas_space.training.fit(network, task, epochs=1)" in line
    search = told(SUPERVISED, "NasExperiment")
    assert "nas_space.search(space, task, strategy=strategy, epochs=1)" in search
    strategy = nas_space.strategy.RandomOneShot(candidates=2, calibration_batches=1)
    result = run(search, space=Net(), task=task, strategy=strategy)["result"]
    assert result.best()["op"] in (0, 1)


LIGHTNING = """
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer

class Own(LightningModule):
    def training_step(self, batch, batch_idx):
        self.log("train_loss", 0)

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", 0)

evaluator = Lightning(Own(0.1), Trainer(max_epochs=2, gpus=1), train_dataloaders=train,
                      val_dataloaders=held_out)
"""


def test_a_lightning_module_with_its_trainer_is_a_task_by_from_lightning():
    line = told(LIGHTNING, "Lightning")
    assert "Task.from_lightning(Own(0.1), metrics={'val_accuracy': 'max'}, network='model'" in line
    assert "epochs=2" in line
    task = run(line, Own=Module, train=loader(), held_out=loader())["task"]
    network = nas_space.training.fit(Net().random(seed=0), task, epochs=1)
    assert 0 <= nas_space.training.evaluate(network, task)["val_accuracy"] <= 1
    assert "from_lightning" in told(LIGHTNING, "LightningModule")
    assert "epochs=" in told(LIGHTNING, "Trainer")


MIDDLEWARE = """
from nni.nas.strategy.middleware import (
    Chain, Deduplication, FailureHandler, Filter, MedianStop, MultipleEvaluation,
)
chained = Chain(strategy, Filter(small_enough), Deduplication("invalid"), MultipleEvaluation(3),
                FailureHandler(metric=-1.0), MedianStop())
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Chain", r"give strategy itself to nas_space\.search"),
        ("Filter", r"space\.where\(.*small_enough|small_enough.*space\.where\("),
        ("Deduplication", r"never tries an architecture twice"),
        ("MultipleEvaluation", r"the mean of 3 runs"),
        ("FailureHandler", r"failures=n\).*without -1\.0 for a metric"),
        ("MedianStop", r"pruner=optuna\.pruners\.MedianPruner\(\)"),
    ],
)
def test_what_a_chain_adds_is_an_argument_of_the_search_or_of_the_space(name, says):
    assert re.search(says, told(MIDDLEWARE, name))


def test_failures_are_retried_where_they_are_evaluated():
    source = MIDDLEWARE.replace("metric=-1.0", "retry_patience=4")
    assert re.search(r"try one again 4 times", told(source, "FailureHandler"))


@pytest.mark.parametrize("name", ["101", "201"])
def test_tables_of_benchmarks_are_searched_by_name(name):
    source = f"from nni.nas.benchmark.nasbench{name} import query_nb{name}_trial_stats\n"
    line = told(source, f"query_nb{name}_trial_stats")
    space = getattr(nas_space.hub, f"NasBench{name}")
    key = re.search(r"key=space\.(\w+)\)", line)
    assert key
    assert callable(getattr(space, key[1]))
    assert "TableEvaluator" in line


def test_what_was_traced_is_written_as_it_is():
    source = "import nni\ndata = nni.trace(Images)(root='here')\n"
    source += "import torch\nfrom mine import Chain\ntorch.jit.trace(model, x)\nChain(model)\n"
    assert told(source, "nni.trace") == "leave it out, and write Images itself"


def test_calls_through_a_module_are_those_of_the_names_in_it():
    source = SUPERVISED.replace("evaluator = Classification(", "evaluator = pl.Classification(")
    line = told(source, "nni.nas.evaluator.pytorch.Classification")
    assert (
        "Task.classification(train, held_out, optimizer=functools.partial(torch.optim.Adam" in line
    )

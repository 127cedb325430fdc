"""Distillation: a teacher for any task, evaluated once a batch, changed by nothing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import DataError, UsageError
from nas_space.strategy.oneshot import RandomOneShot, Run
from nas_space.training import Task, evaluate, fit, make_fabric, recalibrate
from nas_space.training.distillation import Distillation, relative_error


class Texts:
    """Examples as tokenizers make them: dictionaries, padded, with a mask."""

    def __init__(self, n: int = 32) -> None:
        self.tokens = torch.randint(1, 20, (n, 6), generator=torch.Generator().manual_seed(0))
        self.lengths = torch.arange(n) % 5 + 2

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        mask = (torch.arange(6) < self.lengths[place]).long()
        return {"tokens": self.tokens[place], "attention_mask": mask, "labels": torch.tensor(0)}


def batch_of(data: Texts) -> Any:
    return torch.utils.data.default_collate([data[place] for place in range(len(data))])


class Encoder(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, width)
        self.out = nn.Linear(width, 8)
        self.calls = 0

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        states = self.out(self.hidden(self.table(tokens)).relu())
        return {"last_hidden_state": states * (1 + 0 * attention_mask[..., None])}


def images(n: int = 64) -> TensorDataset:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, (x.sum(1) > 0).long())


def teacher(width: int = 16) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


def test_a_student_learns_to_do_what_the_teacher_does_without_labels():
    whole = teacher()
    before = copy.deepcopy(whole.state_dict())
    data = TensorDataset(images().tensors[0])
    task = Task.distillation(whole, data, data, batch_size=16)
    torch.manual_seed(2)
    student = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    start = evaluate(student, task)["fidelity"]
    fit(student, replace(task, optimizer=lambda p: torch.optim.Adam(p, 0.02)), epochs=40)
    assert evaluate(student, task)["fidelity"] > max(0.9, start)
    assert evaluate(whole, task) == {"fidelity": 1.0, "agreement": 1.0}
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in before.items())
    assert all(p.grad is None for p in whole.parameters())


def test_the_main_metric_of_classes_is_agreement():
    data = images()
    task = Task.distillation(teacher(), data, data, loss="kl", temperature=2.0)
    assert task.main_metric == "agreement"
    torch.manual_seed(3)
    student = teacher(4)
    x = data.tensors[0]
    same = (student(x).argmax(1) == task.step.__self__.teacher(x).argmax(1)).float().mean()  # type: ignore[union-attr]
    assert evaluate(student, task)["agreement"] == pytest.approx(same.item())


def test_batches_of_texts_count_only_what_is_not_padding():
    whole, student = Encoder(), Encoder(4)
    data = Texts()
    loss = Distillation(whole).loss(student, batch := batch_of(data))
    tokens, mask = batch["tokens"], batch["attention_mask"].bool()
    mine = student(tokens, mask)["last_hidden_state"][mask]
    theirs = whole(tokens, mask)["last_hidden_state"][mask]
    torch.testing.assert_close(loss, relative_error(mine, theirs))
    task = Task.distillation(whole, data, data, batch_size=8)  # type: ignore[arg-type]
    fidelity = evaluate(student, task)["fidelity"]
    assert fidelity == pytest.approx(1 - loss.item(), abs=1e-5)


def test_the_teacher_is_evaluated_once_for_a_batch_but_again_when_it_has_changed():
    whole = Encoder()
    batch = batch_of(Texts())
    teaching = Distillation(whole)
    for _ in range(3):
        teaching.loss(Encoder(), batch)
    assert whole.calls == 1
    batch["tokens"].add_(0)
    teaching.loss(Encoder(), batch)
    assert whole.calls == 2


@pytest.mark.parametrize(("memory", "calls"), [(0, 8), (1 << 20, 2), (1, 8), (32 * 6 * 8 * 4, 5)])
def test_answers_are_kept_while_they_fit_for_inputs_that_come_again_in_other_tensors(memory, calls):
    whole, student = Encoder(), Encoder(4)
    batch = batch_of(Texts())
    other = {**batch, "tokens": batch["tokens"].flip(0)}
    plain, teaching = Distillation(whole), Distillation(whole)
    wanted = [plain.loss(student, one).item() for one in (batch, other)]
    whole.calls = 0
    teaching.cache.most = memory
    for _ in range(4):
        for one, loss in zip((batch, other), wanted, strict=True):
            again = {name: tensor.clone() for name, tensor in one.items()}
            assert teaching.loss(student, again).item() == loss
    assert whole.calls == calls
    assert copy.deepcopy(teaching).cache.most == memory


def test_what_differs_in_type_or_in_precision_is_another_input():
    whole, x = teacher(), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    whole.register_forward_hook(count)
    teaching = Distillation(whole)
    teaching.cache.most = 1 << 20
    student = teacher(4)
    for _ in range(2):
        teaching.loss(student, x.clone())
        with torch.autocast("cpu", torch.bfloat16):
            teaching.loss(student, x.clone())
        teaching.loss(copy.deepcopy(student).double(), x.double())
    assert calls == 3


def test_the_teacher_runs_in_evaluation_mode_and_keeps_its_modes():
    whole = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    whole[0].eval()
    teaching = Distillation(whole)
    x = torch.rand(5, 4)
    assert teaching.loss(nn.Sequential(whole[0]), x).item() == 0.0
    assert [module.training for module in whole.modules()] == [True, False, True]


def test_any_task_takes_a_teacher_beside_its_own_loss():
    whole, data = teacher(), images()
    plain = Task.classification(data, data)
    task = plain.distilled(whole, weight=0.25)
    torch.manual_seed(4)
    student = teacher(4)
    x, y = data.tensors
    expected = 0.75 * F.cross_entropy(student(x), y) + 0.25 * relative_error(student(x), whole(x))
    torch.testing.assert_close(task.training_loss(student, (x, y)), expected)
    assert list(task.metrics) == list(plain.metrics)


def test_a_task_with_a_step_of_its_own_takes_a_teacher():
    whole, data = Encoder(), Texts()

    def step(network: nn.Module, batch: Any) -> Tensor:
        states = network(batch["tokens"], attention_mask=batch["attention_mask"])
        loss: Tensor = states["last_hidden_state"].square().mean()
        return loss

    task = Task(train=data, step=step, metrics=Task.regression(images()).metrics)  # type: ignore[arg-type]
    student = Encoder(4)
    batch = batch_of(data)
    loss = task.distilled(whole, weight=1.0).training_loss(student, batch)
    torch.testing.assert_close(loss, Distillation(whole).loss(student, batch))
    assert student.calls == 2


def test_hidden_states_of_other_widths_are_projected_by_the_map_that_fits_best():
    torch.manual_seed(5)
    whole, student = teacher(6), teacher(2)
    x = torch.randn(64, 4)
    teaching = Distillation(whole, hidden=["0"])
    loss = teaching.loss(student, x) - Distillation(whole).loss(student, x)
    mine, theirs = student[0](x), whole[0](x)  # type: ignore[index]
    fitted = mine @ torch.linalg.lstsq(mine, theirs).solution
    torch.testing.assert_close(loss, relative_error(fitted, theirs), rtol=1e-2, atol=1e-4)
    loss.backward()
    assert student[0].weight.grad.abs().sum() > 0  # type: ignore[index]
    same = Distillation(whole, hidden={"0": "0"}).loss(whole, x)
    assert same.item() == 0.0


def test_attention_is_compared_by_its_mean_over_heads():
    class Net(nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, heads, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x, x, average_attn_weights=False)[0]
            return y

    x = torch.randn(2, 5, 8)
    whole, student = Net(4), Net(2)
    plain, both = (Distillation(whole, attention=a).loss(student, x) for a in ([], ["attention"]))
    assert both > plain
    with pytest.raises(DataError, match="eager"):
        Distillation(nn.Sequential(nn.Linear(8, 8)), attention=["0"]).loss(
            nn.Sequential(nn.Linear(8, 8)), x
        )


class Space(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = ns.Categorical([2, 4, 8], label="width")
        self.first = mnn.MutableLinear(4, width)
        self.norm = mnn.MutableBatchNorm1d(width)
        self.last = mnn.MutableLinear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.norm(self.first(x)).relu())
        return y


def step(network: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(network(batch[0]), batch[1])


@pytest.mark.parametrize("kind", ["plain", "own step", "distilled", "distillation"])
def test_sandwich_trains_whatever_the_task(kind):
    data = images()
    tasks = {
        "plain": Task.classification(data, data, batch_size=16),
        "own step": Task.classification(data, data, batch_size=16, step=step),
        "distilled": Task.classification(data, data, batch_size=16).distilled(teacher()),
        "distillation": Task.distillation(teacher(), data, data, batch_size=16),
    }
    torch.manual_seed(0)
    space = Space()
    before = copy.deepcopy(space.state_dict())
    result = ns.search(space, tasks[kind], strategy="sandwich", steps=6)
    assert result.best()["width"] in (2, 4, 8)
    changed = space.state_dict()["first.weight"] != before["first.weight"]
    assert changed.any(1).all()  # the largest takes part in each step


def test_sandwich_of_a_step_teaches_the_others_what_the_largest_does():
    data = images()
    run = Run(
        RandomOneShot(paths="sandwich"),
        Space(),
        Task.classification(data, data, step=step),
        steps=1,
    )
    losses: list[float] = []
    descend = run.descend

    def noted(path: Any, loss: Any) -> Tensor:
        losses.append(float(descend(path, loss)))
        return torch.tensor(losses[-1])

    run.descend = noted  # type: ignore[method-assign]
    batch = data.tensors
    run.strategy.train(run, batch)
    run.trainer.used.clear()
    with run.space.activate({"width": 8}):
        whole = run.network(batch[0])
    with run.space.activate({"width": 2}):
        small = run.network(batch[0])
    assert losses[0] * 4 == pytest.approx(F.cross_entropy(whole, batch[1]).item(), rel=1e-5)
    assert losses[1] * 4 == pytest.approx(relative_error(small, whole).item(), rel=1e-5)


def test_recalibration_takes_batches_of_any_form():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, pixels: Tensor) -> Tensor:
            y: Tensor = self.norm(pixels)
            return y

    x = images().tensors[0]
    net = Net()
    examples: Any = [{"pixels": row, "labels": 0} for row in x]
    recalibrate(net, torch.utils.data.DataLoader(examples, batch_size=len(x)))
    torch.testing.assert_close(net.norm.running_mean, x.mean(0))


def test_a_task_with_a_teacher_crosses_processes():
    data = images()
    task = pickle.loads(pickle.dumps(Task.classification(data).distilled(teacher())))
    batch = data.tensors
    torch.manual_seed(0)
    student = teacher(4)
    assert task.training_loss(student, batch).item() > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"loss": "l1"}, "'mse', 'kl' or a function"),
        ({"temperature": 0}, "above 0"),
        ({"hidden": "layer"}, "a list of paths"),
        ({"hidden": ["layer.7"]}, "no module 'layer.7'"),
    ],
)
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        Distillation(teacher(), **arguments)


def test_a_space_is_no_teacher_and_its_network_is():
    with pytest.raises(UsageError, match=r"space\.freeze"):
        Distillation(Space())
    with pytest.raises(UsageError, match="a teacher is a network"):
        Distillation("bert")  # type: ignore[arg-type]
    Distillation(Space().random(seed=0))


def test_outputs_that_have_nothing_in_common_are_refused():
    with pytest.raises(DataError, match=r"output \(5, 2\) beside output \(5, 3\)"):
        Distillation(nn.Linear(4, 3)).loss(nn.Linear(4, 2), torch.rand(5, 4))


def test_a_step_that_calls_no_network_is_refused():
    task = Task.classification(
        images(), step=lambda network, _: network.first.weight.sum()
    ).distilled(teacher())
    with pytest.raises(UsageError, match="did not call the network"):
        task.training_loss(Space(), images().tensors)


def test_mixed_precision_trains_a_student_of_a_teacher_with_hidden_states_of_other_widths():
    data: Any = Texts(64)
    task = Task.distillation(
        Encoder(12),
        data,
        hidden=["hidden"],
        batch_size=64,
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-2),
    )
    torch.manual_seed(0)
    student = Encoder(6)
    seen: list[torch.dtype] = []
    student.out.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    losses: list[float] = []
    fit(
        student,
        task,
        steps=40,
        fabric=make_fabric("cpu", precision="bf16-mixed"),
        on_step=lambda progress: losses.append(progress.loss),
    )
    assert set(seen) == {torch.bfloat16}
    assert student.out.weight.dtype == torch.float32
    assert losses[-1] < 0.5 * losses[0]


def test_batches_of_transformers_teach_logits_hidden_states_and_attention_at_once():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)

    def bert(width: int) -> Any:
        config = transformers.BertConfig(
            vocab_size=40, hidden_size=width, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=32, attn_implementation="eager", output_attentions=True,
            num_labels=3,
        )  # fmt: skip
        return transformers.BertForSequenceClassification(config).eval()

    data = [
        {"input_ids": torch.randint(0, 40, (8,)), "attention_mask": torch.ones(8).long()}
        for _ in range(32)
    ]
    blocks = ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    whole = bert(32)
    parts = {
        "logits": Distillation(whole, loss="kl"),
        "hidden": Distillation(whole, loss="kl", hidden=blocks),
        "all": Distillation(
            whole, loss="kl", hidden=blocks, attention=[f"{b}.attention.self" for b in blocks]
        ),
    }
    student, batch = bert(16), torch.utils.data.default_collate(data)
    with torch.no_grad():
        losses = {name: float(part.loss(student, batch)) for name, part in parts.items()}
        same = [float(part.loss(copy.deepcopy(whole), batch)) for part in parts.values()]
    assert 0 < losses["logits"] < losses["hidden"] < losses["all"]
    assert max(same) < 1e-5


class Shared(nn.Module):
    """A block that a forward calls twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.block(x).tanh())
        return y


def test_calls_of_a_module_are_compared_with_those_of_the_same_forward() -> None:
    """A step may call the network twice, and the network a block twice."""
    teacher = Shared()
    student = copy.deepcopy(teacher)

    def step(network: nn.Module, batch: Tensor) -> Tensor:
        return network(batch).mean() + network(-batch).mean()  # type: ignore[no-any-return]

    data = TensorDataset(torch.randn(8, 3))
    task = Task.regression(data, step=step).distilled(teacher, weight=1, hidden=["block"])
    assert task.training_loss(student, torch.randn(8, 3)).item() == pytest.approx(0, abs=1e-9)

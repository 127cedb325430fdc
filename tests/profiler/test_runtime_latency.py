"""Tables of blocks on ONNX Runtime and OpenVINO, and what is refused of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas_space.errors import SpaceError, UsageError
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableConv2d
from nas_space.profiler import (
    LatencyTable,
    TimingTarget,
    blocks,
    calibrate_latency,
    latency,
    measure_latency,
)
from nas_space.runtimes.alternating import Turns

from . import oracle

pytestmark = [
    pytest.mark.filterwarnings("ignore:the machine is too noisy"),
    pytest.mark.filterwarnings("ignore:the corrected table ranks"),
]

RUNTIMES = ["onnxruntime", "openvino"]
SHAPE = (3, 8, 8)


class Convolutions(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        width = Categorical([8, 64], label="width")
        self.body = LayerChoice(
            {
                "wide": lambda: nn.Sequential(
                    MutableConv2d(8, width, 3, padding=1), nn.ReLU(), MutableConv2d(width, 8, 1)
                ),
                "deep": lambda: nn.Sequential(*(nn.Conv2d(8, 8, 5, padding=2) for _ in range(6))),
                "none": nn.Identity,
            },
            label="body",
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 2))

    def forward(self, x: Any) -> Any:
        return self.head(self.body(self.stem(x)))


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module")
def space():
    return Convolutions()


def test_a_table_says_where_it_was_measured(runtime, space):
    table = measure_latency(space, "cpu", SHAPE, runtime=runtime, repeats=2, progress=False)
    assert table.milliseconds.keys() == {block.key for block in blocks(space, SHAPE)}
    assert all(time > 0 for time in table.milliseconds.values())
    about = table.about
    assert (about["runtime"], about["threads"], about["batch_size"]) == (runtime, 1, 1)
    assert about["input_shape"] == [3, 8, 8]
    assert about["version"][0].isdigit()
    assert about["device"].startswith("cpu")
    cost = latency(space, table, runtime=runtime, threads=1)
    assert all(cost.evaluate(arch) > 0 for arch in oracle.architectures(space))


def test_whole_networks_correct_it(runtime):
    class Several(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(
                *(
                    LayerChoice(
                        {"a": nn.Conv2d(3, 3, 5, padding=2), "b": nn.Conv2d(3, 3, 1),
                         "c": nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(),
                                            nn.Conv2d(24, 3, 3, padding=1))},
                        label=f"part{i}",
                    )
                    for i in range(3)
                )
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return self.parts(x)

    space = Several()
    table = measure_latency(space, "cpu", SHAPE, runtime=runtime, repeats=5, progress=False)
    found = calibrate_latency(space, table, 12, held_out=8, repeats=5, progress=False)
    assert found.correction is not None
    assert found.milliseconds == table.milliseconds
    assert found.about == table.about
    assert found.correction.about["networks"] + found.correction.about["held_out"] == 20
    cost = latency(space, found)
    values = [cost.evaluate(arch) for arch in oracle.architectures(space)]
    middle = sorted(values)[13]
    assert space.where(cost <= middle).count() == sum(value <= middle for value in values)


def test_tables_of_another_runtime_or_number_of_threads_are_refused(space):
    pytest.importorskip("onnxruntime")
    table = measure_latency(space, "cpu", SHAPE, runtime="onnxruntime", repeats=1, progress=False)
    with pytest.raises(UsageError, match=r"another runtime: .*'onnxruntime', and 'openvino'"):
        latency(space, table, runtime="openvino")
    with pytest.raises(UsageError, match=r"another threads: .* 1, and 4 is asked for"):
        latency(space, table, threads=4)
    # Before anything is measured.
    told: list[Any] = []
    for wrong in (
        {"runtime": "torch"},
        {"runtime": "onnxruntime", "threads": 2},
        {"runtime": "onnxruntime", "batch_size": 2},
    ):
        with pytest.raises(UsageError, match="the latency table is of another"):
            measure_latency(
                space, "cpu", SHAPE, known=table, progress=lambda *args: told.append(args), **wrong
            )
    with pytest.raises(UsageError, match=r"another input_shape: .*\[3, 8, 8\], and \[3, 16, 16\]"):
        measure_latency(
            space, "cpu", (3, 16, 16), known=table, runtime="onnxruntime", progress=False
        )
    assert told == []


def test_another_version_is_warned_of_and_so_is_a_table_that_says_nothing(space):
    keys = [block.key for block in blocks(space, SHAPE)]
    silent = LatencyTable(dict.fromkeys(keys, 1.0))
    with pytest.warns(UserWarning, match="does not say with which runtime, threads it was"):
        latency(space, silent, SHAPE, runtime="openvino", threads=1)
    old = LatencyTable(dict.fromkeys(keys, 1.0), {"runtime": "openvino", "version": "1.0"})
    with pytest.warns(UserWarning, match=r"another version: .*'1\.0', and '2\.0'"):
        old.require(runtime="openvino", version="2.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old.require(runtime="openvino", version="1.0")
        latency(space, old, SHAPE, runtime="openvino")


def test_tables_of_two_runtimes_are_not_merged():
    one, other = (LatencyTable({"a": 1.0}, {"runtime": name}) for name in RUNTIMES)
    with pytest.raises(UsageError, match="runtime is 'onnxruntime' here and 'openvino' there"):
        one.merge(other)


class Strange(nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.linalg.eigvals(x).real


def test_a_block_that_the_runtime_cannot_run_is_named(runtime):
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice({"plain": nn.Linear(4, 4), "strange": Strange()}, label="op")

        def forward(self, x: Any) -> Any:
            return self.op(x.flatten(1)[:, :4].repeat(1, 1, 1).expand(1, 4, 4)).sum(-1)

    with pytest.raises(SpaceError, match=rf"op\.strange .* does not run on {runtime}: .*eig"):
        measure_latency(Net(), "cpu", (16,), runtime=runtime, repeats=1, progress=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"runtime": "onnx"}, "there is no runtime 'onnx'"),
        ({"runtime": "onnxruntime", "threads": 0}, "threads must be a whole number"),
        ({"runtime": "onnxruntime", "device": "meta"}, "nothing runs on the meta device"),
    ],
)
def test_targets_that_are_not_there(given, message):
    with pytest.raises(UsageError, match=message):
        TimingTarget(**given)


def test_another_type_is_that_of_what_is_timed(monkeypatch):
    pytest.importorskip("onnxruntime")
    seen: list[Any] = []
    from nas_space.runtimes import find_runtime

    adapter = find_runtime("onnxruntime")
    plain = adapter.compile

    def compiled(network: nn.Module, inputs: Any, **options: Any) -> Any:
        seen.extend([network.weight.dtype, inputs[0][0].dtype])
        return plain(network, inputs, **options)

    monkeypatch.setattr(adapter, "compile", compiled)
    target = TimingTarget("onnxruntime", dtype=torch.float64)
    network = nn.Linear(4, 4).eval()
    target.time([("a layer", network, ((torch.zeros(1, 4),), {}))], turns=1, most=1)
    assert seen == [torch.float64, torch.float64]
    assert target.about["dtype"] == "float64"


def test_torch_has_its_threads_back_afterwards(space):
    before = torch.get_num_threads()
    seen = set[int]()
    network = space.freeze({"body": "none"}).eval()
    network.register_forward_hook(lambda *_: seen.add(torch.get_num_threads()))
    call = (torch.zeros(1, *SHAPE),), dict[str, Any]()
    TimingTarget("torch", 3).time([("a network", network, call)], turns=1, most=1)
    assert seen == {3}
    assert torch.get_num_threads() == before


def test_networks_of_much_memory_are_timed_in_several_lots(monkeypatch):
    monkeypatch.setattr("nas_space.profiler.target._TOGETHER", 200)
    events: list[str] = []

    def networks() -> Any:
        for number in range(6):
            events.append(f"made {number}")
            network = nn.Linear(5, 5).eval()  # of 120 bytes
            network.register_forward_hook(lambda *_, number=number: events.append(f"ran {number}"))
            yield str(number), network, ((torch.zeros(1, 5),), {})

    found = TimingTarget("torch").time(networks(), turns=1, most=1)
    assert len(found) == 6
    assert all(time > 0 for time, _ in found)
    assert events.index("ran 0") < events.index("made 2")  # no more than two are held at once


@pytest.mark.parametrize(("slower", "steady"), [(1.02, True), (2.0, False)])
def test_a_machine_that_gets_slower_between_lots_is_taken_off(monkeypatch, slower, steady):
    monkeypatch.setattr("nas_space.profiler.target._TOGETHER", 200)
    speed = [1.0]

    def in_turns(_: Any, runs: list[Any], __: Any) -> Turns:
        found = Turns(np.array([[run() * speed[0] for run in runs]] * 2), True)
        speed[0] *= slower
        return found

    monkeypatch.setattr(TimingTarget, "in_turns", in_turns)

    def load(_: Any, name: str, *__: Any) -> Any:
        return lambda: float(name)

    monkeypatch.setattr(TimingTarget, "load", load)
    networks: Any = ((str(number), nn.Linear(5, 5), ((), {})) for number in range(1, 7))
    found = TimingTarget("torch").time(networks)
    assert [time for time, _ in found] == pytest.approx([1000.0 * n for n in range(1, 7)])
    assert [good for _, good in found] == [True, True, *[steady] * 4]

"""Tables corrected by whole networks: made runtimes with a known law, and what sums can do."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_space.errors import DataError, UsageError
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableLinear, Repeat
from nas_space.profiler import (
    Correction,
    LatencyTable,
    blocks,
    calibrate_latency,
    latency,
    measure_latency,
)
from nas_space.profiler.share_model import fitted
from nas_space.runtimes import RUNTIMES, Runtime, register_runtime

from . import oracle


class Stack(ModelSpace):
    """108 architectures of up to four blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Repeat(
            lambda i: LayerChoice(
                {
                    "wide": nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 6)),
                    "thin": nn.Linear(6, 6),
                    "none": nn.Identity(),
                },
                label=f"op{i}",
            ),
            (1, 3),
            label="depth",
        )
        self.head = MutableLinear(6, Categorical([2, 5], label="width"))

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x) + x)


ENTRY, LAYER, MAC = 50e-6, 2e-6, 3e-8
"""Seconds of the made runtime: to enter a program, for each layer, for each multiply-add."""


def work(network: nn.Module) -> float:
    """Seconds that its layers take; activations are fused, and cost nothing."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return sum(LAYER + MAC * layer.in_features * layer.out_features for layer in layers)


class Made(Runtime):
    """Takes so much of a made clock for a network, and does nothing else."""

    name, suffix = "made", ".made"

    def __init__(self) -> None:
        self.now = 0.0

    def export(self, source: Any, path: Any, **options: Any) -> None:
        raise NotImplementedError

    def load(self, path: Any, *, threads: int = 1) -> Any:
        raise NotImplementedError

    def compile(self, network: nn.Module, inputs: Any, *, threads: int = 1) -> Any:
        takes = ENTRY + work(network)
        runtime = self

        class Program:
            def prepare(self, *tensors: Any) -> Any:
                return self.run

            def run(self) -> None:
                runtime.now += takes

        return Program()


@pytest.fixture
def made(monkeypatch):
    runtime = Made()
    monkeypatch.setattr("nas_space.runtimes.alternating._clock", lambda _: lambda: runtime.now)
    register_runtime("made", runtime)
    yield runtime
    del RUNTIMES["made"]


@pytest.mark.usefixtures("made")
def test_what_a_runtime_adds_to_each_block_and_saves_within_networks_is_found_exactly():
    space = Stack()
    table = measure_latency(space, "cpu", (6,), runtime="made", repeats=2, progress=False)
    arch = {"depth": 3, "op0": "wide", "op1": "thin", "op2": "wide", "width": 5}
    true = 1e6 * (ENTRY + work(space.freeze(arch)))
    assert latency(space, table).evaluate(arch) > 3 * true  # each block is entered
    table = calibrate_latency(space, table, 20, held_out=10, repeats=2, progress=False)
    cost = latency(space, table)
    for each in oracle.architectures(space):
        expected = 1e6 * (ENTRY + work(space.freeze(each)))
        assert cost.evaluate(each) == pytest.approx(expected, rel=2e-3)
    assert table.correction is not None
    assert table.correction.about["spearman"] > 0.999
    assert table.correction.about["median_error"] < 1e-3
    assert table.correction.about["networks"] == 20
    assert table.correction.about["held_out"] == 10
    assert table.about["runtime"] == "made"


@settings(max_examples=25, deadline=None)
@given(
    alone=st.floats(0.1, 2),
    blocks=st.floats(-0.03, 0.05),
    macs=st.floats(0, 0.02),
    constant=st.floats(0.2, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_linear_law_is_found_from_few_networks(alone, blocks, macs, constant, seed):
    draws = np.random.default_rng(seed)
    rows = [
        Counter({"alone": float(t), "blocks": 1, "macs": float(m), "bytes in": 0, "bytes out": 0})
        for t, m in zip(draws.uniform(0.1, 1, 12), draws.integers(1, 30, 12), strict=True)
    ]
    counts = draws.integers(0, 3, (60, 12)).astype(float)
    quantities = counts @ [[row[n] for n in ("alone", "blocks", "macs")] for row in rows]
    times = quantities @ [alone, blocks, macs] + constant
    model = fitted(rows, counts[:30], times[:30])
    assert np.allclose(model.predict(counts[30:]), times[30:], rtol=1e-3)
    assert np.allclose(model.left_out, 1, rtol=2e-3)


def test_a_block_that_differs_from_all_others_is_found_by_the_networks_that_have_it():
    draws = np.random.default_rng(0)
    rows = [Counter({"alone": 1.0, "blocks": 1, "macs": 5}) for _ in range(6)]
    counts = draws.integers(0, 4, (40, 6)).astype(float)
    times = counts @ [1, 1, 1, 1, 1, 3.0] + 1  # nothing that is known of it says so
    model = fitted(rows, counts[:30], times[:30])
    assert np.allclose(model.predict(counts[30:]), times[30:], rtol=0.01)


def test_noise_is_not_learnt():
    draws = np.random.default_rng(0)
    rows = [Counter({"alone": float(t), "blocks": 1}) for t in draws.uniform(0.5, 1.5, 20)]
    counts = draws.integers(0, 3, (230, 20)).astype(float)
    truth = counts @ [0.5 * row["alone"] for row in rows] + 2
    noisy = truth * draws.normal(1, 0.03, len(truth))
    model = fitted(rows, counts[:30], noisy[:30])
    error = np.median(np.abs(model.predict(counts[30:]) / truth[30:] - 1))
    assert error < 0.02


def by_hand(space: Any, arch: Any, table: LatencyTable) -> float:
    """Milliseconds by a correction, block by block of the frozen network's own names."""
    assert table.correction is not None
    shares = table.correction.milliseconds
    keys = {block.path: block.key for block in blocks(space, (6,)) if block.kind != "Linear"}
    linear = {block.outputs[0][1]: block.key for block in blocks(space, (6,))
              if block.kind == "Linear"}  # fmt: skip
    wide = next(block.key for block in blocks(space, (6,)) if block.kind == "Sequential")
    total = table.correction.constant + shares[linear[arch["width"]]] + shares[keys[""]]
    for place in range(arch["depth"]):
        op = arch[f"op{place}"]
        total += {"wide": shares[wide], "thin": shares[linear[6]], "none": 0.0}[op]
    return total


def corrected(space: ModelSpace, *, typical: float = 0.3) -> LatencyTable:
    """A made correction, with a negative share and more than whole microseconds."""
    keys = [block.key for block in blocks(space, (6,))]
    shares = dict(zip(keys, (0.1375, 0.03125, -0.0075, 0.0421875, 0.0203125), strict=True))
    about = {"input_shape": [6], "runtime": "made", "threads": 1}
    correction = Correction(0.0640625, shares, {"typical": typical})
    return LatencyTable(dict.fromkeys(keys, 1.0), about, correction=correction)


def test_a_corrected_cost_is_the_constant_and_the_shares():
    space = Stack()
    table = corrected(space)
    assert table.correction is not None
    assert table.correction.unit == 1 / 16
    cost = latency(space, table)
    for arch in oracle.architectures(space):
        # Each share is rounded to a sixteenth of a microsecond.
        assert cost.evaluate(arch) == pytest.approx(1000 * by_hand(space, arch, table), abs=0.25)


def test_a_corrected_cost_can_be_restricted_counted_and_minimised():
    space = Stack()
    cost = latency(space, corrected(space))
    archs = oracle.architectures(space)
    values = {space.arch_id(arch): cost.evaluate(arch) for arch in archs}
    ranked = sorted(values.values())
    for limit in (ranked[0], ranked[len(ranked) // 3] + 0.01, ranked[-1]):
        within = space.where(cost <= limit)
        assert within.count() == sum(value <= limit for value in values.values())
        assert all(cost.evaluate(arch) <= limit for arch in within.sample(20, seed=0))
    assert space.where(cost > ranked[5]).count() == sum(value > ranked[5] for value in ranked)
    assert space.bounds(cost).minimum == ranked[0]
    assert space.bounds(cost).maximum == ranked[-1]
    assert [one.value for one in space.best(cost, k=3)] == ranked[:3]
    assert values[space.arch_id(space.best(cost)[0].arch)] == ranked[0]


def test_networks_that_were_measured_elsewhere_are_as_good():
    space = Stack()
    table = corrected(space)
    plain = LatencyTable({key: 0.05 + 0.01 * n for n, key in enumerate(table.milliseconds)},
                         {"input_shape": [6], "device": "a telephone"})  # fmt: skip
    archs = oracle.architectures(space)[::3]
    told = [(arch, by_hand(space, arch, table)) for arch in archs]
    again = calibrate_latency(space, plain, told, held_out=8, progress=False)
    cost = latency(space, again)
    for arch in oracle.architectures(space):
        assert cost.evaluate(arch) == pytest.approx(1000 * by_hand(space, arch, table), rel=0.01)


# -- refusals -------------------------------------------------------------------------------------


def test_a_table_of_another_machine_is_not_calibrated_here():
    space = Stack()
    table = LatencyTable(
        dict.fromkeys((block.key for block in blocks(space, (6,))), 1.0),
        {"input_shape": [6], "device": "cpu: abacus", "runtime": "torch", "threads": 1},
    )
    with pytest.raises(UsageError, match="another device: it was measured with 'cpu: abacus'"):
        calibrate_latency(space, table, progress=False)


@pytest.mark.usefixtures("made")
def test_too_few_networks_are_refused():
    space = Stack()
    table = measure_latency(space, "cpu", (6,), runtime="made", repeats=1, progress=False)
    with pytest.raises(UsageError, match="6 networks or more are needed"):
        calibrate_latency(space, table, 5, progress=False)
    told = [(arch, 1.0) for arch in oracle.architectures(space)[:5]]
    with pytest.raises(UsageError, match="6 networks or more are needed, but got 5"):
        calibrate_latency(space, table, told, progress=False)


@pytest.mark.parametrize("time", [0, -1.0, math.nan, math.inf, None, "1", True])
def test_times_of_networks_that_are_none(time):
    space = Stack()
    table = corrected(space)
    told = [(arch, 1.0) for arch in oracle.architectures(space)[:8]]
    told[3] = (told[3][0], time)
    with pytest.raises(DataError, match="positive number of ms"):
        calibrate_latency(space, table, told, progress=False)


def test_a_space_without_a_choice_is_refused():
    network = nn.Linear(4, 4)
    table = LatencyTable({block.key: 1.0 for block in blocks(network, (4,))}, {"input_shape": [4]})
    with pytest.raises(UsageError, match="nothing to calibrate"):
        calibrate_latency(network, table, progress=False)


@pytest.mark.usefixtures("made")
def test_fewer_architectures_than_networks_are_all_measured():
    space = Stack()
    table = measure_latency(space, "cpu", (6,), runtime="made", repeats=1, progress=False)
    found = calibrate_latency(space, table, 300, held_out=200, repeats=1, progress=False)
    assert found.correction is not None
    about = found.correction.about
    assert about["networks"] + about["held_out"] == len(
        {space.arch_id(arch) for arch in oracle.architectures(space)}
    )


# -- files ----------------------------------------------------------------------------------------


def test_a_correction_is_read_back_as_it_was(tmp_path):
    table = corrected(Stack())
    table.write(tmp_path / "table.yaml")
    back = LatencyTable.read(tmp_path / "table.yaml")
    assert back.correction == table.correction
    assert back.milliseconds == table.milliseconds
    assert back.about == table.about
    assert "corrected" in repr(back)
    with pytest.raises(UsageError, match=r"lose the correction .* write a \.yaml"):
        table.write(tmp_path / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["table.yaml"]


@pytest.mark.parametrize(
    "text", ["5", "{constant: 1}", "{blocks: {}}", "{constant: x, blocks: {a: 1}}",
             "{constant: 1, blocks: {a: true}}", "{constant: 1, blocks: {a: .nan}}"],
)  # fmt: skip
def test_damaged_corrections_are_refused(text, tmp_path):
    path = tmp_path / "table.yaml"
    path.write_text(
        "format: nas_space latency table, version 1\nunit: ms\nblocks: {a: 1}\n"
        f"correction: {text}\n"
    )
    with pytest.raises(DataError, match="correction"):
        LatencyTable.read(path)


def test_a_correction_is_for_inputs_of_one_shape():
    space = Stack()
    table = corrected(space)
    table.about["input_shape"] = [3, 6]
    with pytest.raises(UsageError, match=r"another input_shape: .*\[3, 6\], and \[6\]"):
        latency(space, table, (6,))


def test_blocks_that_a_correction_lacks_are_listed():
    space = Stack()
    table = corrected(space)
    key, *others = table.milliseconds
    correction = Correction(0.0, dict.fromkeys(others, 1.0))
    with pytest.raises(DataError, match=f"correction of the latency table lacks 1 blocks.*{key}"):
        latency(space, LatencyTable(table.milliseconds, table.about, correction=correction))


def test_merging_keeps_the_one_correction_there_is():
    table = corrected(Stack())
    other = LatencyTable({"b": 1.0})
    assert table.merge(other).correction == table.correction
    assert other.merge(table).correction == table.correction
    another = LatencyTable({"b": 1.0}, correction=Correction(1.0, {"b": 1.0}))
    with pytest.raises(UsageError, match="corrected, each by networks of its own"):
        table.merge(another)

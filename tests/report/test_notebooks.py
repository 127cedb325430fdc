"""What things of the library show of themselves in a notebook."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import torch
from torch import nn
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space.nn import LayerChoice
from nas_space.profiler import LatencyTable, macs
from nas_space.training import Task
from tests.problems import Various, worth
from tests.report.test_texts import Odd
from tests.test_main_job import Small


def shown(thing: object) -> str:
    """The text of what a notebook shows, which is well-formed."""
    html: str = thing._repr_html_()  # type: ignore[attr-defined]
    return " ".join(ET.fromstring(f"<x>{html}</x>").itertext())  # noqa: S314 - ours


def test_spaces_and_their_restrictions_say_what_may_be_chosen_and_how_many_there_are() -> None:
    space = Small(num_labels=3)
    text = shown(space)
    assert f"{space.count()} architectures" in text
    assert all(label in text for label in space.symbols())
    half = space.where(macs(space, (3, 8, 8)) <= 20_000)
    assert f"{half.count()} architectures of {space.count()}" in shown(half)
    assert "16 · 32" in shown(ns.Categorical([16, 32], label="width"))
    assert "low" in shown(ns.Numerical(0.0, 1.0, label="x")) or "0" in shown(
        ns.Numerical(0.0, 1.0, label="x")
    )


def test_architectures_batches_results_and_times_are_tables() -> None:
    space = Small(num_labels=3)
    told = space.explain(space.sample(seed=0), (3, 8, 8))
    assert all(part.path in shown(told) for part in told.parts)
    batch = space.sample(25, seed=0)
    assert "25 architectures" in shown(batch)
    assert "and 15 more" in shown(batch)
    result = ns.search(Various(), worth, trials=12)
    assert "12 of 12 trials complete" in shown(result)
    assert "and 2 more" in shown(result)
    table = LatencyTable({"slow": 2.0, "fast": 0.5})
    assert shown(table).index("slow") < shown(table).index("fast")
    x = torch.randn(12, 3, 8, 8)
    data = TensorDataset(x, torch.arange(12) % 3)
    task = Task.classification(data, data, batch_size=6)
    found = ns.search(space, task, strategy="darts", steps=2)
    assert "probability" in shown(found)


def test_names_of_users_are_text() -> None:
    assert "<b>&" in shown(Odd())


class Vast(ns.ModelSpace):
    """Has more architectures than the largest float."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(LayerChoice([nn.Identity] * 10, label=f"op{place}") for place in range(320))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y


def test_more_architectures_than_floats_have_numbers_for_are_counted() -> None:
    assert "1·10³²⁰ architectures" in shown(Vast())

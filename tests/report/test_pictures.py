"""Pictures show what they say they show, at a size that can be read on a phone."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import nn
from torch.nn import functional as F

import nas_space as ns
from nas_space import nn as mnn
from nas_space.cli import main
from nas_space.hub import AutoformerSpace, MobileNetV3Space, ProxylessNAS
from nas_space.report import (
    SearchPoint,
    architecture,
    architecture_picture,
    explanation,
    histograms,
    scatter,
    search_picture,
    space_picture,
)
from nas_space.report.decisions import decisions_of
from nas_space.report.figures import Ruler
from nas_space.report.histograms import costs_picture

PHONE = 358
"""Pixels that a page leaves for a picture where the screen is 390 wide."""


class PaddedConv(nn.Conv2d):
    """A layer of somebody else's, whose own code computes with its weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias, groups=self.groups)


class Wordy(ns.ModelSpace):
    """Labels and values longer than a line, and more values than a line holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = mnn.MutableLinear(2, ns.Categorical(range(8, 200, 4), label="width"))
        self.op = mnn.LayerChoice(
            {f"operation_{'x' * 70}_{i}": nn.Identity() if i else nn.ReLU() for i in range(2)},
            label=f"encoder.{'layer.' * 12}operation of the block",
        )
        self.rate = mnn.MutableDropout(ns.uniform("a_rate_between", 0.001234, 0.56789))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rate(self.op(self.first(x)))
        return out


def made_elastic() -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(
        PaddedConv(3, 32, 3, bias=False), nn.ReLU(), PaddedConv(32, 32, 3, groups=32), nn.ReLU(),
        PaddedConv(32, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip
    return ns.elastic(net, torch.randn(1, 3, 8, 8))


def autoformer() -> Any:
    return AutoformerSpace(num_labels=10, img_size=32, patch_size=8, search_depth=(2, 4))


SPACES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "ProxylessNAS": (lambda: ProxylessNAS(num_labels=10, width_mult=0.25), (3, 32, 32)),
    "MobileNetV3": (lambda: MobileNetV3Space(num_labels=10), (3, 64, 64)),
    "a transformer": (autoformer, (3, 32, 32)),
    "made elastic": (made_elastic, (3, 8, 8)),
    "long words": (Wordy, (2,)),
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, instead of being written."""
    drawn: list[Figure] = []
    for module in (architecture, explanation, histograms, scatter):
        monkeypatch.setattr(module, "save", lambda figure, *_, **__: drawn.append(figure))
    return drawn


def texts_of(figure: Figure) -> list[Text]:
    found: list[Any] = figure.findobj(Text)
    return found


def unseen(axis: Any) -> list[Text]:
    """What would stand at ticks beyond the ends of an axis."""
    low, high = sorted(axis.get_view_interval())
    return [t.label1 for t in axis.get_major_ticks() if not low <= t.get_loc() <= high]


def check_readable(figure: Figure, least: float = 9.0) -> None:
    """All text is in the picture, none is on other text, and a phone shows it large enough."""
    figure.set_dpi(200)  # as it is written: at fewer dots, letters are rounded to whole ones
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw(renderer)
    ticks = [t for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for t in unseen(axis)]
    texts = [t for t in texts_of(figure) if t.get_text().strip()]
    texts = [text for text in texts if text.get_visible() and text not in ticks]
    assert texts
    boxes = [text.get_window_extent(renderer) for text in texts]
    width, height = figure.canvas.get_width_height()
    for text, box in zip(texts, boxes, strict=True):
        assert -1 <= box.x0 <= box.x1 <= width + 1, text.get_text()
        assert -1 <= box.y0 <= box.y1 <= height + 1, text.get_text()
        assert float(text.get_fontsize()) / 72 * PHONE / figure.get_figwidth() >= least, (
            text.get_text()
        )
    for (one, a), (other, b) in combinations(zip(texts, boxes, strict=True), 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        # Boxes are as high as the tallest letters: lines that follow each other may touch.
        assert wide <= 1 or high <= 3, (one.get_text(), other.get_text())


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "MobileNetV3")) for n in SPACES]
)
def test_an_architecture_and_its_space_can_be_read_on_a_phone(
    name: str, figures: list[Figure]
) -> None:
    make, shape = SPACES[name]
    space = make()
    architecture_picture(space, space.sample(seed=1), shape, "a.png", "A title of some words " * 3)
    space_picture(space, shape, "s.png")
    for figure in figures:
        check_readable(figure)
        shown = " ".join(t.get_text() for t in texts_of(figure))
        for label in space.symbols():  # broken into lines where it is long
            assert label.replace(" ", "") in shown.replace(" ", "")


def test_other_pictures_can_be_read_on_a_phone(figures: list[Figure]) -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    trials = [SearchPoint(0.1 * i, 0.5 + 0.004 * i) for i in range(1, 10)]
    search_picture(trials, SearchPoint(0.9, 0.9), [SearchPoint(0.4, 0.8)], "s.png", budget=0.9)
    named = {name: {"macs": i * 1e8} for i, name in enumerate(("one", "two", "three"), start=1)}
    values = {"macs": [1e8 * i for i in range(40)], "latency": [10.0 * i for i in range(40)]}
    costs_picture(values, named, {"macs": 3e9}, "c.png")
    space.explain(space.sample(seed=0), (3, 32, 32)).picture("e.png")
    assert len(figures) == 3
    for figure in figures:
        check_readable(figure, 8.0)


def test_a_picture_of_very_many_labels_has_columns_that_can_be_written(tmp_path: Path) -> None:
    class Many(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.ops = nn.Sequential(
                *(mnn.LayerChoice([nn.Identity(), nn.ReLU()], label=f"op{i}") for i in range(400))
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.ops(x)
            return out

    space = Many()
    columns = architecture._columns(
        list(architecture._entries(decisions_of(space, space.sample(seed=0)), Ruler(), whole=False))
    )
    assert len(columns) == 3
    assert sum(len(column) for column in columns) == 401
    heights = [sum(entry.high for entry in column) for column in columns]
    assert max(heights) <= architecture._TALLEST + 1
    architecture_picture(space, space.sample(seed=0), None, tmp_path / "many.png")
    assert (tmp_path / "many.png").read_bytes().startswith(b"\x89PNG")


def test_layers_that_compute_with_weights_of_their_own_are_decided_by_their_labels() -> None:
    space = made_elastic()
    rows = decisions_of(space, space.original, (3, 8, 8))
    shares = {row.label: row.share for row in rows}
    first, depthwise, last, head = 64 * 3 * 32 * 9, 64 * 32 * 9, 64 * 32 * 16 * 9, 16 * 5
    total = first + depthwise + last + head
    assert shares.pop("") == 0  # every layer is decided
    assert shares == {
        "0.width": pytest.approx((first + depthwise) / total),
        "4.width": pytest.approx((last + head) / total),
    }
    decided = {p.path: set(p.decided) for p in space.explain(space.original, (3, 8, 8)).parts}
    assert decided["0"] == {"0.width"}
    assert decided["4"] == {"0.width", "4.width"}
    assert "groups=<0.width>" in repr(space)


def test_the_folder_of_a_picture_is_made_as_of_every_file(tmp_path: Path) -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    file = tmp_path / "pictures" / "of" / "mine" / "a.svg"
    architecture_picture(space, space.sample(seed=0), (3, 32, 32), file)
    assert "<svg" in file.read_text()
    (tmp_path / "taken").write_text("")
    with pytest.raises(ns.errors.StorageError, match="taken"):
        architecture_picture(space, space.sample(seed=0), (3, 32, 32), tmp_path / "taken" / "a.png")


class WithRate(ns.ModelSpace):
    """A continuous label that no layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = mnn.MutableLinear(2, ns.Categorical([4, 8], label="width"))
        self.rate = self.add_mutable(ns.uniform("rate", 0.0, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def test_the_costs_of_a_space_of_infinitely_many_architectures_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made" / "costs.png"
    space = f"{WithRate.__module__}:WithRate"
    with pytest.raises(SystemExit) as ended:
        main(["profile", "--space", space, "--input-shape", "2", "--plot", str(file)])
    assert not ended.value.code
    assert "infinitely many architectures" in capsys.readouterr().out
    assert file.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_written(tmp_path: Path) -> None:
    trials = [SearchPoint(i / 10, i / 20) for i in range(1, 10)]
    search_picture(
        trials, SearchPoint(0.5, 0.9), [SearchPoint(0.4, 0.8)], tmp_path / "s.png", budget=0.9
    )
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "s.png").stat().st_size > 5000

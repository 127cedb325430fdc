"""Names and messages of users are shown as they are, whatever they mean to rich or matplotlib."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.cli import main
from nas_space.report import SearchPoint, architecture_picture, explain, search_picture
from nas_space.report.histograms import costs_picture

ODD = ["[bold]", "[red]x", "$x^", r"$\frac$", "<b>&"]


class Odd(ns.ModelSpace):
    """Labels and candidates with names that mean something to rich, matplotlib or HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            *(
                mnn.LayerChoice(
                    {"$a$ [/b]": nn.Linear(2, 2), "$b": nn.Linear(2, 2), "[i]": nn.Identity()},
                    label=label,
                )
                for label in ODD
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.parts(x)
        return out


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_names_and_failures_of_users_are_shown_and_reported_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def evaluate(_network: object, arch: dict[str, object]) -> dict[str, float]:
        calls.append(1)
        if len(calls) % 5 == 0:
            raise ValueError("no [/bold] luck with $x$ in [red]")
        value = float(len(str(arch.values())) % 7 + len(calls) / 100)
        return {"$score [/b]": value, "[/i] other": value}

    store = str(tmp_path / "search.db")
    with pytest.warns(UserWarning, match="luck"):
        ns.search(Odd(), evaluate, trials=14, objectives="$score [/b]", storage=store)
    assert run("show", store) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no [/bold] luck with $x$ in [red]" in shown
    assert "[bold]=" in shown
    assert "$score [/b]" in shown
    assert run("report", store, "--out", str(tmp_path / "report.html")) == 0
    page = (tmp_path / "report.html").read_text()
    assert "no [/bold] luck with $x$ in [red]" in page


def test_pictures_of_odd_names_are_drawn(tmp_path: Path) -> None:
    space = Odd()
    arch = dict.fromkeys(ODD, "$a$ [/b]")
    architecture_picture(space, arch, (2,), tmp_path / "a.png", title=r"$\frac of $x_")
    point = SearchPoint(1.0, 0.5)
    explain(space, arch, (2,)).picture(tmp_path / "e.png")
    search_picture([point], point, [point], tmp_path / "s.png", cost_name="$c", score_name="$s_$")
    values = {"macs": [1.0, 2.0], "params": [3.0, 4.0]}
    costs_picture(values, {"$net_$": {"macs": 1.5}}, {"macs": 1.7}, tmp_path / "c.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 3000 for name in "aesc")

"""Pictures show what they say they show."""

from __future__ import annotations

from pathlib import Path

import torch

from nas_space.hub import ProxylessNAS
from nas_space.report import SearchPoint, architecture_picture, search_picture
from nas_space.report.architecture import units_of


def test_units_are_the_blocks_that_run_with_their_shapes() -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    arch = space.sample(seed=3)
    units = units_of(space, arch, (3, 32, 32))
    chosen = [unit.text for unit in units if unit.chosen]
    assert chosen == [value for label, value in arch.items() if not label.endswith("depth")]
    assert units[0].shape == (8, 16, 16)
    assert units[-1].shape == (10,)


def test_looking_at_an_architecture_changes_nothing() -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25).train()
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    units_of(space, space.sample(seed=0), (3, 32, 32))
    assert space.training
    assert all(torch.equal(before[name], tensor) for name, tensor in space.state_dict().items())
    assert not any(module._forward_hooks for module in space.modules())


def test_pictures_are_written(tmp_path: Path) -> None:
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    arch = space.sample(seed=0)
    architecture_picture(space, arch, (3, 32, 32), tmp_path / "a.png")
    trials = [SearchPoint(i / 10, i / 20) for i in range(1, 10)]
    found, others = SearchPoint(0.5, 0.9), [SearchPoint(0.4, 0.8)]
    search_picture(trials, found, others, tmp_path / "s.png", budget=0.9)
    for name in ("a.png", "s.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / name).stat().st_size > 5000

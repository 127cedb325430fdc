"""Methods that a layer above registers for spaces."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from torch import nn

from nas_space import extensions
from nas_space.errors import UsageError
from nas_space.nn import LayerChoice, ModelSpace


class Net(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")

    def forward(self, x: Any) -> Any:
        return self.op(x)


def test_what_is_registered_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_REGISTERED", {})
    extensions.register("explain", lambda space, arch, shape: (type(space), arch, shape))
    assert Net().explain({"op": 1}, (3,)) == (Net, {"op": 1}, (3,))


def test_what_is_not_registered_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "_REGISTERED", {})
    with pytest.raises(UsageError, match="'explain'"):
        Net().explain({"op": 1})


def test_a_space_explains_itself_in_a_process_that_imports_it_alone() -> None:
    program = (
        "from nas_space.hub import ProxylessNAS\n"
        "import sys; assert 'nas_space.profiler' not in sys.modules\n"
        "space = ProxylessNAS(num_labels=10, width_mult=0.25)\n"
        "told = space.explain(space.sample(seed=0), (3, 32, 32))\n"
        "print(told.macs > 0, 'nas_space.profiler' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]

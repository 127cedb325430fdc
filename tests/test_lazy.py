"""What users name by ``module:name``: whatever their module does, the error says whose it is."""

from __future__ import annotations

import pytest

from nas_space.errors import UsageError
from nas_space.hub.registry import find_space
from nas_space.lazy import named
from nas_space.profiler.registry import find_cost
from tests.problems import Tiny

GETS = "def __getattr__(name):\n    "

BODIES = {
    "import sys; sys.exit(3)": "cannot be imported .SystemExit: 3",
    "raise GeneratorExit('half')": "cannot be imported .GeneratorExit: half",
    "1 / 0": "cannot be imported .ZeroDivisionError",
    "def (": "cannot be imported .SyntaxError",
    f"{GETS}raise SystemExit('gone')": "does not give 'Thing' .SystemExit: gone",
    f"{GETS}raise ValueError('odd')": "does not give 'Thing' .ValueError: odd",
    f"{GETS}raise AttributeError(name)": "has no 'Thing'",
    "import sys; sys.modules[__name__] = 5": "has no 'Thing'",
    "Thin = 1": "has no 'Thing' .did you mean 'Thin'",
}


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """The name of a module of its own, with what the test says in it."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"users_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(request.param)
    return name


@pytest.mark.parametrize(
    ("module", "told"), BODIES.items(), indirect=["module"], ids=range(len(BODIES))
)
@pytest.mark.parametrize("look_up", [lambda name: named(name, "it"), find_space, find_cost])
def test_a_module_that_cannot_give_what_is_named_is_refused(module, told, look_up):
    with pytest.raises(UsageError, match=told) as refused:
        look_up(f"{module}:Thing")
    assert f"'{module}:Thing'" in str(refused.value)


@pytest.mark.parametrize(
    "module", ["raise KeyboardInterrupt", f"{GETS}raise KeyboardInterrupt"], indirect=True
)
def test_an_interruption_passes(module):
    with pytest.raises(KeyboardInterrupt):
        named(f"{module}:Thing", "it")


@pytest.mark.parametrize(
    "module", ["def cost(*_, **__):\n    raise SystemExit(3)\ncost.unit = 'J'"], indirect=True
)
def test_a_cost_that_exits_is_refused(module):
    with pytest.raises(UsageError, match="fails: SystemExit: 3"):
        find_cost(f"{module}:cost")(Tiny())

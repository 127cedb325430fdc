"""The page on the hub tells of every space, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nas_space import hub
from nas_space.hub.registry import SPACES
from nas_space.nn import ModelSpace

PAGE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text()


def test_every_space_is_told_of():
    for name, entry in SPACES.items():
        assert f"`{name}`" in PAGE
        assert f"`{entry.space.__name__}`" in PAGE
    classes = [getattr(hub, name) for name in hub.__all__]
    for space in classes:
        if isinstance(space, type) and issubclass(space, ModelSpace) and "Space" in space.__name__:
            assert f"`{space.__name__}`" in PAGE or space.__name__ in {"CellSpace", "SearchedSpace"}


def test_its_code_runs(capsys):
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "hub.md", "exec"), names)  # noqa: S102 - it is our own text
    assert capsys.readouterr().out.splitlines()[0] == "ProxylessNAS k5e3"
    assert names["same"].state_dict().keys() == names["network"].state_dict().keys()

"""Some spaces of these tests concatenate or shuffle in an order that their sums do not say."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
MISREAD = "ignore:.*reads elements that lie otherwise:UserWarning"
"""What is warned of; tests about the warning ask for it by ``pytest.warns``."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and {"concat", "shuffle"} & set(item.keywords):
            item.add_marker(pytest.mark.filterwarnings(MISREAD))

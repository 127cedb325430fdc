"""Choices by NNI's older names."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from nas_space.errors import UsageError
from nas_space.interop.nni_compat import ValueChoice, legacy_description
from nas_space.mutable import (
    CategoricalMultiple,
    Numerical,
    choice,
    lognormal,
    loguniform,
    normal,
    qlognormal,
    qloguniform,
    qnormal,
    quniform,
    randint,
    uniform,
)


def test_a_value_choice_has_candidates() -> None:
    assert ValueChoice([1, 2], label="v").candidates == [1, 2]


@pytest.mark.parametrize(
    ("symbol", "kind", "value"),
    [
        (choice("x", [1, 2]), "choice", [1, 2]),
        (randint("x", 1, 4), "choice", [1, 2, 3]),
        (uniform("x", 0, 1), "uniform", [0, 1]),
        (quniform("x", 0, 1, 0.5), "quniform", [0, 1, 0.5]),
        (loguniform("x", 1, 2), "loguniform", [1, 2]),
        (qloguniform("x", 1, 9, 2), "qloguniform", [1, 9, 2]),
        (normal("x", 0, 1), "normal", [0, 1]),
        (qnormal("x", 0, 1, 0.5), "qnormal", [0, 1, 0.5]),
        (lognormal("x", 0, 1), "lognormal", [0, 1]),
        (qlognormal("x", 0, 1, 0.5), "qlognormal", [0, 1, 0.5]),
    ],
)
def test_legacy_descriptions(symbol: Any, kind: str, value: list[Any]) -> None:
    assert legacy_description(symbol) == {"_type": kind, "_value": value}


@pytest.mark.parametrize(
    "symbol",
    [CategoricalMultiple([1], label="x"), Numerical(distribution=stats.norm(), label="x")],
)
def test_what_has_no_legacy_description_is_refused_by_name(symbol: Any) -> None:
    with pytest.raises(UsageError, match=type(symbol).__name__):
        legacy_description(symbol)

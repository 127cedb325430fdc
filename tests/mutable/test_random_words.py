"""The same seed gives the same architectures: everywhere, in every process and release."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_space.errors import UsageError
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    MutableExpression,
    MutableList,
    Numerical,
    SampleBatch,
)
from nas_space.mutable.batch import draw_one
from nas_space.mutable.random_words import words
from tests.hash_seeds import printed_under


def pinned_space() -> MutableList:
    """A space with each kind of symbol."""
    depth = Categorical([1, 2, 3], label="depth")
    blocks = [Categorical(["k3", "k5", "k7"], label=f"block{place}") for place in range(3)]
    branches = {n: MutableExpression.sum([b == "k3" for b in blocks[:n]]) for n in (1, 2, 3)}
    return MutableList(
        [
            MutableExpression.switch_case(depth, branches),
            Categorical(["a", "b", "c"], weights=[0.7, 0.2, 0.1], label="weighted"),
            CategoricalMultiple(range(5), label="any"),
            CategoricalMultiple(range(5), n_chosen=2, label="two"),
            CategoricalMultiple(range(4), n_chosen=2, weights=[0.4, 0.3, 0.2, 0.1], label="some"),
            Numerical(0, 10, quantize=2.5, label="step"),
            Numerical(1, 100, label="uniform"),
        ]
    )


PINNED: dict[int, list[dict[str, Any]]] = {
    0: [
        {
            "depth": 2,
            "block0": "k3",
            "block1": "k3",
            "weighted": "b",
            "any": [],
            "two": [1, 4],
            "some": [0, 2],
            "step": 7.5,
            "uniform": 54.60466080466009,
        },
        {
            "depth": 1,
            "block0": "k5",
            "weighted": "a",
            "any": [2],
            "two": [0, 3],
            "some": [0, 1],
            "step": 5.0,
            "uniform": 31.713945680336614,
        },
    ],
    1: [
        {
            "depth": 2,
            "block0": "k7",
            "block1": "k3",
            "weighted": "a",
            "any": [0, 2, 4],
            "two": [0, 3],
            "some": [0, 1],
            "step": 2.5,
            "uniform": 40.9081856582658,
        },
        {
            "depth": 1,
            "block0": "k3",
            "weighted": "a",
            "any": [4],
            "two": [0, 4],
            "some": [0, 2],
            "step": 5.0,
            "uniform": 91.81247277429938,
        },
    ],
    42: [
        {
            "depth": 3,
            "block0": "k5",
            "block1": "k7",
            "block2": "k7",
            "weighted": "a",
            "any": [3, 4],
            "two": [1, 4],
            "some": [0, 1],
            "step": 5.0,
            "uniform": 7.317908354313363,
        },
        {
            "depth": 3,
            "block0": "k5",
            "block1": "k7",
            "block2": "k5",
            "weighted": "c",
            "any": [2, 3, 4],
            "two": [0, 3],
            "some": [0, 1],
            "step": 5.0,
            "uniform": 19.75766454934429,
        },
    ],
}
"""Architectures that these seeds have given since the first release; they must not change."""


@pytest.mark.parametrize("seed", PINNED)
def test_draws_are_pinned(seed: int) -> None:
    space = pinned_space()
    assert draw_one(space, words(seed)) == PINNED[seed][0]
    assert list(SampleBatch.draw(space, 2, words(seed))) == PINNED[seed]
    memo: dict[str, Any] = {}
    space.random(memo, seed)
    assert memo == PINNED[seed][0]


def test_words_are_pinned() -> None:
    expected = [11749869230777074271, 4976686463289251617, 755828109848996024]
    assert words(0)(3).tolist() == expected
    assert words(0)(100)[:3].tolist() == expected
    source = words(0)
    assert [int(source(1)[0]) for _ in range(3)] == expected


def test_the_hash_seed_plays_no_role() -> None:
    script = (
        "import json\n"
        "from tests.mutable.test_random_words import *\n"
        "print(json.dumps([draw_one(pinned_space(), words(seed)) for seed in range(20)]))"
    )
    (output,) = printed_under(script, (0, 1, 4242))
    assert json.loads(output)[0] == PINNED[0][0]


@given(st.integers(0, 2**70), st.integers(1, 200), st.integers(1, 200))
def test_a_stream_of_words_is_the_same_however_it_is_cut(seed: int, n: int, m: int) -> None:
    source = words(seed)
    pieces = [*source(n).tolist(), *source(m).tolist()]
    assert pieces == words(seed)(n + m).tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: 7,
        lambda: np.int64(7),
        lambda: np.random.SeedSequence(7),
        lambda: np.random.PCG64(7),
        lambda: np.random.default_rng(7),
    ],
)
def test_what_means_the_seed_seven(make: Any) -> None:
    assert words(make())(5).tolist() == words(7)(5).tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.RandomState(7),
        lambda: np.random.MT19937(7),
        lambda: np.random.Generator(np.random.MT19937(7)),
        lambda: np.random.Philox(7),
        lambda: np.random.SFC64(7),
        lambda: np.random.PCG64DXSM(7),
    ],
)
def test_other_generators_give_all_64_bits(make: Any) -> None:
    few = words(make())(50)
    assert few.dtype == np.uint64
    assert few.max() > 2**60
    assert words(make())(200)[:50].tolist() == few.tolist()
    once = words(make())
    assert [*once(3).tolist(), *once(47).tolist()] == few.tolist()


def test_a_generator_goes_on_where_it_stopped() -> None:
    generator = np.random.default_rng(3)
    space = pinned_space()
    first, second = space.random(random_state=generator), space.random(random_state=generator)
    assert first != second
    again = np.random.default_rng(3)
    assert [space.random(random_state=again) for _ in range(2)] == [first, second]


def test_without_a_seed_numpys_global_state_is_used() -> None:
    space = pinned_space()
    np.random.seed(0)  # noqa: NPY002 - the state that users seed
    first = [space.random() for _ in range(3)]
    np.random.seed(0)  # noqa: NPY002
    assert [space.random() for _ in range(3)] == first
    np.random.seed(1)  # noqa: NPY002
    assert [space.random() for _ in range(3)] != first


def test_a_seed_leaves_numpys_global_state_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    pinned_space().random(random_state=5)
    pinned_space().robust_default()
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "0", object()])
def test_what_is_no_random_state_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"must not be negative|a random state is an integer seed"):
        words(wrong)

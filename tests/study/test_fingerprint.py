"""The description of a space: the same for the same space, and different for another."""

from __future__ import annotations

import json

import pytest

import nas_space as ns
from nas_space import nn as mnn
from nas_space.hub import ProxylessNAS
from nas_space.study import describe, fingerprint
from nas_space.study.fingerprint import differences
from tests.hash_seeds import printed_under
from tests.problems import Tiny, Various


class Other(ns.ModelSpace):
    """Labels as in `Tiny`, of which others are active."""

    def __init__(self):
        super().__init__()
        self.width = ns.Categorical([4, 8], label="width")
        self.first = mnn.MutableLinear(2, self.width)
        self.depth = ns.Categorical([1, 2], label="depth")
        self.op0 = ns.Categorical(["relu", "tanh"], label="op0")
        self.op1 = ns.Categorical(["relu", "tanh"], label="op1")


@pytest.mark.parametrize("kind", [Tiny, Various, ProxylessNAS])
def test_it_is_plain_data_and_the_same_each_time(kind):
    assert json.loads(json.dumps(describe(kind()))) == describe(kind())
    assert fingerprint(kind()) == fingerprint(kind())


def test_it_is_the_same_in_another_process_under_another_hash_seed():
    code = "import nas_space as ns, tests.problems as p; print(ns.study.fingerprint(p.Various()))"
    assert printed_under(code) == {f"{fingerprint(Various())}\n"}


def test_pinned():
    # Stored studies carry it: another value makes every one of them refuse to be resumed.
    assert fingerprint(ProxylessNAS(num_labels=10)) == "238fa4286059c475"


def test_a_space_under_conditions_is_another():
    space, narrow = Tiny(), Tiny()
    narrow.require(narrow.width <= 4)
    assert fingerprint(space) != fingerprint(narrow)
    assert differences(describe(space), describe(narrow)) == [
        "other conditions are required of architectures"
    ]


def test_differences_are_named():
    argument, label = differences(describe(Tiny()), describe(Tiny(2)))
    assert argument == "factor is 1 there, 2 here"
    assert label == (
        "the label 'width' is {'kind': 'Categorical', 'values': [4, 8]} there, "
        "{'kind': 'Categorical', 'values': [8, 16]} here"
    )
    found = differences(describe(Tiny()), describe(Other()))
    assert "the space is 'Tiny' there, 'Other' here" in found
    same = {**describe(Other()), "space": "Tiny", "arguments": {"factor": 1}}
    assert differences(describe(Tiny()), same) == [
        "the same labels are active under other conditions"
    ]
    assert differences(describe(Tiny()), describe(Tiny())) == []

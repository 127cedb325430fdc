"""Mutation, crossover, and the way to what is allowed and new."""

from __future__ import annotations

from itertools import islice
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from nas_space.hub import ProxylessNAS
from nas_space.mutable import Constraint
from nas_space.mutable.random_words import words
from nas_space.profiler import macs
from nas_space.strategy.neighbours import (
    complete,
    crossover,
    distance,
    mutate,
    nearest,
    neighbours,
)
from nas_space.tables import grid
from tests.problems import Tiny, Various

VARIOUS = Various()
seeds = st.integers(0, 2**32 - 1)


@given(seeds, seeds, st.sampled_from([0.0, 0.3, 1.0]))
@settings(deadline=None)
def test_a_mutant_is_valid_canonical_and_another(parent_seed, seed, probability):
    parent = VARIOUS.sample(seed=parent_seed)
    child = mutate(VARIOUS, parent, words(seed), probability)
    assert child == VARIOUS.read(child).active
    assert VARIOUS.arch_id(child) != VARIOUS.arch_id(parent)


@given(seeds, seeds)
@settings(deadline=None)
def test_a_mutant_of_one_label_keeps_the_others_that_stay_active(parent_seed, seed):
    parent = VARIOUS.sample(seed=parent_seed)
    child = mutate(VARIOUS, parent, words(seed), 0.0)
    changed = [label for label in parent if label in child and parent[label] != child[label]]
    assert len(changed) == 1
    if changed != ["depth"]:
        assert set(child) == set(parent)


@given(seeds, seeds, seeds)
@settings(deadline=None)
def test_what_parents_have_in_common_their_child_has(one_seed, other_seed, seed):
    one, other = VARIOUS.sample(seed=one_seed), VARIOUS.sample(seed=other_seed)
    child = crossover(VARIOUS, one, other, words(seed))
    assert VARIOUS.contains(child)
    for label, value in child.items():
        inherited = [parent[label] for parent in (one, other) if label in parent]
        assert not inherited or value in inherited


def test_mutation_reaches_every_value_and_often_changes_one_label_alone():
    parent = VARIOUS.sample(seed=0)
    children = [mutate(VARIOUS, parent, words(seed)) for seed in range(300)]
    assert {child["width"] for child in children} == {8, 16, 24, 32}
    assert {child["depth"] for child in children} == {0, 1, 2, 3}


def test_neighbours_are_all_that_differ_in_one_label():
    space = Tiny()
    arch = {"width": 4, "depth": 1, "op0": "relu"}
    found = list(neighbours(space, arch, words(0)))
    assert len(found) == 3
    assert {space.arch_id({**arch, "width": 8}), space.arch_id({**arch, "op0": "tanh"})} < {
        space.arch_id(neighbour) for neighbour in found
    }
    [deeper] = [neighbour for neighbour in found if neighbour["depth"] == 2]
    assert deeper["op1"] in ("relu", "tanh")


@given(seeds, seeds, st.sampled_from([VARIOUS, Tiny(), ProxylessNAS(num_labels=10)]))
@settings(deadline=None, max_examples=30)
def test_neighbours_are_complete_and_in_order(parent_seed, seed, space):
    parent = space.sample(seed=parent_seed)
    for neighbour in islice(neighbours(space, parent, words(seed)), 40):
        assert list(neighbour.items()) == list(space.read(neighbour).active.items())


def test_what_is_allowed_is_left_as_it_is():
    arch = VARIOUS.sample(seed=3)
    found = nearest(VARIOUS, arch, words(0))
    assert found is not None
    assert found[:3] == (VARIOUS.canonical(arch), 0, VARIOUS.arch_id(arch))


def test_the_nearest_differs_in_one_label_where_that_is_enough():
    arch = VARIOUS.sample(seed=3)
    taken = frozenset({VARIOUS.arch_id(arch)})
    found = nearest(VARIOUS, arch, words(0), taken=taken)
    assert found is not None
    other, steps = found.arch, found.steps
    assert VARIOUS.arch_id(other) not in taken
    assert steps >= 1
    # A depth that changes brings labels with it.
    assert steps == 1 or "depth" in {k for k in arch if arch[k] != other.get(k)}


@given(st.integers(0, 11), seeds)
@settings(deadline=None, max_examples=30)
def test_the_last_that_is_left_is_found(left, seed):
    space = Tiny()
    ids = sorted({space.arch_id(arch) for arch in space.sample(500, seed=0)})
    taken = frozenset(ids) - {ids[left]}
    found = nearest(space, space.sample(seed=seed), words(seed), taken=taken)
    assert found is not None
    assert space.arch_id(found[0]) == ids[left]


def test_none_is_left():
    space = Tiny()
    taken = frozenset(space.arch_id(arch) for arch in space.sample(500, seed=0))
    assert nearest(space, space.sample(seed=0), words(0), taken=taken) is None


def test_where_near_ones_are_refused_a_far_one_is_drawn():
    class Few(Constraint):
        """Allows but one in five hundred, so that none is near."""

        def violation(self, values):
            one_of_few = crc32(repr(sorted(values.items())).encode()) % 500 == 0
            return None if one_of_few else "not one of a few"

    space = VARIOUS.where(Few(label="few"), attempts=100_000)
    start = VARIOUS.sample(seed=99)
    found = nearest(space, start, words(0), limit=50)
    assert found is not None
    assert space.contains(found.arch)
    assert found.steps > 1
    assert found.steps == distance(complete(VARIOUS, start, words(0)), found.arch)
    assert found.arch_id == VARIOUS.arch_id(found.arch)


def test_distance_counts_labels_that_only_one_has():
    assert distance({"a": 1, "b": [1, 2]}, {"a": 1, "b": (1, 2), "c": 3}) == 1


def test_the_last_of_a_few_far_from_everything_is_found():
    space = ProxylessNAS(num_labels=2, width_mult=0.1)
    cost = macs(space, (3, 32, 32))
    few = space.where(cost >= space.bounds(cost).maximum * 0.995)
    ids = sorted(few.arch_id(arch) for arch in grid(few))
    assert 2 < len(ids) < 100
    found = nearest(few, space.sample(seed=0), words(0), taken=frozenset(ids[1:]), limit=50)
    assert found is not None
    assert few.arch_id(found[0]) == ids[0]
    assert nearest(few, space.sample(seed=0), words(0), taken=frozenset(ids), limit=50) is None

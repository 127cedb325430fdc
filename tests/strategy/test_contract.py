"""What every strategy keeps to, whichever it is."""

from __future__ import annotations

import pickle

import pytest
import torch

import nas_space as ns
from nas_space.hub import ProxylessNAS
from nas_space.mutable import MutableExpression
from nas_space.strategy import STRATEGIES, SearchState, Strategy, get_strategy
from nas_space.strategy.base import Evaluated
from nas_space.study import SearchResult, maximize, minimize
from tests.problems import Tiny, Various, worth

# Past the random beginnings of those that have one, by arguments where these are long.
ARGUMENTS = {
    "evolution": {"population_size": 6, "sample_size": 3},
    "gp": {"initial": 5},
    "local": {"initial": 4},
    "nsga2": {"population_size": 5},
    "nsga3": {"population_size": 5},
    "optuna-gp": {"n_startup_trials": 5},
    "predictor": {"initial": 5, "members": 2},
    "policy": {"samples_per_update": 4, "passes": 2, "hidden_size": 8},
    "tpe": {"n_startup_trials": 5},
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request) -> Strategy:
    made: Strategy = get_strategy(request.param, **ARGUMENTS.get(request.param, {}))
    return made


def searched(space, strategy, trials=18, **options) -> SearchResult:
    return ns.search(space, worth, strategy=strategy, trials=trials, weights="none", **options)


def architectures(result: SearchResult) -> list[ns.mutable.Sample]:
    return [outcome.arch for outcome in result.outcomes]


def test_only_architectures_of_the_space_and_none_twice(strategy):
    space = Various()
    result = searched(space, strategy)
    assert len(result.outcomes) == 18
    for outcome in result.outcomes:
        assert space.contains(outcome.arch)
        assert outcome.arch == space.canonical(outcome.arch)
    assert len({space.arch_id(arch) for arch in architectures(result)}) == 18


def test_constraints_hold(strategy):
    space = Various()
    space.require(space.width * 2 <= 48, space.rate >= 0.25)
    result = searched(space, strategy, trials=12)
    assert len(result.outcomes) == 12
    assert all(o.arch["width"] <= 24 and o.arch["rate"] >= 0.25 for o in result.outcomes)


def test_restrictions_hold_and_are_searched_to_their_end(strategy):
    space = Tiny()
    narrow = space.where(space.width <= 4)
    result = searched(narrow, strategy, trials=100)
    found = [narrow.arch_id(arch) for arch in architectures(result)]
    assert len(found) == len(set(found)) == narrow.count() == 6


def test_a_tight_restriction_of_a_large_space(strategy):
    space = ProxylessNAS(num_labels=2, width_mult=0.1)
    depth = MutableExpression.sum(space.simplify()[f"s{stage}_depth"] for stage in (2, 3, 4, 5, 6))
    tight = space.where(depth >= 20)  # one in a thousand, so most proposals are refused
    result = searched(tight, strategy, trials=8)
    assert len(result.outcomes) == 8
    assert all(tight.contains(arch) for arch in architectures(result))


def test_a_small_space_is_searched_to_its_end(strategy):
    space = Tiny()
    result = searched(space, strategy, trials=100)
    everything = {space.arch_id(arch) for arch in space.sample(1000, seed=0)}
    assert len(everything) == 12
    found = [space.arch_id(arch) for arch in architectures(result)]
    assert sorted(found) == sorted(everything)


def test_the_same_seed_gives_the_same_search(strategy):
    one, same, other = (searched(Various(), strategy, seed=seed) for seed in (1, 1, 2))
    assert architectures(one) == architectures(same)
    assert architectures(one) != architectures(other)


def test_a_search_that_is_resumed_ends_as_if_it_had_not_been_interrupted(strategy, tmp_path):
    whole = searched(Various(), strategy)
    store = tmp_path / "search.journal"
    for trials in (3, 9):
        searched(Various(), strategy, trials=trials, storage=store, resume=True)
    # What a strategy keeps for speed is of no consequence: another process has none of it.
    fresh = pickle.loads(pickle.dumps(strategy))
    resumed = searched(Various(), fresh, storage=store, resume=True)
    assert architectures(resumed) == architectures(whole)


def test_several_objectives(strategy):
    space = Various()
    result = searched(
        space, strategy, objectives=[maximize("value"), minimize("width", space.width)]
    )
    assert len(result.front()) >= 1
    widths = [outcome.values["width"] for outcome in result.outcomes]
    assert widths == [outcome.arch["width"] for outcome in result.outcomes]


def test_a_proposal_depends_on_what_it_is_told_alone(strategy):
    space = Various()
    fresh = pickle.loads(pickle.dumps(strategy))
    searched(space, strategy, trials=9)
    now = SearchState(space, [], number=7, seed=5)
    assert strategy.propose(now) == fresh.propose(SearchState(space, [], number=7, seed=5))


def test_a_proposal_depends_on_the_scores_of_its_own_search_alone(strategy):
    # Two searches of one space with one strategy: what is kept of the first must not be met again.
    space = Various()
    archs = [space.canonical(arch) for arch in space.sample(11, seed=0)]
    taken = frozenset(map(space.arch_id, archs))

    def state(scores, costs=()):
        history = [Evaluated(n, arch, (scores[n],)) for n, arch in enumerate(archs)]
        return SearchState(space, history, taken, len(archs), seed=3, costs=costs)

    first, second = [0.1 * n for n in range(11)], [0.3 * (n * 7 % 11) for n in range(11)]
    fresh = pickle.loads(pickle.dumps(strategy))
    strategy.propose(state(first))
    assert strategy.propose(state(second)) == fresh.propose(state(second))
    fresh, costs = pickle.loads(pickle.dumps(strategy)), (space.width,)
    assert strategy.propose(state(second, costs)) == fresh.propose(state(second, costs))


def test_a_proposal_is_the_same_however_many_were_made_before(strategy):
    space = Various()
    archs = [space.canonical(arch) for arch in space.sample(24, seed=0)]
    history = [Evaluated(n, arch, (0.3 * (n * 7 % 11),)) for n, arch in enumerate(archs)]
    ids = list(map(space.arch_id, archs))
    for number in (0, 4, 6, 7, 11, 12, 17, 18, 23, 24):
        kept, fresh = (
            one.propose(
                SearchState(space, history[:number], frozenset(ids[:number]), number, seed=3)
            )
            for one in (strategy, pickle.loads(pickle.dumps(strategy)))
        )
        assert kept == fresh

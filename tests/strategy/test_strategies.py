"""What single strategies do."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nas_space as ns
from nas_space.errors import UsageError
from nas_space.hub import NasBenchMacro
from nas_space.mutable.random_words import words
from nas_space.strategy import (
    TPE,
    Evaluated,
    GridSearch,
    OptunaGP,
    OptunaSampler,
    PolicyBasedRL,
    RegularizedEvolution,
    SearchState,
    get_strategy,
)
from nas_space.strategy.dimensions import dimension_of
from nas_space.strategy.policy_based import reward
from tests import strategies as spaces
from tests.problems import Tiny, Various, worth


def round_of(space, archs, fitness, number=0):
    history = [
        Evaluated(n, arch, value if isinstance(value, tuple) else (value,))
        for n, (arch, value) in enumerate(zip(archs, fitness, strict=True))
    ]
    return SearchState(space, history, number=number, objectives=len(history[0].fitness))


class TestEvolution:
    def test_begins_at_random_and_then_mutates(self):
        space = Various()
        archs = list(space.sample(5, seed=0))
        strategy = RegularizedEvolution(population_size=5, sample_size=5)
        early = [
            strategy.propose(round_of(space, archs[:4], range(4), number=n)) for n in range(10)
        ]
        assert len({space.arch_id(arch) for arch in early}) == 10
        late = [strategy.propose(round_of(space, archs, range(5), number=n)) for n in range(10)]
        # The parent is the last one, the best; most labels stay.
        same = [sum(child.get(k) == v for k, v in archs[4].items()) for child in late]
        assert sum(same) / 10 > len(archs[4]) - 2.5

    def test_the_old_are_forgotten_however_good_they_were(self):
        space = Various()
        archs = list(space.sample(6, seed=0))
        strategy = RegularizedEvolution(population_size=5, sample_size=5, mutation_prob=0.0)
        child = strategy.propose(round_of(space, archs, [100, 1, 2, 3, 4, 5]))
        shared = [sum(child.get(k) == v for k, v in arch.items()) for arch in archs]
        assert shared[5] == max(shared)

    def test_a_parent_is_one_that_no_other_dominates(self):
        space = Various()
        archs = list(space.sample(3, seed=0))
        strategy = RegularizedEvolution(population_size=3, sample_size=3)
        now = round_of(space, archs, [(1.0, 1.0), (0.0, 0.0), (2.0, -1.0)])
        chosen = {
            strategy._winner(SearchState(space, now.history, number=n)).number for n in range(40)
        }
        assert chosen == {0, 2}

    @pytest.mark.parametrize(
        "arguments",
        [{"population_size": 0}, {"sample_size": 60}, {"sample_size": 0}, {"mutation_prob": 1.5}],
    )
    def test_senseless_arguments_are_refused(self, arguments):
        with pytest.raises(UsageError, match=next(iter(arguments))):
            RegularizedEvolution(**arguments)


@pytest.mark.parametrize("kind", [ns.strategy.Random, GridSearch, RegularizedEvolution])
class TestArgumentsOfNNI:
    def test_a_seed_of_its_own_takes_the_place_of_the_searchs(self, kind):
        def searched(strategy, seed):
            result = ns.search(
                Various(), worth, strategy=strategy, trials=6, seed=seed, weights="none"
            )
            return [outcome.arch for outcome in result.outcomes]

        assert searched(kind(seed=3), 0) == searched(kind(), 3) != searched(kind(), 0)

    def test_repeating_is_refused(self, kind):
        kind(dedup=True)
        with pytest.raises(UsageError, match="dedup=False"):
            kind(dedup=False)


class TestGrid:
    def test_every_architecture_once_in_order(self):
        space = Tiny()
        found = [dict(values.active) for values in space.combinations({}, 1)]
        assert len({space.arch_id(arch) for arch in found}) == len(found) == 12
        assert found[0] == {"width": 4, "depth": 1, "op0": "relu"}

    def test_the_order_is_spread_from_the_first_trial_on(self):
        space = NasBenchMacro(init_channels=8)

        def imbalance(strategy, trials):
            """How uneven the values of labels are among the first trials."""
            total = 0.0
            for seed in range(4):
                result = ns.search(
                    space,
                    lambda *_: 0.0,
                    strategy=strategy,
                    trials=trials,
                    seed=seed,
                    weights="none",
                )
                for label, symbol in space.symbols().items():
                    tried = [outcome.arch[label] for outcome in result.outcomes]
                    total += sum((tried.count(v) - trials / 3) ** 2 for v in symbol.values)
            return total

        for trials in (9, 27):
            assert imbalance(GridSearch(), trials) < 0.7 * imbalance(ns.strategy.Random(), trials)

    def test_numbers_are_tried_ever_more_finely(self):
        space = Various()
        space.require(space.width == 8)

        class Rate(ns.ModelSpace):
            def __init__(self):
                super().__init__()
                self.rate = ns.uniform("rate", 0.0, 1.0)

        result = ns.search(Rate(), worth, strategy=GridSearch(shuffle=False), trials=7)
        rates = [outcome.arch["rate"] for outcome in result.outcomes]
        assert rates == [0.5, 0.25, 0.75, 0.125, 0.375, 0.625, 0.875]


class TestPolicyBasedRL:
    def test_what_dominates_becomes_likelier_and_what_is_dominated_less_likely(self):
        space = Various()
        archs = list(space.sample(20, seed=0))
        strategy = PolicyBasedRL(samples_per_update=10, passes=3, learning_rate=0.01)
        fitness = [worth(None, arch) for arch in archs]

        def log_probabilities(number_of_trials):
            now = round_of(space, archs[:number_of_trials], fitness[:number_of_trials])
            strategy.propose(now)
            pupil = strategy._memory
            assert pupil is not None
            return [float(pupil.follow(arch).log_probability.detach()) for arch in archs[:10]]

        before = log_probabilities(9)  # too few to learn from
        after = log_probabilities(10)
        change = [late - early for early, late in zip(before, after, strict=True)]
        ranks = sorted(range(10), key=lambda place: fitness[place])
        assert sum(change[place] for place in ranks[5:]) > sum(change[p] for p in ranks[:5])
        assert log_probabilities(9) == before  # another history, hence another controller
        assert log_probabilities(19) == after

    def test_it_learns(self):
        space = Various()

        def simple(_network, arch):
            return float(arch["width"] == 16) + float(arch["rate"] > 0.25)

        result = ns.search(
            space, simple, strategy=PolicyBasedRL(hidden_size=16), trials=100, weights="none"
        )
        values = [outcome.values["value"] for outcome in result.outcomes]
        assert sum(values[80:]) > 1.5 * sum(values[:20])

    def test_several_objectives_are_rewarded_by_dominance(self):
        history = [
            Evaluated(n, {}, point)
            for n, point in enumerate([(0.0, 0.0), (1.0, 1.0), (2.0, 0.0), (0.0, -1.0)])
        ]
        rewards = [reward(one, history) for one in history]
        assert rewards == [(1 - 2) / 4, 2 / 4, 2 / 4, -3 / 4]

    def test_the_global_generators_are_left_alone(self):
        space = Various()
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        PolicyBasedRL().propose(SearchState(space, []))
        assert torch.equal(torch.rand(3), expected)

    @pytest.mark.parametrize(
        "arguments",
        [{"samples_per_update": 1}, {"passes": 0}, {"learning_rate": 0.0}, {"clip": -1.0}],
    )
    def test_senseless_arguments_are_refused(self, arguments):
        with pytest.raises(UsageError, match=next(iter(arguments))):
            PolicyBasedRL(**arguments)

    def test_a_label_of_too_many_values_is_refused(self):
        class Many(ns.ModelSpace):
            def __init__(self):
                super().__init__()
                self.seed = ns.randint("seed", 0, 100_000)

        with pytest.raises(UsageError, match="'seed' has 100000 values"):
            ns.search(Many(), worth, strategy=PolicyBasedRL(), trials=3)


class TestSamplers:
    def test_only_active_labels_are_suggested(self):
        space = Tiny()
        asked = []

        class Spy(optuna.samplers.RandomSampler):
            def sample_independent(self, study, trial, param_name, param_distribution):
                asked.append(param_name)
                return super().sample_independent(study, trial, param_name, param_distribution)

        strategy = OptunaSampler(lambda seed: Spy(seed=seed))
        for number in range(10):
            asked.clear()
            arch = strategy.propose(SearchState(space, [], number=number))
            assert sorted(asked) == sorted(arch)

    def test_samplers_learn_from_what_was_evaluated_not_from_what_they_had_suggested(self):
        seen: list[Any] = []

        class Spy(optuna.samplers.RandomSampler):
            def sample_independent(self, study, trial, param_name, param_distribution):
                done = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
                seen[:] = [(t.params, t.values) for t in done]
                return super().sample_independent(study, trial, param_name, param_distribution)

        space = Tiny()
        history = [
            Evaluated(0, {"width": 8, "depth": 1, "op0": "tanh"}, (0.5,)),
            Evaluated(1, {"width": 4, "depth": 2, "op0": "relu", "op1": "tanh"}, (0.75,)),
        ]
        OptunaSampler(lambda seed: Spy(seed=seed)).propose(SearchState(space, history, number=2))
        assert seen == [
            ({"width": 1, "depth": 0, "op0": 1}, [0.5]),
            ({"width": 0, "depth": 1, "op0": 0, "op1": 1}, [0.75]),
        ]
        OptunaSampler(lambda seed: Spy(seed=seed), impute=True).propose(SearchState(space, history))
        assert seen[0][0] == {"width": 1, "depth": 0, "op0": 1, "op1": 0}

    def test_cma_es_is_refused_where_values_have_no_order(self):
        strategy = OptunaSampler(lambda seed: optuna.samplers.CmaEsSampler(seed=seed))
        with pytest.raises(UsageError, match="no order"):
            ns.search(Tiny(), worth, strategy=strategy)

    def test_unknown_arguments_are_refused(self):
        with pytest.raises(UsageError, match="did you mean 'n_startup_trials'"):
            TPE(n_startup_trial=3)
        with pytest.raises(UsageError, match="the seed is that of the search"):
            OptunaGP(seed=3)


@given(st.data())
def test_every_value_of_a_label_has_parameters_that_stand_for_it(data):
    symbol = data.draw(spaces.symbols("label"))
    value = symbol.draw(words(data.draw(st.integers(0, 1000)))(symbol.words))
    dimension = dimension_of(symbol)
    params = dimension.params(value)
    assert set(params) == set(dimension.distributions)
    for name, distribution in dimension.distributions.items():
        assert distribution._contains(distribution.to_internal_repr(params[name]))
    back = dimension.value(params)
    if symbol.size is None:
        assert back == pytest.approx(value, rel=1e-3, abs=1e-3)
    else:
        assert back == value


class TestNames:
    def test_by_short_name_and_by_class(self):
        assert type(get_strategy("TPE")) is type(get_strategy("tpe")) is TPE
        assert isinstance(get_strategy("RegularizedEvolution"), RegularizedEvolution)

    def test_the_nearest_name_is_suggested(self):
        with pytest.raises(UsageError, match="did you mean 'random'"):
            get_strategy("randon")

    def test_arguments_that_it_does_not_take(self):
        with pytest.raises(UsageError, match="populationsize"):
            get_strategy("evolution", populationsize=3)

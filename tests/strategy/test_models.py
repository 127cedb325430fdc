"""Models of scores: what strategies learn, against brute force."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas_space as ns
from nas_space.errors import DecompositionError, UsageError
from nas_space.hub import NasBenchMacro, ProxylessNAS
from nas_space.mutable import MutableExpression, SampleBatch
from nas_space.mutable.random_words import words
from nas_space.strategy import (
    GP,
    LinearThompson,
    LocalSearch,
    ModelAveraging,
    Predictor,
    Strategy,
    gaussian_process,
)
from nas_space.strategy.base import Evaluated, SearchState
from nas_space.strategy.candidates import fitness_of, highest, normal_scores, scalarised
from nas_space.strategy.codes import Codes
from nas_space.strategy.encoding import Encoding, Interactions
from nas_space.strategy.gaussian_process import Covariances, KernelFit, LabelKernel, fitted, loss
from nas_space.strategy.gaussian_process import GaussianProcess as Process
from nas_space.strategy.interactions import by_gain, kernels, tractable
from nas_space.strategy.linear_model import WeightPosterior, evidence, left_out, with_constant
from nas_space.strategy.score_model import standard_scores
from nas_space.study import maximize, minimize
from nas_space.tables import best, grid
from tests.problems import Tiny, Various
from tests.problems import worth as various

VARIOUS = Various()
TINY = Interactions((("width", "op0"), ("depth", "op1")), 0.5)


@pytest.fixture(scope="module")
def macro() -> NasBenchMacro:
    return NasBenchMacro(init_channels=8)


def everything(space: Any) -> list[dict[str, Any]]:
    return [space.canonical(arch) for arch in grid(space)]


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


class TestEncoding:
    @given(st.integers(0, 1000))
    def test_a_table_gives_what_features_times_weights_give(self, seed):
        space = Tiny()
        for interactions in (Interactions(), TINY):
            encoding = Encoding(space, interactions)
            weights = normal(seed, encoding.width)
            table = encoding.table(weights)
            values = {space.arch_id(a): float(encoding.row(a) @ weights) for a in everything(space)}
            ranked = best(space, table, 12, maximize=True)
            assert len(ranked) == 12
            for scored in ranked:
                assert scored.value == pytest.approx(values[space.arch_id(scored.arch)])

    @given(st.integers(0, 1000))
    def test_the_best_with_a_continuous_label_is_as_good_as_any(self, seed):
        space = Various()
        encoding = Encoding(space)
        weights = normal(seed, encoding.width)
        [found] = best(space, encoding.table(weights), maximize=True)
        arch = encoding.completed(found.arch, weights)
        assert space.contains(arch)
        assert float(encoding.row(arch) @ weights) == pytest.approx(found.value, abs=1e-4)
        values = [float(encoding.row(a) @ weights) for a in space.sample(200, seed=seed)]
        assert max(values) <= found.value + 1e-4

    def test_numbers_that_are_near_each_other_are_alike_a_priori(self):
        block = Encoding(Various()).blocks["width"]
        near, far = (float(block.row(8) @ block.row(width)) for width in (16, 32))
        assert 0 < far < near < float(block.row(8) @ block.row(8))

    def test_what_is_inactive_has_no_features(self):
        space = Tiny()
        encoding = Encoding(space)
        row = encoding.row({"width": 4, "depth": 1, "op0": "relu"})
        assert not row[encoding.slices["op1"]].any()
        assert row[encoding.slices["op0"]].any()


class TestLinearModel:
    @pytest.mark.parametrize("shape", [(30, 6), (6, 30)])
    def test_the_posterior_is_that_of_the_normal_equations(self, shape):
        rows, scores, noise = normal(0, *shape), normal(1, shape[0]), 0.3
        posterior = WeightPosterior(rows, scores, noise)
        precision = rows.T @ rows / noise + np.eye(shape[1])
        assert posterior.mean == pytest.approx(np.linalg.solve(precision, rows.T @ scores / noise))
        covariance = posterior.scale * np.linalg.inv(precision)
        asked = normal(2, 5, shape[1])
        expected = np.sqrt(np.einsum("ij,jk,ik->i", asked, covariance, asked))
        assert posterior.deviations(asked) == pytest.approx(expected)
        kernel = rows @ rows.T + noise * np.eye(shape[0])
        assert posterior.scale == pytest.approx(scores @ np.linalg.solve(kernel, scores) / shape[0])

    @pytest.mark.parametrize("shape", [(12, 4), (4, 6)])
    def test_draws_have_the_covariance_of_the_posterior(self, shape):
        posterior = WeightPosterior(normal(0, *shape), normal(1, shape[0]), 0.3)
        source = words(0)
        drawn = np.array([posterior.draw(source) for _ in range(4000)])
        asked = np.eye(shape[1])
        assert drawn.mean(0) == pytest.approx(posterior.mean, abs=0.06)
        assert drawn.std(0) == pytest.approx(posterior.deviations(asked), rel=0.08)
        assert posterior.draw(source, temperature=0.0) == pytest.approx(posterior.mean)

    def test_evidence_finds_the_noise(self):
        rows = with_constant(normal(0, 200, 5))
        for noise in (0.01, 1.0):
            scores = rows @ normal(1, 6) + np.sqrt(noise) * normal(2, 200)
            assert 0.2 < evidence(rows @ rows.T, scores).noise / noise < 5

    def test_leaving_one_out_is_fitting_to_the_others(self):
        rows, scores = normal(0, 9, 3), normal(1, 9)
        found = left_out(rows @ rows.T, scores, 0.2)
        for place in range(9):
            rest = np.delete(np.arange(9), place)
            mean = WeightPosterior(rows[rest], scores[rest], 0.2).mean
            assert found[place] == pytest.approx(float(rows[place] @ mean))

    def test_labels_that_interact_are_found(self, macro):
        archs = list(macro.sample(120, seed=0))
        encoding = Encoding(macro)
        rows = with_constant(np.array([encoding.row(arch) for arch in archs]))
        scores = np.array(
            [(a["op1"] == a["op6"]) + 0.2 * (a["op3"] == "identity") for a in archs], dtype=float
        )
        scores = (scores - scores.mean()) / scores.std()
        found = by_gain(kernels(encoding, rows), rows @ rows.T, scores, 0.1)
        assert found[0] == ("op1", "op6")

    def test_pairs_are_taken_while_tables_stay_small(self, macro):
        few = list(combinations([f"op{i}" for i in range(8)], 2))
        assert tractable(Encoding(macro), few) == few  # all of 3**8 in one table
        space = ProxylessNAS(num_labels=2, width_mult=0.1)
        labels = [f"s{stage}_i0" for stage in range(2, 8)]
        kept = tractable(Encoding(space), list(combinations(labels, 2)))
        assert 5 <= len(kept) < 15  # 6**6 would be too many
        encoding = Encoding(space, Interactions(tuple(kept)))
        table = encoding.table(normal(0, encoding.width))
        assert len(best(space, table, 3)) == 3


class TestGaussianProcess:
    def test_distances_are_by_label_and_by_structure(self):
        codes = Codes(Tiny())
        one = {"width": 4, "depth": 1, "op0": "relu"}
        others = [
            one,
            {"width": 8, "depth": 1, "op0": "tanh"},
            {"width": 4, "depth": 2, "op0": "relu", "op1": "tanh"},
        ]
        apart = codes.distances(codes.of([one]), codes.of(others))[:, 0]
        assert list(Tiny().symbols()) == ["width", "depth", "op0", "op1"]
        assert apart.T.tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]]

    def test_numbers_are_apart_by_how_far_and_choices_of_several_by_members(self):
        space = Various()
        codes = Codes(space)
        arch = {"width": 8, "rate": 0.1, "pick": [0, 1], "depth": 0}
        other = {"width": 16, "rate": 0.35, "pick": [0, 3], "depth": 0}
        apart = codes.distances(codes.of([arch]), codes.of([other]))[:, 0, 0]
        assert apart.tolist() == pytest.approx([1 / 3, 0.5, 0, 1, 0, 1, 0, 0, 0, 0])

    @given(st.integers(0, 1000))
    def test_weighted_sums_are_of_the_distances(self, seed):
        codes = Codes(VARIOUS)
        one, other = (codes.of(list(VARIOUS.sample(9, seed=seed + n))) for n in (0, 1))
        weights = np.abs(normal(seed, codes.width))
        found = codes.weighted(weights, other)(one)
        assert found == pytest.approx(np.tensordot(weights, codes.distances(one, other), 1))

    @given(st.lists(st.sets(st.integers(0, 30), min_size=1), min_size=2, max_size=6))
    def test_covariances_are_those_computed_anew_to_the_last_bit(self, asked):
        codes, archs = Codes(VARIOUS), list(VARIOUS.sample(31, seed=0))
        history = [Evaluated(number, arch, (0.0,)) for number, arch in enumerate(archs)]
        fits = [KernelFit((), (), normal(seed, codes.width + 1), 0.0) for seed in (0, 1)]
        kept = Covariances()
        for turn, numbers in enumerate(asked):
            known = [history[number] for number in sorted(numbers)]
            if turn % 3 == 2:  # as another search with the same numbers would have it
                known[0] = Evaluated(known[0].number, archs[-1 - known[0].number], (0.0,))
            fit, rows = fits[turn > 3], codes.of([one.arch for one in known])
            kernel = LabelKernel(codes, rows, fit.parameters)
            assert np.array_equal(kept.of(fit, known, kernel), kernel.of(rows))

    def test_slopes_of_the_likelihood_are_right(self):
        space = Various()
        codes = Codes(space)
        rows = codes.of(list(space.sample(15, seed=0)))
        scores, distances = normal(0, 15), codes.distances(rows, rows)
        for seed in range(3):
            parameters = normal(seed, len(distances) + 1)
            _, slopes = loss(parameters, distances, scores)
            for place, slope in enumerate(slopes):
                step = 1e-5 * np.eye(len(parameters))[place]
                ahead = loss(parameters + step, distances, scores)[0]
                behind = loss(parameters - step, distances, scores)[0]
                assert (ahead - behind) / 2e-5 == pytest.approx(slope, abs=1e-4)

    def test_labels_that_do_not_matter_get_long_lengthscales(self, macro):
        archs = list(macro.sample(80, seed=1))
        codes = Codes(macro)
        rows = codes.of(archs)
        scores = np.array([(a["op2"] == "mb3_k3") - (a["op5"] == "identity") for a in archs])
        parameters, _ = fitted(codes, rows, normal_scores(scores))
        inverse = np.exp(parameters[:-1])
        assert set(np.argsort(-inverse)[:2].tolist()) == {2, 5}

    def test_the_improvement_is_what_sampling_says(self, macro):
        archs = list(macro.sample(20, seed=2))
        codes = Codes(macro)
        rows, scores = codes.of(archs), normal(0, 20)
        prior = LabelKernel(codes, rows, np.log(np.array([0.3] * 8 + [0.1])))
        process = Process(prior, scores, prior.of(rows))
        asked = codes.of(list(macro.sample(5, seed=3)))
        kernel = np.exp(-0.3 * codes.distances(rows, rows).sum(0)) + (0.1 + 1e-8) * np.eye(20)
        cross = np.exp(-0.3 * codes.distances(asked, rows).sum(0))
        mean = cross @ np.linalg.solve(kernel, scores)
        spread = process.variance * (
            1 - np.einsum("ij,ji->i", cross, np.linalg.solve(kernel, cross.T))
        )
        drawn = mean + np.sqrt(spread) * normal(1, 200_000, 1)
        improvement = np.maximum(drawn - process.best, 0).mean(0)
        assert np.exp(process.log_improvement(asked)) == pytest.approx(improvement, rel=0.03)


class TestScores:
    @given(st.lists(st.floats(allow_nan=False, width=16), min_size=2, max_size=20))
    def test_normal_scores_keep_the_order_and_ties(self, values):
        found = normal_scores(values)
        for (a, x), (b, y) in product(zip(values, found, strict=True), repeat=2):
            assert (a < b) == (x < y)

    @given(st.lists(st.sampled_from([-np.inf, -1.0, 0.5, 2.0, 7.0]), min_size=1), st.data())
    def test_scores_of_some_and_the_highest_are_those_of_all(self, values, data):
        places = np.array(data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1)))
        assert np.array_equal(normal_scores(values, places), normal_scores(values)[places])
        number = data.draw(st.integers(1, len(values) + 2))
        found = highest(np.array(values), number)
        assert found.tolist() == np.argsort(-np.array(values), kind="stable")[:number].tolist()

    def test_every_trade_off_may_be_the_best(self):
        # The middle one lies in a dent of the front, where no weighted sum has its maximum.
        history = [Evaluated(i, {}, f) for i, f in enumerate([(0.0, 9.0), (1.0, 1.0), (9.0, 0.0)])]
        fitness = fitness_of(history)
        chosen = {int(scalarised(fitness, words(seed)).argmax()) for seed in range(100)}
        assert chosen == {0, 1, 2}


def additive(arch: dict[str, Any]) -> float:
    """A sum over labels: the best of NAS-Bench-Macro's is unique."""
    values = {"identity": 0.0, "mb3_k3": 1.0, "mb6_k5": 1.6}
    return sum(values[op] * (1 if int(label[2:]) % 2 else -1) for label, op in arch.items())


class TestLinearThompson:
    def test_the_best_of_a_sum_is_found_soon(self, macro):
        result = ns.search(macro, counted, strategy=LinearThompson(), trials=40, weights="none")
        assert result.ranked()[0].values["value"] == pytest.approx(4 * 1.6)

    def test_proposals_keep_to_a_budget_without_being_repaired(self):
        space = ProxylessNAS(num_labels=2, width_mult=0.1)
        depth = MutableExpression.sum(space.simplify()[f"s{s}_depth"] for s in (2, 3, 4, 5, 6))
        tight = space.where(depth >= 19)
        result = ns.search(
            tight, worth_of_kernels, strategy=LinearThompson(), trials=12, weights="none"
        )
        assert all(tight.contains(outcome.arch) for outcome in result.outcomes)
        assert result.repaired == 0

    def test_an_objective_that_is_an_expression_is_known_and_not_learnt(self, macro):
        cost = ns.profiler.macs(macro, (3, 32, 32))
        strategy = LinearThompson()
        result = ns.search(
            macro,
            counted,
            strategy=strategy,
            objectives=[maximize("value"), minimize("macs", cost)],
            trials=30,
            weights="none",
        )
        memory = strategy._memory
        assert memory is not None
        assert list(memory.models.fits) == [0]
        cheapest = min(outcome.values["macs"] for outcome in result.outcomes)
        assert cheapest == macro.bounds(cost).minimum

    def test_scores_of_one_value_or_without_bound_are_no_obstacle(self, macro):
        for scores in ([1.0] * 12, [-np.inf, np.inf, 0.0] * 4):
            archs = list(macro.sample(12, seed=0))
            history = [
                Evaluated(i, a, (s,)) for i, (a, s) in enumerate(zip(archs, scores, strict=True))
            ]
            taken = frozenset(macro.arch_id(arch) for arch in archs)
            for strategy in (
                LinearThompson(),
                GP(),
                ModelAveraging(),
                LocalSearch(),
                Predictor(members=2),
            ):
                found = strategy.propose(SearchState(macro, history, taken, 12))
                assert macro.arch_id(found) not in taken


def in_pairs(arch: dict[str, Any]) -> float:
    """What neighbours are worth together, and noise that an architecture has always."""
    items = sorted(arch.items())
    parts = [*(repr(pair) for pair in pairwise(items)), repr(items)]
    return sum(zlib.crc32(part.encode()) % 97 / 97 for part in parts)


def evaluated(
    space: Any, score: Callable[[dict[str, Any]], float], number: int = 60
) -> SearchState:
    """A search of some architectures at random."""
    archs = list(space.sample(number, seed=0))
    history = [Evaluated(i, arch, (score(arch),)) for i, arch in enumerate(archs)]
    return SearchState(space, history, frozenset(map(space.arch_id, archs)), number)


class TestModelAveraging:
    def test_the_scores_say_which_model_proposes(self, macro):
        state = evaluated(macro, additive)
        assert ModelAveraging()._log_odds(state) < -3
        # What a process with such a kernel draws, a sum over labels and pairs does not explain.
        codes = Codes(macro)
        rows = codes.of([one.arch for one in state.history])
        kernel = np.exp(-0.1 * codes.distances(rows, rows).sum(0)) + 1e-6 * np.eye(60)
        scores = np.linalg.cholesky(kernel) @ np.random.default_rng(1).normal(size=60)
        history = [
            Evaluated(one.number, one.arch, (float(score),))
            for one, score in zip(state.history, scores, strict=True)
        ]
        assert ModelAveraging()._log_odds(SearchState(macro, history, number=60)) > 2

    def test_the_odds_follow_from_the_history_also_where_it_is_long(self, macro):
        # A search that is resumed must go on as if it had not been interrupted.
        space, kept = macro, ModelAveraging()
        whole = evaluated(space, in_pairs, 1430)
        for number in (1390, 1410, 1430):  # of the linear model, other trials are left out
            state = SearchState(space, whole.history[:number], whole.taken, number)
            assert kept._log_odds(state) == ModelAveraging()._log_odds(state)

    def test_what_a_draw_favours_is_among_the_candidates_of_the_process(self, macro):
        state = evaluated(macro, additive)
        favourites = LinearThompson(temperature=0.0).favourites(state, 5)
        scores = sorted(map(additive, macro.sample(2000, seed=2)), reverse=True)
        assert min(map(additive, favourites)) >= scores[10]

    def test_several_objectives_are_left_to_the_linear_model(self, macro):
        history = [
            Evaluated(one.number, one.arch, (one.fitness[0], -one.fitness[0]))
            for one in evaluated(macro, additive).history
        ]
        state = SearchState(macro, history, number=60, objectives=2)
        again = SearchState(macro, history, number=60, objectives=2)
        assert ModelAveraging().propose(state) == LinearThompson().propose(again)

    def test_an_objective_that_is_known_exactly_is_not_learnt(self, macro):
        cost = ns.profiler.macs(macro, (3, 32, 32))
        result = ns.search(
            macro,
            lambda *_: {},
            objectives=[minimize("macs", cost)],
            strategy=ModelAveraging(),
            trials=9,
            weights="none",
        )
        costs = [cost.freeze(outcome.arch) for outcome in result.outcomes[5:]]
        cheapest = [scored.value for scored in macro.best(cost, k=4)]
        assert sorted(costs) == cheapest

    def test_a_long_history_makes_no_larger_process(self, macro, monkeypatch):
        sizes = []

        class Counted(gaussian_process.GaussianProcess):
            def __init__(self, kernel: Any, scores: Any, covariances: Any) -> None:
                sizes.append(len(covariances))
                super().__init__(kernel, scores, covariances)

        monkeypatch.setattr(gaussian_process, "GaussianProcess", Counted)
        GP().propose(evaluated(macro, additive, 900))
        assert sizes[0] <= 400


class Names(ns.ModelSpace):
    """A label with very many values in no order, and a number of many values."""

    def __init__(self):
        super().__init__()
        self.add_mutable(ns.Categorical([f"n{i}" for i in range(1000)], label="name"))
        self.add_mutable(ns.randint("number", 0, 100_000))


def test_labels_of_very_many_values_are_drawn_or_learnt_as_a_curve():
    result = ns.search(
        Names(),
        lambda _, arch: -abs(arch["number"] - 70_000),
        strategy=LinearThompson(),
        trials=30,
        weights="none",
    )
    last = result.outcomes[15:]
    assert len({outcome.arch["name"] for outcome in last}) > 10
    assert np.median([abs(outcome.arch["number"] - 70_000) for outcome in last]) < 15_000


def worth_of_kernels(_network: object, arch: dict[str, Any]) -> float:
    return float(sum(str(value).startswith("k7") for value in arch.values()))


@pytest.mark.parametrize("kind", [LinearThompson, GP, ModelAveraging, LocalSearch, Predictor])
def test_what_has_learnt_beats_random_search(kind, macro):
    def mean_of_the_last(strategy: Strategy) -> float:
        result = ns.search(macro, counted, strategy=strategy, trials=30, weights="none")
        return float(np.mean([o.values["value"] for o in result.outcomes[20:]]))

    assert mean_of_the_last(kind()) > mean_of_the_last(ns.strategy.Random()) + 1.0


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (LinearThompson, {"initial": 1}),
        (LinearThompson, {"temperature": -1.0}),
        (GP, {"initial": 1}),
        (ModelAveraging, {"initial": 1}),
        (LocalSearch, {"initial": 0}),
        (Predictor, {"members": 1}),
        (Predictor, {"estimator": 3}),
    ],
)
def test_senseless_arguments_are_refused(kind, arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        kind(**arguments)


def counted(_network: object, arch: dict[str, Any]) -> float:
    return additive(arch)


def test_a_predictor_takes_any_regressor(macro):
    from sklearn.ensemble import ExtraTreesRegressor

    strategy = Predictor(ExtraTreesRegressor(n_estimators=5))
    runs = [
        ns.search(macro, counted, strategy=strategy, trials=13, weights="none") for _ in range(2)
    ]
    assert [o.arch for o in runs[0].outcomes] == [o.arch for o in runs[1].outcomes]


@pytest.fixture(scope="module")
def result(macro) -> Any:
    return ns.search(
        macro, counted, strategy=ns.strategy.Random(), trials=60, seed=1, weights="none"
    )


class TestScoreModel:
    def test_its_best_within_a_budget_is_the_best_there_is(self, macro, result):
        model, cost = result.model(pairs=False), ns.profiler.macs(macro, (3, 32, 32))
        budget = float(np.median(cost.evaluate(macro.sample(100, seed=0))))
        within = macro.where(cost <= budget)
        expected = max(additive(arch) for arch in everything(within))
        [found] = within.best(model, maximize=True)
        assert additive(found.arch) == pytest.approx(expected)
        assert model.evaluate(found.arch) == pytest.approx(found.value)
        points = macro.pareto(model, cost, maximize=(True, False))
        assert points[0].first == pytest.approx(macro.best(model, maximize=True)[0].value)

    def test_it_goes_where_an_expression_goes(self, macro, result):
        model, cost = result.model(), ns.profiler.macs(macro, (3, 32, 32))
        whole = everything(macro)
        told = np.array([model.freeze(arch) for arch in whole])
        np.testing.assert_allclose(told, model.predict(whole)[0], atol=0.01)
        np.testing.assert_array_equal(told, model.evaluate(SampleBatch.from_samples(macro, whole)))
        good = macro.where(model >= 0.5, cost <= 30e6)
        costs = cost.evaluate(SampleBatch.from_samples(macro, whole))
        assert 0 < good.count() == ((told >= 0.5) & (costs <= 30e6)).sum()
        assert all(model.freeze(arch) >= 0.5 for arch in good.sample(20, seed=0))
        assert str(model >= 0.5) == "score model >= 0.5"
        loaded = pickle.loads(pickle.dumps(model))
        assert all(
            loaded.freeze(arch) == value for arch, value in zip(whole[:9], told[:9], strict=True)
        )
        guess = ns.search(
            macro, lambda *_: 1.0, objectives=[maximize("guess", model), maximize("value")],
            trials=8, weights="none",
        )  # fmt: skip
        assert guess.winner().values["guess"] == told.max()

    def test_two_models_that_agree_keep_what_each_knows(self, result):
        one, other = result.model(pairs=False), result.model(pairs=False)
        assert one is not other
        assert one.effects() == other.effects()

    def test_it_is_exact_where_labels_are_continuous_or_inactive(self):
        space = Various()
        model = ns.search(space, various, trials=40, weights="none", strategy="random").model()
        archs = list(space.sample(200, seed=3))
        means = model.predict(archs)[0]
        np.testing.assert_allclose([model.freeze(arch) for arch in archs], means, atol=0.01)
        np.testing.assert_allclose(model.evaluate(space.sample(200, seed=3)), means, atol=0.01)
        assert {"rate", "depth", "op2", "pick"} <= {effect.label for effect in model.effects()}
        with pytest.raises(DecompositionError, match="continuous 'rate'"):
            space.best(model, maximize=True)
        some = space.where(model >= 0.0, attempts=1000)
        assert all(model.freeze(arch) >= 0.0 for arch in some.sample(10, seed=0))

    def test_effects_are_the_differences_that_there_are(self, result):
        effects = {(e.label, e.value): e for e in result.model(pairs=False).effects()}
        unit = np.std([outcome.values["value"] for outcome in result.outcomes])
        values = {"identity": 0.0, "mb3_k3": 1.0, "mb6_k5": 1.6}
        mean = sum(values.values()) / 3
        for (label, value), effect in effects.items():
            true = (values[value] - mean) * (1 if int(label[2:]) % 2 else -1) / unit
            assert abs(effect.mean - true) < 4 * effect.deviation + 0.05
            assert 0 < effect.deviation < 0.3

    def test_uncertainty_shrinks_with_trials(self, macro, result):
        archs = list(macro.sample(10, seed=5))
        few = ns.strategy.score_model.fit_model(
            macro,
            [Evaluated(o.number, o.arch, (o.values["value"],)) for o in result.outcomes[:12]],
        )
        assert few.predict(archs)[1].mean() > 2 * result.model().predict(archs)[1].mean()

    def test_what_is_to_be_small_is_better_the_smaller(self, macro):
        small = ns.search(macro, counted, objectives=minimize("value"), trials=25, weights="none")
        assert additive(macro.best(small.model(), maximize=True)[0].arch) < 0

    def test_it_prints_and_draws_what_each_choice_is_worth(self, result, tmp_path):
        model = result.model()
        text = repr(model)
        assert text.count("±") == 24
        assert model.picture(tmp_path / "worth.png").stat().st_size > 10_000

    def test_too_few_trials_are_refused(self, macro):
        result = ns.search(macro, counted, trials=1, weights="none")
        with pytest.raises(UsageError, match="at least two"):
            result.model()


class Long(ns.ModelSpace):
    """Labels with very many values: numbers in order and in none, names, and several of many."""

    def __init__(self) -> None:
        super().__init__()
        mixed = np.random.default_rng(0).permutation(700).tolist()
        self.width = ns.Categorical(list(range(1, 1001)), label="width")
        self.names = ns.Categorical([f"n{i}" for i in range(300)], label="names")
        self.mixed = ns.Categorical(mixed, label="mixed")
        self.huge = ns.Categorical(list(range(100_000)), label="huge")

    def forward(self, x):
        return x


@pytest.fixture(scope="module")
def long() -> Any:
    return Long()


class TestLongLabels:
    """Labels with more values than could each have a weight."""

    def distance(self, _network, arch):
        return -abs(arch["width"] - 700) / 1000 - abs(arch["mixed"] - 300) / 700 - abs(
            arch["huge"] - 30_000
        ) / 1e5 + 0.3 * (int(arch["names"][1:]) < 50)  # fmt: skip

    def test_they_are_learnt(self, long):
        def mean_of_the_last(strategy):
            result = ns.search(long, self.distance, strategy=strategy, trials=50, weights="none")
            return np.mean([outcome.values["value"] for outcome in result.outcomes[-15:]])

        assert mean_of_the_last(LinearThompson()) > mean_of_the_last(ns.strategy.Random()) + 0.4

    def test_the_best_within_a_budget_on_them_is_found(self, long):
        narrow = long.where(long.width <= 333)
        result = ns.search(narrow, self.distance, trials=40, weights="none")
        assert result.best()["width"] > 300
        assert result.repaired == 0

    def test_the_model_is_the_expression(self, long):
        result = ns.search(long, self.distance, trials=20, weights="none", strategy="random")
        model, archs = result.model(pairs=False), list(long.sample(50, seed=1))
        means = model.predict(archs)[0]
        np.testing.assert_allclose([model.freeze(arch) for arch in archs], means, atol=0.01)
        [found] = long.best(model, maximize=True)
        assert found.value >= means.max()
        assert model.freeze(found.arch) == pytest.approx(found.value)


class TestWarmStart:
    def test_a_score_known_beforehand_is_worth_trials(self, macro):
        known = [(arch, additive(arch) ** 3) for arch in macro.sample(200, seed=7)]

        def best_of_the_first(strategy):
            result = ns.search(macro, counted, strategy=strategy, trials=8, weights="none")
            return result.ranked()[0].values["value"]

        warm = best_of_the_first(LinearThompson(warm_start=known))
        assert warm > best_of_the_first(LinearThompson()) + 0.5
        assert warm >= 0.9 * 4 * 1.6

    def test_a_score_that_misleads_is_unlearnt(self, macro):
        wrong = [(arch, -additive(arch)) for arch in macro.sample(200, seed=7)]
        result = ns.search(
            macro, counted, strategy=LinearThompson(warm_start=wrong), trials=50, weights="none"
        )
        assert result.ranked()[0].values["value"] >= 0.9 * 4 * 1.6

    def test_architectures_of_another_space_are_refused(self, macro):
        with pytest.raises(ns.errors.SampleValidationError):
            LinearThompson(warm_start=[({"op0": "conv"}, 1.0)] * 2).propose(SearchState(macro, []))
        with pytest.raises(UsageError, match="warm_start"):
            LinearThompson(warm_start=[(macro.sample(seed=0), 1.0)])


@pytest.mark.parametrize("odd", [1e308, -1e308, float("inf"), float("-inf")])
def test_scores_of_any_size_are_standardised_or_ranked(odd: float) -> None:
    found = standard_scores(np.array([0.3, odd, 0.1, 0.2, odd]))
    assert np.isfinite(found).all()
    assert (np.argmax(found) if odd > 0 else np.argmin(found)) == 1

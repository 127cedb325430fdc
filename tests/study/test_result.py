"""What a result says of a search."""

from __future__ import annotations

import optuna
import pytest
import torch

import nas_space as ns
from nas_space.errors import UsageError
from nas_space.strategy import GridSearch
from nas_space.study import minimize
from tests.problems import Tiny, Various, failing, worth


@pytest.fixture(scope="module")
def two():
    space = Various()
    return ns.search(
        space, worth, objectives=["value", minimize("width", space.width)], trials=40, seed=3
    )


def dominates(one, other):
    better = (one["value"] - other["value"], other["width"] - one["width"])
    return min(better) >= 0 and max(better) > 0


def test_the_front_is_what_nothing_dominates(two):
    values = [outcome.values for outcome in two.outcomes]
    expected = [v for v in values if not any(dominates(other, v) for other in values)]
    found = [outcome.values for outcome in two.front()]
    key = lambda v: (v["value"], v["width"])  # noqa: E731 - short
    assert sorted(found, key=key) == sorted(expected, key=key)
    assert two.pareto() == [outcome.arch for outcome in two.front()]
    assert [v["value"] for v in found] == sorted((v["value"] for v in found), reverse=True)


def test_the_best_by_each_objective(two):
    assert two.values(two.best())["value"] == max(o.values["value"] for o in two.outcomes)
    assert two.best("width")["width"] == min(o.arch["width"] for o in two.outcomes)
    with pytest.raises(UsageError, match=r"'accuracy'.*'value', 'width'"):
        two.best("accuracy")


def test_the_top_are_distinct_and_in_order(two):
    top = two.top(5)
    worths = [worth(None, arch) for arch in top]
    assert worths == sorted(worths, reverse=True)
    assert len({two.space.arch_id(arch) for arch in top}) == 5
    assert top[0] == two.best()
    assert len(two.top(1000)) == 40


def test_values_of_what_was_not_tried(two):
    arch = next(
        arch
        for arch in two.space.sample(200, seed=9)
        if two.space.arch_id(arch) not in {two.space.arch_id(o.arch) for o in two.outcomes}
    )
    with pytest.raises(UsageError, match="not evaluated"):
        two.values(arch)


def test_a_network_has_the_weights_that_it_was_scored_with():
    space = Tiny()
    x = torch.randn(3, 2)
    outputs = {}

    def note(network, arch):
        outputs[space.arch_id(arch)] = network(x)
        return worth(network, arch)

    result = ns.search(space, note, trials=6)
    assert torch.equal(result.network()(x), outputs[space.arch_id(result.best())])
    other = result.outcomes[2].arch
    assert torch.equal(result.network(other)(x), outputs[space.arch_id(other)])


def test_the_table_has_a_row_for_each_trial():
    result = ns.search(Tiny(), failing, strategy=GridSearch(), trials=12)
    table = result.to_dataframe()
    assert list(table["number"]) == list(range(12))
    assert sorted(set(table["state"])) == ["complete", "failed"]
    assert list(table["depth"]) == [o.arch["depth"] for o in result.outcomes]
    assert {"seconds", "repaired", "value", "width", "op0", "op1"} <= set(table)


def test_labels_are_parameters_for_optunas_own_tools(two):
    study = two.labelled_study()
    assert [t.values for t in study.trials] == [t.values for t in two.study.trials]
    assert study.directions == two.study.directions
    for trial, outcome in zip(study.trials, two.outcomes, strict=True):
        assert trial.params["width"] == outcome.arch["width"]
        assert set(trial.params) == set(outcome.arch)
    importances = optuna.importance.get_param_importances(
        study, target=lambda trial: trial.values[0], params=["width", "rate"]
    )
    assert set(importances) == {"width", "rate"}


def test_in_words(two):
    assert repr(two).startswith("SearchResult(40 of 40 trials complete, best value=")

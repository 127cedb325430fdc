"""Searches that are stored are found again."""

from __future__ import annotations

import optuna
import pytest

import nas_space as ns
from nas_space.errors import StorageError, UsageError
from nas_space.runs import find_runs, open_run
from nas_space.study import load_search, maximize, minimize
from tests.problems import Tiny, Various, failing, worth


@pytest.mark.parametrize("name", ["search.db", "search.journal"])
def test_a_search_is_loaded_as_it_was_found(name, tmp_path):
    space = Various()
    objectives = [maximize("value"), minimize("width", space.width)]
    found = ns.search(space, worth, trials=12, storage=tmp_path / name, objectives=objectives)
    for loaded in (load_search(tmp_path / name), load_search(tmp_path / name, space=space)):
        assert loaded.outcomes == found.outcomes
        assert loaded.pareto() == found.pareto()
        assert loaded.values(found.best()) == found.values(found.best())
    assert load_search(tmp_path / name, space=space).network(found.best()) is not None
    with pytest.raises(UsageError, match="open the study with it"):
        load_search(tmp_path / name).network()


def test_failures_are_loaded_too(tmp_path):
    found = ns.search(Tiny(), failing, trials=12, storage=tmp_path / "search.db")
    assert load_search(tmp_path / "search.db").outcomes == found.outcomes


def test_of_several_searches_one_is_chosen_by_name(tmp_path):
    store = tmp_path / "search.db"
    for name in ("one", "two"):
        ns.search(Tiny(), worth, trials=2, storage=store, name=name)
    optuna.create_study(storage=f"sqlite:///{store}", study_name="other")
    assert len(load_search(store, "two").outcomes) == 2
    with pytest.raises(StorageError, match=r"\['one', 'two'\].* say which"):
        load_search(store)
    with pytest.raises(StorageError, match="did you mean 'two'"):
        load_search(store, "tow")
    with pytest.raises(StorageError, match="no search 'other'"):
        load_search(store, "other")


def test_another_space_is_refused_and_the_difference_named(tmp_path):
    store = tmp_path / "search.db"
    ns.search(Tiny(), worth, trials=2, storage=store)
    with pytest.raises(StorageError, match="factor is 1 there, 2 here"):
        load_search(store, space=Tiny(2))


def test_looking_for_a_search_makes_no_file(tmp_path):
    with pytest.raises(StorageError, match="no file"):
        load_search(tmp_path / "search.db")
    with pytest.raises(UsageError, match="no run"):
        open_run(tmp_path / "run")
    assert list(find_runs(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_storage_is_a_run_without_settings(tmp_path):
    store = tmp_path / "search.db"
    ns.search(Tiny(), worth, trials=2, storage=store)
    run = open_run(store)
    assert run.result is not None
    assert (run.state, run.space_name, run.trials) == ("stored", "Tiny", None)
    assert len(run.result.outcomes) == 2

"""What a search does with a space, a function and a strategy."""

from __future__ import annotations

import weakref

import optuna
import pytest
import torch

import nas_space as ns
from nas_space.errors import SampleValidationError, StorageError, TrialError, UsageError
from nas_space.strategy import GridSearch, ModelAveraging, Random, Strategy
from nas_space.study import maximize, minimize, report
from tests.problems import Tiny, Various, failing, worth


def architectures(result):
    return [outcome.arch for outcome in result.outcomes]


class Stubborn(Strategy):
    """Proposes the same, again and again."""

    def propose(self, now):
        return {"width": 8, "depth": 1, "op0": "tanh"}


class TestNetworks:
    def test_weights_are_those_of_the_space(self):
        space = Tiny()
        x = torch.randn(3, 2)

        def agrees(network, arch):
            with space.activate(arch):
                return float(torch.equal(network(x), space(x)))

        assert all(o.values["value"] == 1 for o in ns.search(space, agrees, trials=5).outcomes)

    def test_fresh_weights_are_new_and_follow_from_the_seed(self):
        space = Tiny()

        def first_weight(network, _arch):
            return {
                "value": float(network.first.weight[0, 0].detach()),
                "random": float(torch.rand(())),
            }

        one, same, other = (
            ns.search(space, first_weight, trials=4, weights="fresh", seed=seed)
            for seed in (0, 0, 1)
        )
        assert [o.values for o in one.outcomes] == [o.values for o in same.outcomes]
        assert [o.metrics for o in one.outcomes] == [o.metrics for o in same.outcomes]
        assert [o.values for o in one.outcomes] != [o.values for o in other.outcomes]
        inherited = float(space.first.weight[0, 0].detach())
        assert inherited not in [o.values["value"] for o in one.outcomes]

    def test_none_is_made_where_none_is_wanted(self):
        networks = []

        def note(network, _arch):
            networks.append(network)
            return 1.0

        ns.search(Tiny(), note, trials=3, weights="none")
        assert networks == [None] * 3

    def test_randomness_outside_of_the_search_is_left_alone(self):
        space = Tiny()
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        ns.search(space, lambda *_: float(torch.rand(())), trials=3)
        assert torch.equal(torch.rand(3), expected)

    def test_the_space_is_left_as_it_was(self):
        space = Tiny()
        before = {name: tensor.clone() for name, tensor in space.state_dict().items()}

        def spoil(network, arch):
            with torch.no_grad():
                network.first.weight.zero_()
            arch.clear()
            return 1.0

        result = ns.search(space, spoil, trials=3)
        assert all(torch.equal(before[k], v) for k, v in space.state_dict().items())
        assert all(space.contains(arch) for arch in architectures(result))


class TestObjectives:
    def test_symbolic_ones_are_known_without_being_measured(self):
        space = Various()
        asked = []

        def accuracy(network, arch):
            asked.append(arch)
            return worth(network, arch)

        result = ns.search(
            space,
            accuracy,
            objectives=["accuracy", minimize("area", space.width * space.width)],
            trials=10,
        )
        assert len(asked) == 10
        for outcome in result.outcomes:
            assert outcome.values["area"] == outcome.arch["width"] ** 2
            assert outcome.values["accuracy"] == worth(None, outcome.arch)
        assert [d.name for d in result.study.directions] == ["MAXIMIZE", "MINIMIZE"]

    def test_what_else_is_measured_is_kept(self):
        result = ns.search(
            Tiny(), lambda *_: {"loss": 1.0, "speed": 2}, objectives=minimize("loss"), trials=2
        )
        assert result.outcomes[0].values == {"loss": 1.0}
        assert result.outcomes[0].metrics == {"speed": 2.0}

    def test_less_is_better_where_it_is_said_so(self):
        result = ns.search(Tiny(), worth, objectives={"value": "minimize"}, trials=12)
        assert result.values(result.best())["value"] == min(
            o.values["value"] for o in result.outcomes
        )

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            (None, "returned nothing"),
            ("high", "'high'"),
            ({"other": 1.0}, "'value'.* missing"),
            ([1.0, 2.0], "a list"),
        ],
    )
    def test_what_is_no_number_ends_the_search_and_keeps_what_there_is(
        self, returned, message, tmp_path
    ):
        store = tmp_path / "search.db"
        ns.search(Tiny(), worth, trials=3, storage=store)
        calls = []

        def answer(_network, arch):
            calls.append(arch)
            return returned

        with pytest.raises(UsageError, match=message):
            ns.search(
                Tiny(),
                answer,
                trials=9,
                storage=store,
                resume=True,
            )
        assert len(calls) == 1
        kept = ns.search(Tiny(), worth, trials=4, storage=store, resume=True)
        assert [o.state for o in kept.outcomes] == ["complete"] * 3 + ["failed"]

    @pytest.mark.parametrize(
        "objectives", [{"value": "up"}, ["value", "value"], [3], [maximize("x"), minimize("x")]]
    )
    def test_senseless_objectives_are_refused(self, objectives):
        with pytest.raises(UsageError):
            ns.search(Tiny(), worth, objectives=objectives)

    def test_an_objective_of_another_space_is_refused(self):
        wide = ns.Categorical([1, 2], label="widht")
        with pytest.raises(UsageError, match="did you mean 'width'"):
            ns.search(Tiny(), worth, objectives=["value", minimize("size", wide * 2)])


class TestFailures:
    def test_a_failure_is_recorded_and_the_search_goes_on(self):
        result = ns.search(Tiny(), failing, strategy=GridSearch(), trials=12)
        states = {o.arch["depth"]: o.state for o in result.outcomes}
        assert states == {1: "complete", 2: "failed"}
        failed = next(o for o in result.outcomes if o.state == "failed")
        assert "depth 2 does not train" in str(failed.failure)
        assert "in failing" in str(failed.failure)
        assert failed.values == {}
        assert result.best()["depth"] == 1

    def test_nan_is_a_failure(self):
        def nan(_network, arch):
            return float("nan") if arch["depth"] == 2 else 1.0

        result = ns.search(Tiny(), nan, strategy=GridSearch(), trials=12)
        assert {o.state for o in result.outcomes if o.arch["depth"] == 2} == {"failed"}
        assert all("NaN for 'value'" in str(o.failure) for o in result.outcomes if o.failure)

    @pytest.mark.parametrize("error", [MemoryError, torch.cuda.OutOfMemoryError])
    def test_what_does_not_fit_into_memory_is_a_failure_and_its_memory_is_freed(self, error):
        class Large:
            pass

        held = []

        def large(network, arch):
            if arch["depth"] == 2:
                activations = Large()
                held.append(weakref.ref(activations))
                raise error("there is no room for the activations")
            assert all(reference() is None for reference in held)
            return worth(network, arch)

        result = ns.search(Tiny(), large, strategy=GridSearch(), trials=12)
        assert sum(outcome.state == "failed" for outcome in result.outcomes) == len(held) == 8
        assert sum(outcome.state == "complete" for outcome in result.outcomes) == 4
        assert all("no room" in str(o.failure) for o in result.outcomes if o.state == "failed")

    def test_too_many_end_the_search_and_nothing_is_lost(self, tmp_path):
        store = tmp_path / "search.db"
        with pytest.raises(TrialError, match=r"3 trials have failed.*depth 2 does not train"):
            ns.search(Tiny(), failing, strategy=GridSearch(), trials=12, failures=3, storage=store)
        with pytest.raises(TrialError):
            ns.search(
                Tiny(), failing, strategy=GridSearch(), trials=12, failures=2, storage=store,
                resume=True,
            )  # fmt: skip
        result = ns.search(
            Tiny(), failing, strategy=GridSearch(), trials=12, storage=store, resume=True
        )
        assert len(result.outcomes) == 12
        assert sum(o.state == "failed" for o in result.outcomes) == 8

    def test_none_is_best_where_all_have_failed(self):
        def broken(_network, _arch):
            raise ValueError("out of luck")

        with pytest.raises(TrialError, match=r"none of 2 trials is complete.*out of luck"):
            ns.search(Tiny(), broken, trials=2)

    def test_a_strategy_that_fails_ends_the_search(self):
        class Broken(Strategy):
            def propose(self, now):
                raise LookupError("no idea")

        with pytest.raises(LookupError, match="no idea"):
            ns.search(Tiny(), worth, strategy=Broken())

        class Wrong(Strategy):
            def propose(self, now):
                return {"width": 5}

        with pytest.raises(SampleValidationError, match="width"):
            ns.search(Tiny(), worth, strategy=Wrong())

        class Silent(Strategy):
            def propose(self, now):
                now.sample()  # and forgets to return it

        with pytest.raises(UsageError, match=r"Silent is to propose a dict.*proposed None"):
            ns.search(Tiny(), worth, strategy=Silent())

    def test_an_interrupted_trial_is_done_again(self, tmp_path):
        store = tmp_path / "search.db"
        calls = []

        def interrupted(network, arch):
            calls.append(arch)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return worth(network, arch)

        with pytest.raises(KeyboardInterrupt):
            ns.search(Various(), interrupted, trials=8, storage=store)
        resumed = ns.search(Various(), interrupted, trials=8, storage=store, resume=True)
        assert calls[3] == calls[4]
        whole = ns.search(Various(), worth, trials=8)
        assert architectures(resumed) == architectures(whole)
        assert [o.number for o in resumed.outcomes] == list(range(8))

    def test_what_is_interrupted_while_it_is_written_down_is_done_again(
        self, tmp_path, monkeypatch
    ):
        store = tmp_path / "search.db"
        tell = optuna.storages.RDBStorage.set_trial_state_values

        def interrupted(*_arguments, **_named):
            raise KeyboardInterrupt

        monkeypatch.setattr(optuna.storages.RDBStorage, tell.__name__, interrupted)
        with pytest.raises(KeyboardInterrupt):
            ns.search(Various(), worth, trials=8, storage=store)
        monkeypatch.undo()
        resumed = ns.search(Various(), worth, trials=8, storage=store, resume=True)
        assert architectures(resumed) == architectures(ns.search(Various(), worth, trials=8))

    def test_an_exit_is_an_interruption_too(self, tmp_path):
        store = tmp_path / "search.db"

        def leaves(_network, _arch):
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            ns.search(Various(), leaves, trials=8, storage=store)
        resumed = ns.search(Various(), worth, trials=8, storage=store, resume=True)
        assert architectures(resumed) == architectures(ns.search(Various(), worth, trials=8))


class TestEnd:
    def test_proposals_are_mended_and_counted(self):
        result = ns.search(Tiny(), worth, strategy=Stubborn(), trials=20)
        assert len(result.outcomes) == 12
        assert result.repaired == 11
        # What is proposed, then the nearest.
        assert [o.repaired for o in result.outcomes[:3]] == [0, 1, 1]

    def test_time_runs_out(self):
        import time

        def slow(network, arch):
            time.sleep(0.05)
            return worth(network, arch)

        result = ns.search(Various(), slow, trials=1000, timeout=0.3)
        assert 1 <= len(result.outcomes) <= 6

    def test_callbacks_see_each_trial_and_may_end_the_search(self):
        seen = []

        def stop(study, trial):
            seen.append(trial.number)
            if len(seen) == 4:
                study.stop()

        result = ns.search(Various(), worth, trials=10, callbacks=[stop])
        assert seen == [0, 1, 2, 3]
        assert len(result.outcomes) == 4

    def test_an_error_in_a_callback_is_the_callers(self):
        def broken(_study, trial):
            if trial.state.name == "FAIL":
                raise LookupError("not prepared for this")

        with pytest.raises(LookupError, match="not prepared"):
            ns.search(Tiny(), failing, strategy=GridSearch(), trials=12, callbacks=[broken])

    def test_poor_trials_are_stopped_early(self):
        def trained(network, arch):
            for step in range(5):
                report(worth(network, arch) * step, step)
            return worth(network, arch)

        result = ns.search(
            Various(), trained, trials=30, pruner=optuna.pruners.MedianPruner(n_startup_trials=3)
        )
        states = [o.state for o in result.outcomes]
        assert set(states) == {"complete", "pruned"}
        assert result.best() in [o.arch for o in result.complete]

    def test_a_pruner_is_refused_where_optuna_would_not_use_it(self):
        two = {"accuracy": "maximize", "loss": "minimize"}
        with pytest.raises(UsageError, match=r"pruner.*accuracy, loss"):
            ns.search(Tiny(), worth, objectives=two, pruner=optuna.pruners.MedianPruner())

    def test_reports_do_nothing_outside_of_a_search_and_with_several_objectives(self):
        report(1.0, 0)

        def trained(_network, _arch):
            report(1.0, 0)
            return {"a": 1.0, "b": 2.0}

        result = ns.search(Tiny(), trained, objectives=["a", "b"], trials=3)
        assert len(result.complete) == 3

    def test_optuna_is_as_talkative_as_before(self, capsys):
        level = optuna.logging.get_verbosity()
        ns.search(Tiny(), failing, trials=6)
        assert optuna.logging.get_verbosity() == level
        assert capsys.readouterr().err == ""


class TestStudies:
    @pytest.mark.parametrize("name", ["search.db", "search.journal"])
    def test_an_architecture_is_an_attribute_of_its_trial(self, name, tmp_path):
        store = tmp_path / name
        result = ns.search(Various(), worth, trials=5, storage=store, name="mine")
        address = f"sqlite:///{store}" if name.endswith("db") else None
        if address is None:
            backend = optuna.storages.journal.JournalFileBackend(str(store))
            study = optuna.load_study(
                study_name="mine", storage=optuna.storages.JournalStorage(backend)
            )
        else:
            study = optuna.load_study(study_name="mine", storage=address)
        assert [t.user_attrs["architecture"] for t in study.trials] == architectures(result)
        assert study.user_attrs["search"]["fingerprint"] == ns.study.fingerprint(Various())
        assert study.best_trial.user_attrs["architecture"] == result.best()

    def test_an_existing_study_is_gone_on_with_only_on_demand(self, tmp_path):
        store = tmp_path / "search.db"
        ns.search(Tiny(), worth, trials=3, storage=store)
        with pytest.raises(UsageError, match="resume=True"):
            ns.search(Tiny(), worth, trials=6, storage=store)
        assert len(ns.search(Tiny(), worth, trials=6, storage=store, resume=True).outcomes) == 6
        assert len(ns.search(Tiny(), worth, trials=2, storage=store, name="two").outcomes) == 2

    def test_another_space_is_refused_and_the_difference_named(self, tmp_path):
        store = tmp_path / "search.db"
        ns.search(Tiny(), worth, trials=3, storage=store)
        with pytest.raises(StorageError, match="factor is 1 there, 2 here"):
            ns.search(Tiny(2), worth, trials=6, storage=store, resume=True)
        with pytest.raises(StorageError, match="'Tiny' there, 'Various' here"):
            ns.search(Various(), worth, trials=6, storage=store, resume=True)
        narrow = Tiny()
        narrow.require(narrow.width == 4)
        with pytest.raises(StorageError, match="conditions"):
            ns.search(narrow, worth, trials=6, storage=store, resume=True)

    def test_other_objectives_are_refused(self, tmp_path):
        store = tmp_path / "search.db"
        ns.search(Tiny(), worth, trials=3, storage=store)
        for objectives in (minimize("value"), "accuracy", ["value", "other"]):
            with pytest.raises(StorageError, match="objectives"):
                ns.search(
                    Tiny(), worth, objectives=objectives, trials=6, storage=store, resume=True
                )

    def test_somebody_elses_study_is_refused(self, tmp_path):
        address = f"sqlite:///{tmp_path}/search.db"
        study = optuna.create_study(storage=address, study_name="search", direction="maximize")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        with pytest.raises(StorageError, match="something else"):
            ns.search(Tiny(), worth, storage=address, resume=True)
        assert len(study.trials) == 2

    @pytest.mark.parametrize(
        ("address", "error", "message"),
        [
            ("/nowhere/at/all/search.db", StorageError, "no folder"),
            ("search.txt", UsageError, "ends in .db"),
            ("postgresql://localhost:1/none", StorageError, "check that"),
            ("nosuchthing://x", StorageError, "check that"),
        ],
    )
    def test_a_storage_that_cannot_be_reached(self, address, error, message):
        with pytest.raises(error, match=message):
            ns.search(Tiny(), worth, storage=address)

    def test_a_file_that_is_no_database(self, tmp_path):
        file = tmp_path / "search.db"
        file.write_bytes(b"this is not a database, whatever its name says" * 100)
        with pytest.raises(StorageError, match="not a database"):
            ns.search(Tiny(), worth, storage=file)

    def test_a_storage_of_optuna_is_taken_as_it_is(self):
        storage = optuna.storages.InMemoryStorage()
        ns.search(Tiny(), worth, trials=3, storage=storage)
        assert len(ns.search(Tiny(), worth, trials=5, storage=storage, resume=True).outcomes) == 5

    def test_values_that_cannot_be_stored_are_refused_before_anything_is_tried(self, tmp_path):
        class Odd(ns.ModelSpace):
            def __init__(self):
                super().__init__()
                self.kind = ns.Categorical([int, float], label="kind")

        with pytest.raises(UsageError, match=r"'kind'.*cannot be stored"):
            ns.search(Odd(), worth, storage=tmp_path / "search.db")
        assert len(ns.search(Odd(), lambda *_: 1.0, trials=5, weights="none").outcomes) == 2


@pytest.mark.parametrize(
    "arguments",
    [{"trials": 0}, {"workers": 0}, {"weights": "old"}, {"failures": 0}, {"timeout": -1.0}],
)
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        ns.search(Tiny(), worth, **arguments)


def test_what_is_no_function_is_refused():
    with pytest.raises(UsageError, match="evaluate"):
        ns.search(Tiny(), "accuracy")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="strategy"):
        ns.search(Tiny(), worth, strategy=Random)  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="did you mean 'random'"):
        ns.search(Tiny(), worth, strategy="randon")


def test_model_averaging_is_the_default():
    by_default = ns.search(Various(), worth, trials=12)
    by_name = ns.search(Various(), worth, trials=12, strategy=ModelAveraging())
    at_random = ns.search(Various(), worth, trials=12, strategy=Random())
    assert architectures(by_default) == architectures(by_name) != architectures(at_random)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "\x1b[31m"])
def test_what_is_measured_has_a_name_that_can_be_read(name):
    with pytest.raises(UsageError, match="names that can be read"):
        ns.search(Various(), lambda _network, _arch: {"value": 1.0, name: 2.0}, trials=2)

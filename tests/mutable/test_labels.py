"""Labels are numbered by scopes, the same in every run, each thread for itself."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest

from nas_space.errors import LabelError
from nas_space.mutable import Categorical, auto_label, label, label_scope
from nas_space.mutable.labels import strict_label_scope


def test_scopes_give_prefixes_and_numbers() -> None:
    with label_scope("model"):
        assert auto_label() == "model/1"
        assert auto_label() == "model/2"
        assert auto_label("foo") == "model/foo"
        with label_scope():
            assert auto_label() == "model/3/1"
            assert auto_label() == "model/3/2"
        with label_scope("another"):
            assert auto_label() == "model/another/1"
        with label_scope("model"):
            assert auto_label() == "model/model/1"
        assert auto_label() == "model/4"
    with label_scope("model"):
        assert auto_label() == "model/1"  # entering begins to count anew


def test_outside_of_scopes_names_stand_alone_and_numbers_are_global() -> None:
    assert auto_label("bar") == "bar"
    first, second = auto_label(), auto_label()
    assert first.startswith("global/")
    assert int(second.removeprefix("global/")) == int(first.removeprefix("global/")) + 1


def test_a_label_is_not_prefixed_again() -> None:
    with label_scope("foo"):
        made = auto_label("bar")
        assert auto_label(made) is made
        assert Categorical([1, 2], label=made).label == "foo/bar"
        assert auto_label(label(["x", "y"])) == "x/y"
        assert Categorical([1, 2], label="bar").label is not None
    assert made == "foo/bar"
    assert made.parts == ("foo", "bar")


def test_a_label_can_be_a_scope_and_a_scope_can_be_entered_again() -> None:
    with label_scope("foo") as scope:
        assert label_scope.current() is scope
    assert label_scope.current() is None
    assert scope.name == "foo"
    with label_scope("other"), scope:
        assert auto_label() == "foo/1"
    with label(["x", "y"]).as_scope(), label_scope("z"):
        assert auto_label("w") == "x/y/z/w"
    with label_scope(scope) as again:
        assert again.name == "foo"
        assert again == scope
    assert auto_label("late", scope) == "foo/late"
    assert auto_label(None, scope) == "foo/2"


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "must not be empty"), ("a/b", r"'/'.*'a/b'.*label_scope"), (3, "is a string, but got 3")],
)
def test_names_that_are_no_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        auto_label(name)
    with pytest.raises(LabelError, match=message):
        label_scope(name)
    with pytest.raises(LabelError, match=message):
        Categorical([1], label=name)


def test_a_scope_has_no_name_before_it_is_entered() -> None:
    with pytest.raises(LabelError, match="'foo' has no full name before it is entered"):
        _ = label_scope("foo").name
    with pytest.raises(LabelError, match="must be entered"):
        auto_label("x", label_scope("foo"))


def test_a_strict_scope_wants_every_label_given() -> None:
    with strict_label_scope("Net"):
        assert auto_label("depth") == "depth"
        with label_scope("stage"):
            assert auto_label() == "stage/1"
        with pytest.raises(LabelError, match=r"Net has a choice without a label.*label_prefix"):
            Categorical([1, 2])


def test_a_scope_is_left_when_its_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), label_scope("foo"):
        _ = 1 // 0
    assert label_scope.current() is None


def test_labels_pickle_with_their_parts() -> None:
    made = label(["a", "b"])
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.parts == made.parts
    assert isinstance(again, label)


def test_threads_count_for_themselves() -> None:
    found: dict[int, list[str]] = {}
    start = threading.Barrier(6)
    shared = label_scope("shared")

    def build(number: int) -> None:
        start.wait()
        names = []
        for _ in range(100):
            with label_scope(f"t{number}"):
                names += [str(auto_label()), str(auto_label())]
                with shared:
                    names.append(str(auto_label("x")))
                assert label_scope.current() is not None
        found[number] = names

    with shared:
        pass
    threads = [threading.Thread(target=build, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [f"t{n}/1", f"t{n}/2", "shared/x"] * 100 for n in range(6)}
    assert label_scope.current() is None


def test_global_numbers_are_given_once_to_all_threads() -> None:
    found: list[str] = []

    def build() -> None:
        found.extend([str(auto_label()) for _ in range(500)])

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 2000


def test_tasks_count_for_themselves() -> None:
    async def build(name: str) -> list[str]:
        with label_scope(name):
            names = []
            for _ in range(3):
                await asyncio.sleep(0)
                names.append(str(auto_label()))
        return names

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(build("one"), build("two")))

    assert asyncio.run(both()) == [["one/1", "one/2", "one/3"], ["two/1", "two/2", "two/3"]]


def test_the_name_of_a_scope_is_a_label_which_no_other_scope_changes() -> None:
    with label_scope("outer") as scope:
        pass
    with label_scope("inner"):
        assert auto_label(scope.name) == "outer"

"""Contexts in which choices are made already."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from nas_space.errors import SampleMissingError, SampleValidationError, SpaceError
from nas_space.mutable import (
    Categorical,
    ExpressionConstraint,
    MutableList,
    ensure_frozen,
    frozen_context,
    frozen_factory,
)
from nas_space.mutable.context_stack import Entered
from nas_space.mutable.frozen_contexts import dry_run

a = Categorical([1, 2, 3], label="a")
b = Categorical([4, 5], label="b")


def test_what_is_chosen_comes_from_the_argument_or_the_contexts_around() -> None:
    assert ensure_frozen("anything") == "anything"
    assert ensure_frozen(a + b, sample={"a": 2, "b": 4}) == 6
    with frozen_context({"a": 2}), frozen_context({"b": 5}):
        assert ensure_frozen(a + b) == 7
        with frozen_context({"a": 3}):
            assert ensure_frozen(a + b) == 8
            assert frozen_context.current() == {"a": 3, "b": 5}
        assert ensure_frozen(a + b) == 7
        assert ensure_frozen(a, sample={"a": 1}) == 1
    assert frozen_context.current() is None


def test_without_a_choice_it_is_an_error_or_the_default() -> None:
    with pytest.raises(SpaceError, match=r"which value a \+ 1 has here.*strict=False"):
        ensure_frozen(a + 1)
    assert ensure_frozen(a + 1, strict=False) == 2
    with frozen_context({"b": 4}), pytest.raises(SampleMissingError, match="'a'"):
        ensure_frozen(a)
    with frozen_context({"a": 9}), pytest.raises(SampleValidationError, match=r"9 .* 'a'"):
        ensure_frozen(a)
    impossible = MutableList([a, ExpressionConstraint(a > 1)])
    assert ensure_frozen(impossible, strict=False)[0] > 1


def test_a_context_can_be_added_to_and_set_aside() -> None:
    with frozen_context({"a": 1}):
        with frozen_context():
            frozen_context.update({"a": 2, "b": 4})
            assert frozen_context.current() == {"a": 2, "b": 4}
            with frozen_context.bypass():
                assert frozen_context.current() == {"a": 1}
        assert frozen_context.current() == {"a": 1}
        with frozen_context.bypass():
            assert frozen_context.current() is None
        assert frozen_context.current() == {"a": 1}
    with pytest.raises(SpaceError, match="no frozen_context"):
        frozen_context.update({"a": 1})
    with frozen_context.bypass():
        assert frozen_context.current() is None


def test_the_sample_that_was_given_is_not_changed() -> None:
    mine = {"a": 1}
    with frozen_context(mine):
        frozen_context.update({"b": 4})
    assert mine == {"a": 1}


def test_while_building_defaults_are_taken_once_for_all() -> None:
    with dry_run():
        assert ensure_frozen(a) == 1
        assert ensure_frozen(a * b) == 4
        assert frozen_context.current() == {"a": 1, "b": 4}
    with pytest.raises(SpaceError):
        ensure_frozen(a)


def test_a_context_is_left_when_its_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), frozen_context({"a": 1}):
        _ = 1 // 0
    with pytest.raises(ZeroDivisionError), frozen_context({"a": 1}), frozen_context.bypass():
        _ = 1 // 0
    with pytest.raises(ZeroDivisionError), dry_run():
        _ = 1 // 0
    assert frozen_context.current() is None


def test_a_factory_calls_inside_of_a_context() -> None:
    def build(extra: int, *, factor: int = 1) -> int:
        made: int = ensure_frozen(a) * factor + extra
        frozen_context.update({"a": 1})  # of this call only
        return made

    factory = frozen_factory(build, {"a": 2})
    assert factory(10) == 12
    assert factory(10, factor=3) == 16
    assert "{'a': 2}" in repr(factory)
    assert frozen_factory(build, frozen_context({"a": 3}))(0) == 3


def test_threads_have_contexts_of_their_own() -> None:
    wrong: list[Any] = []
    factories = [
        frozen_factory(lambda: ensure_frozen(a * 10 + b), {"a": n, "b": 4}) for n in (1, 2, 3)
    ]
    shared = frozen_context({"a": 3, "b": 5})
    start = threading.Barrier(6)

    def build(number: int) -> None:
        start.wait()
        for _ in range(200):
            if factories[number % 3]() != (number % 3 + 1) * 10 + 4:
                wrong.append(number)
            with shared:
                if ensure_frozen(a * 10 + b) != 35:
                    wrong.append("shared")
            if frozen_context.current() is not None:
                wrong.append("left over")

    threads = [threading.Thread(target=build, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_task_keeps_what_was_entered_where_it_was_made() -> None:
    async def main() -> tuple[list[str], list[str]]:
        entered: Entered[str] = Entered("kept")
        entry, left = entered.enter("a"), asyncio.Event()

        async def later() -> list[str]:
            await left.wait()
            return list(entered)

        task = asyncio.create_task(later())
        entered.leave(entry)
        left.set()
        return list(entered), await task

    assert asyncio.run(main()) == ([], ["a"])


def test_what_is_left_in_another_context_of_its_thread_is_left_in_its_own() -> None:
    entered: Entered[str] = Entered("elsewhere")
    context = contextvars.copy_context()
    entry = context.run(entered.enter, "a")
    assert context.run(list, entered) == ["a"]
    entered.leave(entry)
    assert context.run(list, entered) == []

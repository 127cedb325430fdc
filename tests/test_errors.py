"""The tree of exceptions: what each class also is, what it carries, how it reads."""

from __future__ import annotations

import inspect
import pickle

import pytest

from nas_space import errors
from nas_space.errors import (
    ConstraintViolation,
    DataError,
    DecompositionError,
    DomainError,
    ExpressionError,
    InfeasibleError,
    LabelError,
    NasSpaceError,
    SampleMissingError,
    SampleValidationError,
    SpaceError,
    UsageError,
    suggest,
)

EVERY_CLASS = [value for name in errors.__all__ if inspect.isclass(value := getattr(errors, name))]


def test_all_lists_every_exception_of_the_module() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert {cls.__name__ for cls in EVERY_CLASS} == defined


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_one_root_catches_every_class(cls: type[Exception]) -> None:
    with pytest.raises(NasSpaceError, match="what happened"):
        raise cls("what happened")


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (SampleValidationError, ValueError),
        (LabelError, ValueError),
        (DomainError, ValueError),
        (InfeasibleError, ValueError),
        (DataError, ValueError),
        (UsageError, ValueError),
        (ExpressionError, TypeError),
        (SpaceError, RuntimeError),
    ],
)
def test_code_that_knows_only_builtins_catches_it(
    cls: type[Exception], builtin: type[Exception]
) -> None:
    with pytest.raises(builtin):
        raise cls("what happened")


@pytest.mark.parametrize("cls", [SampleMissingError, ConstraintViolation])
def test_both_are_invalid_samples(cls: type[Exception]) -> None:
    assert issubclass(cls, SampleValidationError)


def test_a_path_grows_from_the_front_and_is_printed_after_the_message() -> None:
    error = SampleValidationError("bad value", ["conv"])
    error.paths.insert(0, "body")
    assert error.msg == "bad value"
    assert str(error) == "bad value (path: body -> conv)"


def test_without_a_path_only_the_message_is_printed() -> None:
    assert str(SampleValidationError("bad value")) == "bad value"


def test_the_list_of_the_caller_is_not_shared() -> None:
    paths = ["conv"]
    error = SampleValidationError("bad value", paths)
    error.paths.insert(0, "body")
    assert paths == ["conv"]


def test_a_missing_label_is_named_with_those_that_are_there() -> None:
    error = SampleMissingError("width", keys=["depth"], paths=["stem"])
    assert str(error) == "label 'width' is missing; there are only 'depth' (path: stem)"


def test_a_missing_label_may_come_as_a_whole_message() -> None:
    assert str(SampleMissingError("neither branch fits")) == "neither branch fits"


@pytest.mark.parametrize(
    "error",
    [
        SampleValidationError("bad value", ["body", "conv"]),
        SampleMissingError("width", keys=["depth"], paths=["stem"]),
        InfeasibleError("nothing fits", smallest=12.5),
        DecompositionError("too many labels", term=("a", "b")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_pickling_keeps_message_and_attributes(error: NasSpaceError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert vars(error)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s2_dept", " (did you mean 's2_depth'?)"),
        ("S2_DEPTH", " (did you mean 's2_depth'?)"),
        ("s2_depth ", " (did you mean 's2_depth'?)"),
        ("banana", ""),
        ("", ""),
    ],
)
def test_suggest(name: str, expected: str) -> None:
    assert suggest(name, {"s2_depth", "s3_i0"}) == expected


def test_suggest_has_nothing_to_suggest_from_nothing() -> None:
    assert suggest("width", []) == ""

"""How expressions print: as the Python that would compute them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .node import Node
from .operators import ATOM, COMPARISON, Operator

__all__ = ["abbreviation", "brief", "show"]

_LONGEST = 2000
"""Sub-expressions that print longer than this are abbreviated, to their title if they have one."""

_ARRAYS = "FactorSum("
"""What stands in a text for arrays that are too long to print; a title says more."""

_UNARY = 13
"""The precedence of a minus sign, which negative constants carry."""


def show(node: Node, operator: Operator, texts: Mapping[Node, tuple[str, int]]) -> str:
    """Return the text of a node, given the texts of its children and their precedences."""
    shown = [_shown(argument, texts) for argument in node.arguments]
    if not isinstance(operator.template, str):
        return operator.template(node.arguments, [text for text, _ in shown])
    if not operator.template:
        return f"{operator.name}({', '.join([text for text, _ in shown])})"
    parts = [
        text if precedence >= _tightness(operator, place) else f"({text})"
        for place, (text, precedence) in enumerate(shown)
    ]
    return operator.template.format(*parts)


def abbreviation(node: Node, text: str) -> str | None:
    """Return what a node prints as instead of a text of it, if that is long or says too little.

    Parameters
    ----------
    node
        The node; it may have a title.
    text
        How it would print; empty if nobody would read that.
    """
    title: str | None = node.__dict__.get("_title")
    if not text or len(text) > _LONGEST or (title and _ARRAYS in text):
        return title or ("..." if text else repr(node.arguments[0]))
    return None


def brief(node: Any) -> str:
    """Return how an expression prints, or how it begins and ends, if it is long."""
    text = str(node)
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]}"


def _tightness(operator: Operator, place: int) -> int:
    """Return the least precedence with which an operand needs no parentheses."""
    if operator.precedence == ATOM:
        return ATOM if place == 0 else 0  # x[...]: what is in the brackets stands alone
    if operator.precedence == COMPARISON:
        return COMPARISON + 1  # a < b < c means something else
    right_associative = operator.name == "pow"
    return operator.precedence + ((place == 0) if right_associative else (place > 0))


def _shown(argument: Any, texts: Mapping[Node, tuple[str, int]]) -> tuple[str, int]:
    if isinstance(argument, Node):
        return texts[argument]
    text = repr(argument)
    return text, _UNARY if text.startswith("-") else ATOM

"""What a report tells of a search that trains shared weights: its find, the policy over time."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from ..runs.costs import title_of
from . import html
from .architecture import blocks_of
from .pictures import policy_pictures

if TYPE_CHECKING:
    from ..runs import StoredRun

__all__ = ["oneshot_parts"]


def oneshot_parts(run: StoredRun, space: Any) -> Iterator[str]:
    """Yield the parts of the page.

    Parameters
    ----------
    run
        Of a one-shot strategy.
    space
        What it searches.
    """
    symbols = space.symbols()
    values = {
        label: [symbols[label].value(code) for code in range(len(over_time[-1][1]))]
        for label, over_time in run.policy.items()
    }
    if run.conclusion:
        yield from _winner(run, space, values)
    else:
        yield "<p>The search has not come to its end.</p>"
    drawn = list(policy_pictures(run.policy, values))
    if drawn:
        yield "<h2>The policy over time</h2>"
    for figure in drawn:
        yield html.figure(figure, "The probability of each value of each label, step by step.")


def _winner(run: StoredRun, space: Any, values: dict[str, list[Any]]) -> Iterator[str]:
    """What was found, and what the policy thought of each of its choices in the end."""
    facts = run.conclusion
    costs = facts.get("costs", {name: facts[name] for name in ("macs", "params")})
    arch = space.canonical(facts["arch"])
    yield "<h2>The winner</h2>"
    words = (
        f"With the weights of the search it reached {facts['inherited']:.1%} on the validation "
        f"split; trained further, {facts['validation']:.1%} there and {facts['test']:.1%} on the "
        "test split. It costs: "
        + ", ".join(f"{title_of(name)} {html.number(v)}" for name, v in costs.items())
        + "."
    )
    yield f"<p>{escape(words)}</p>"
    yield blocks_of(space, arch, tuple(run.settings["input_shape"]))
    rows = []
    for label, value in arch.items():
        if label not in values:
            rows.append([label, str(value), "", ""])
            continue
        last = run.policy[label][-1][1]
        likeliest = max(range(len(last)), key=lambda code: last[code])
        mine = last[space.symbols()[label].code(value)]
        other = "" if last[likeliest] <= mine else f"{values[label][likeliest]}"
        rows.append([label, str(value), f"{mine:.2f}", other])
    yield (
        "<p>For each of its choices: the probability that the policy gave it in the end, and what "
        "it preferred, if that was another value.</p>"
    )
    yield html.table(["label", "value", "probability", "preferred"], rows, numbers=slice(2, 3))

"""What spaces, architectures and results show of themselves in a notebook, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from .numbers import counted, labelled, percent, readable

__all__ = ["html_of"]

_ROWS = 10
"""So many rows of a long table are shown; how many are left out is said."""

_HEAD = "text-align:left;border-bottom:1px solid #8888"
_CELL = "text-align:left;vertical-align:top"


def html_of(thing: Any) -> str:
    """Return HTML about a thing of this library; ``_repr_html_`` of its class calls it.

    Parameters
    ----------
    thing
        A space, a restriction, a choice, a batch of architectures, an explanation, a result of a
        search, or a table of latencies.

    Examples
    --------
    >>> import nas_space as ns
    >>> "<td" in ns.Categorical([16, 32], label="width")._repr_html_()
    True
    """
    for kind in type(thing).__mro__:
        if kind.__name__ in _KINDS:
            return _KINDS[kind.__name__](thing)
    return f"<pre>{escape(repr(thing))}</pre>"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], more: int = 0) -> str:
    heads = "".join(f'<th style="{_HEAD}">{escape(name)}</th>' for name in head)
    lines = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(str(c))}</td>' for c in row) + "</tr>"
        for row in rows
    )
    left = f"<p>and {more:,} more</p>" if more > 0 else ""
    return (
        f"<div><b>{escape(title)}</b><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table>{left}</div>"
    )


def _values(symbol: Any) -> str:
    allowed = getattr(symbol, "values", None)
    if allowed is None:
        return str(symbol.extra_repr())
    return " · ".join(map(str, allowed))


def _choice(symbol: Any) -> str:
    rows = [(symbol.name, type(symbol).__name__, _values(symbol))]
    return _table(type(symbol).__name__, ("label", "kind", "values"), rows)


def _counted(space: Any) -> str:
    from ..errors import NasSpaceError

    try:
        return f"{counted(space.count())} architectures"
    except NasSpaceError:
        return "more architectures than can be counted"


def _space(space: Any) -> str:
    symbols = space.symbols()
    rows = [(name, type(symbol).__name__, _values(symbol)) for name, symbol in symbols.items()]
    title = f"{type(space).__name__}: {_counted(space)}, {len(symbols)} labels"
    return _table(title, ("label", "kind", "values"), rows)


def _restricted(space: Any) -> str:
    whole, conditions = space.space, [getattr(c, "expression", c) for c in space.conditions]
    rows = [(_short(str(condition)),) for condition in conditions]
    title = f"{type(whole).__name__} within conditions: {_counted(space)} of {_counted(whole)}"
    return _table(title, ("condition",), rows)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


def _batch(batch: Any) -> str:
    shown = [batch[place] for place in range(min(_ROWS, len(batch)))]
    labels = list(dict.fromkeys(label for arch in shown for label in arch))
    rows = [(place, *(arch.get(label, "") for label in labels)) for place, arch in enumerate(shown)]
    title = f"{len(batch):,} architectures"
    return _table(title, ("", *labels), rows, len(batch) - len(shown))


def _explanation(told: Any) -> str:
    rows = list(told.rows())
    head = ("module", "class", "decided by", "shapes", "MACs", "parameters")
    left = f"<p>not used: {escape(', '.join(told.inactive))}</p>" if told.inactive else ""
    return _table(f"{told.space} {told.arch_id}", head, rows) + left


def _result(result: Any) -> str:
    outcomes = result.front() if len(result.objectives) > 1 else result.ranked()
    names = [objective.name for objective in result.objectives]
    rows = [
        (o.number, *(readable(o.values[name]) for name in names), labelled(o.arch))
        for o in outcomes[:_ROWS]
    ]
    found = f"{len(result.complete):,} of {len(result.outcomes):,} trials complete"
    more = len(outcomes) - len(rows)
    return _table(found, ("trial", *names, "architecture"), rows, more)


def _one_shot(result: Any) -> str:
    best = result.best()
    over_time = result.probabilities()
    symbols = result.space.symbols()
    rows = []
    for label, value in best.items():
        last = over_time[label][-1][1] if over_time.get(label) else None
        share = "" if last is None else percent(last[symbols[label].code(value)])
        rows.append((label, value, share))
    return _table(repr(result), ("label", "best", "probability"), rows)


def _latency(table: Any) -> str:
    times = sorted(table.milliseconds.items(), key=lambda item: -item[1])
    rows = [(key, f"{time:.4g}") for key, time in times[:_ROWS]]
    about = ", ".join(f"{name} {value}" for name, value in table.about.items())
    title = f"{len(times)} blocks{': ' + about if about else ''}"
    return _table(title, ("block, the slowest first", "ms"), rows, len(times) - len(rows))


_KINDS = {
    "Explanation": _explanation,
    "LatencyTable": _latency,
    "ModelSpace": _space,
    "MutableSymbol": _choice,
    "OneShotResult": _one_shot,
    "Restricted": _restricted,
    "SampleBatch": _batch,
    "SearchResult": _result,
}
"""By the names of classes: all of them stand below, and none needs to be loaded for the others."""

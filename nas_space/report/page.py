"""One HTML file about a search, interactive; made of what the run wrote, without torch."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import replacing
from ..mutable.node import key_of
from ..runs.costs import title_of
from .frequencies import importances, series_of, usage
from .numbers import percent, readable, settings_in_words

if TYPE_CHECKING:
    from ..runs import StoredRun
    from ..runs.contents import Conclusion
    from ..study import Outcome, SearchResult

__all__ = ["write_report"]

_SETTINGS = (
    "arguments", "options", "data", "budgets", "epochs", "steps", "pruner", "seed", "fingerprint",
)  # fmt: skip
"""What is told of a run's settings, as far as it has them."""

_ENOUGH = 10
"""Of fewer trials nothing can be said about time, and nobody can say what matters."""


def write_report(run: StoredRun, file: Path | str) -> None:
    """Write what a run has found so far into one HTML file that needs no other.

    Parameters
    ----------
    run
        As :func:`~nas_space.runs.open_run` gives it.
    file
        What to write; whole at every moment.

    Raises
    ------
    StorageError
        If the trials are out of reach.
    UsageError
        If the run compresses a network, whose report is of another kind; nothing is written.
    """
    if run.compressed is not None:
        raise UsageError(
            f"{run.place} compresses a network: its report is written when it ends; "
            f"nas-space resume {run.place} writes it again"
        )
    title = f"Search of {run.space_name.rpartition(':')[2]}"
    if "data" in run.settings:
        title += f" on {Path(str(run.settings['data'])).name}"
    labels = _Labels(run)
    body = [f"<h1>{escape(title)}</h1>", _facts(run)]
    data: dict[str, Any] = {
        "columns": [], "labels": labels.described, "trials": [], "winner": None,
        "rest": labels.rest, "policy": [], "drift": [],
    }  # fmt: skip
    result = run.result
    if run.steps is not None:
        body += _one_shot(run, labels, data)
    if result is not None and result.outcomes:
        body += _search(run, result, labels, data)
    elif run.steps is None:
        body.append("<p>No trial has ended yet.</p>")
    if run.exports:
        rows = "".join(
            f"<li>{escape(name)}: {escape(found)}</li>" for name, found in run.exports.items()
        )
        body.append(f"<h2>Written for runtimes</h2><ul id='exports'>{rows}</ul>")
    text = _PAGE.format(
        title=escape(title), style=_asset("report.css"), body="\n".join(body),
        script=_asset("report.js"), data=_embedded(data),
    )  # fmt: skip
    path = Path(file)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
<div id="tip" hidden></div>
<noscript><p>The charts and the table of this page are drawn by a script in it, which this browser
does not run.</p></noscript>
<script type="application/json" id="data">{data}</script>
<script>
{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _embedded(data: Any) -> str:
    """Return data as JSON that cannot end the element it stands in.

    Labels, values and messages of failures come from whoever wrote the storage, and a report is
    opened in a browser: ``</script>`` in one of them would end the data and begin a program. In
    JSON a ``<`` can only stand within a string, where an escape is the same character. The other
    two end a line for JavaScript, but not for JSON. The page's script puts what it reads into text
    nodes, never into markup.
    """
    text = json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finite(value: Any) -> Any:
    """Return data without numbers that JSON does not know."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


# -- labels --------------------------------------------------------------------------------------


class _Labels:
    """The labels of a run in the order of its network, with the values that each may have."""

    def __init__(self, run: StoredRun) -> None:
        known = run.described.get("labels", {})
        drawn = run.decisions
        self.rest = next((row.get("share") for row in drawn if not row["label"]), None)
        rows = {row["label"]: row for row in drawn if row["label"] in known}
        self.names = [*rows, *(name for name in known if name not in rows)]
        self.values: list[dict[str, int]] = []
        self.described: list[dict[str, Any]] = []
        for name in self.names:
            listed = [_word(value) for value in known[name].get("values", ())]
            self.values.append({word: code for code, word in enumerate(listed)})
            row: Mapping[str, Any] = rows.get(name, {})
            shown = {key: row[key] for key in ("group", "share", "shape") if row.get(key)}
            several = known[name].get("kind") == "CategoricalMultiple"
            self.described.append({"name": name, "values": listed, "several": several, **shown})

    def codes(self, arch: Mapping[str, Any]) -> list[int | None]:
        """Return the place of each value of an architecture; a value that is new gets one."""
        return [
            self._code(place, arch[name]) if name in arch else None
            for place, name in enumerate(self.names)
        ]

    def _code(self, place: int, value: Any) -> int:
        word, known = _word(value), self.values[place]
        if word not in known:  # of a range, or several values together
            known[word] = len(known)
            self.described[place]["values"].append(word)
        return known[word]


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return json.dumps(value)
    return readable(value) if isinstance(value, float) else str(value)


# -- what is told --------------------------------------------------------------------------------


def _facts(run: StoredRun) -> str:
    facts: dict[str, Any] = {"run": run.name, "state": run.state, "strategy": run.strategy}
    for name in _SETTINGS:
        if run.settings.get(name) not in (None, {}, []):
            value = run.settings[name]
            told = str(value) if name in ("data", "seed") else settings_in_words(value)
            facts[name.replace("_", " ")] = told
    facts |= run.facts
    if run.result is not None and run.result.repaired:
        facts["proposals repaired"] = f"{run.result.repaired:,}"
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>'


def _chosen(result: SearchResult, conclusion: Conclusion | None) -> Outcome:
    """The trial that a run ended with; before its end the best."""
    ranked = result.ranked()
    if not conclusion:
        return ranked[0]
    found = key_of(conclusion["arch"], loose=True)
    chosen = [outcome for outcome in ranked if key_of(outcome.arch, loose=True) == found]
    return (chosen or ranked)[0]


def _search(
    run: StoredRun, result: SearchResult, labels: _Labels, data: dict[str, Any]
) -> Iterator[str]:
    """Fill in the trials, and yield the parts of the page about them."""
    # Codes come first: a value that the description of the labels does not list (of a range, or of
    # several together) is added to it here, and the page and all tables below read that list.
    columns = _columns(run, result)
    data["columns"] = [column for column, _ in columns]
    codes = [labels.codes(outcome.arch) for outcome in result.outcomes]
    data["trials"] = [
        {
            "number": outcome.number,
            "state": outcome.state,
            "values": [_measured(outcome, name) for _, name in columns],
            "codes": row,
            **({"failure": outcome.failure} if outcome.failure else {}),
        }
        for outcome, row in zip(result.outcomes, codes, strict=True)
    ]
    ranked = result.ranked() if result.complete else []
    if ranked:
        winner = _chosen(result, run.conclusion)
        data["winner"] = winner.number
        yield f"<p id='words'>{escape(_words(result, run.conclusion, winner, ranked))}</p>"
    else:
        yield "<p>No trial is complete yet.</p>"
    yield _CHARTS
    place = {outcome.number: at for at, outcome in enumerate(result.outcomes)}
    rows = [codes[place[outcome.number]] for outcome in ranked]
    if len(ranked) >= _ENOUGH:
        yield from _importance(result, labels, rows, ranked)
        yield from _heat(labels, rows)
    if len(result.outcomes) >= _ENOUGH:
        numbers = [outcome.number for outcome in result.outcomes]
        data["drift"] = series_of(labels.described, numbers, codes)
        if data["drift"]:
            yield (
                "<h2>What was proposed over time</h2><p class='note'>For each label the shares of "
                "its values in parts of the trials.</p><div id='drift' class='small'></div>"
            )
    yield _TABLE


def _columns(run: StoredRun, result: SearchResult) -> list[tuple[dict[str, Any], str]]:
    """Return what is measured of trials: how it is shown, and its name."""
    signs = {objective.name: objective.sign for objective in result.objectives}
    metrics = dict.fromkeys(name for outcome in result.outcomes for name in outcome.metrics)
    names = [*signs, *(name for name in metrics if name not in signs)]
    known = next(iter(run.settings.get("budgets", {})), None)
    columns: list[tuple[dict[str, Any], str]] = [({"name": "trial", "title": "trial"}, "#")]
    for name in names:
        column: dict[str, Any] = {"name": name, "title": name, "sign": signs.get(name, 0)}
        column["main"] = name == result.objectives[0].name
        columns.append((column, name))
    several = len(result.objectives) > 1
    if several:
        columns[2][0]["cost"] = True
    if known not in names and any(o.cost is not None for o in result.outcomes):
        title = title_of(known) if known else "parameters" if run.settings else "cost"
        shown = {"name": known or title, "title": title, "sign": -1, "cost": not several}
        columns.append((shown, "$cost"))
    columns.append(({"name": "seconds", "title": "seconds", "sign": -1}, "$seconds"))
    return columns


def _measured(outcome: Outcome, name: str) -> float | None:
    if name == "#":
        return outcome.number
    if name == "$cost":
        return outcome.cost
    if name == "$seconds":
        return round(outcome.seconds, 4)
    value = outcome.values.get(name, outcome.metrics.get(name))
    return None if value is None else float(f"{value:.9g}")


def _words(
    result: SearchResult, conclusion: Conclusion | None, winner: Outcome, ranked: Sequence[Outcome]
) -> str:
    """Say what was found, and how it stands among all."""
    first = result.objectives[0].name
    values = [outcome.values[first] for outcome in ranked]
    mine = winner.values[first]
    rank = "the best" if mine == values[0] else f"number {1 + values.index(mine)}"
    words = (
        f"Of {len(ranked):,} complete trials, trial {winner.number} is {rank} in {first}: "
        f"{readable(mine)}. The median of all is {readable(statistics.median(values))}."
    )
    if values.count(mine) > 1:
        words += f" It shares this value with {values.count(mine) - 1} others."
    if winner.standard_error is not None:
        words += f" The standard error is {readable(winner.standard_error)}."
    others = {k: v for k, v in {**winner.values, **winner.metrics}.items() if k != first}
    if others:
        words += f" It has {', '.join(f'{name} {readable(v)}' for name, v in others.items())}."
    if conclusion:
        words += f" {_concluded(conclusion)}"
        if mine != values[0]:
            words += " It was the best of the finalists once they were trained further."
    return words


def _concluded(conclusion: Conclusion) -> str:
    """Say what the network that a run ended with costs and reaches."""
    costs = conclusion.get(
        "costs", {n: conclusion[n] for n in ("macs", "params") if n in conclusion}
    )
    words = "It costs: " + ", ".join(f"{title_of(n)} {readable(v)}" for n, v in costs.items()) + "."
    if "inherited" in conclusion:
        words += (
            f" With the weights of the search it reached {percent(conclusion['inherited'])} on the "
            "validation split."
        )
    words += (
        f" Trained by itself it reached {conclusion['validation']:.1%} on the validation split and "
        f"{conclusion['test']:.1%} on the test split."
    )
    if "deployed" in conclusion:
        words += f" It takes, {conclusion['deployed']}."
    return words


_CHARTS = """<div class="columns"><div>
<h2>Score against cost</h2>
<div id="axes"></div>
<canvas id="front" aria-label="Trials by two of their values"></canvas>
<p class="note">A point is a trial: hover to see it, click to draw its network. The large one is the
winner. The line joins those that no other is better than in both.</p>
<h2>How it went</h2>
<canvas id="history" aria-label="Trials in their order"></canvas>
<p class="note">The line is the best so far.</p>
</div><div id="detail" class="panel"></div></div>"""

_TABLE = """<h2>The trials</h2>
<p><input id="filter" type="search" size="36" placeholder="complete  s2_depth=3  accuracy&gt;0.9"
aria-label="Show only trials with all of these words"> <span id="count" class="note"></span></p>
<div class="wide"><table id="trials"></table></div>
<p><button id="more" hidden>show more</button></p>"""


def _importance(
    result: SearchResult,
    labels: _Labels,
    rows: Sequence[Sequence[int | None]],
    ranked: Sequence[Outcome],
) -> Iterator[str]:
    """Yield the table of the importance of each label for each objective."""
    yield "<h2>What matters</h2>"
    yield (
        "<p class='note'>Which part of an objective's variance among the trials each label "
        "explains by itself, corrected for what as many values explain by chance (Kelley 1935). "
        "Labels that matter only together are not seen.</p>"
    )
    columns = {
        objective.name: importances(rows, [o.values[objective.name] for o in ranked])
        for objective in result.objectives
    }
    first = next(iter(columns.values()))
    order = sorted(range(len(labels.names)), key=lambda place: -first[place])
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    lines = []
    for place in order:
        bars = "".join(
            f'<td><i class="bar" style="width:{120 * found[place]:.0f}px"></i>'
            f"{percent(found[place])}</td>"
            for found in columns.values()
        )
        lines.append(f"<tr><td>{escape(labels.names[place])}</td>{bars}</tr>")
    yield (
        f'<div class="wide"><table id="importance"><tr><th>label</th>{head}</tr>'
        + "".join(lines)
        + "</table></div>"
    )


def _heat(labels: _Labels, rows: Sequence[Sequence[int | None]]) -> Iterator[str]:
    """Yield the table of how often each value is among the best, against all."""
    best = rows[: max(5, len(rows) // 10)]
    yield (
        f"<h2>What the {len(best)} best have chosen</h2><p class='note'>In percent of those in "
        "which the label is used. <span class='scale'>80% more rarely than all trials<i></i>80% "
        "more often</span></p>"
    )
    lines = []
    for place, label in enumerate(labels.described):
        cells = "".join(
            f'<td style="background:rgba(var({"--up" if more > 0 else "--down"}),'
            f'{min(0.85, abs(more)):.2f})">{escape(value)}<br><b>{percent(share)}</b></td>'
            for value, share, more in usage(label["values"], place, best, rows)
        )
        lines.append(f"<tr><td>{escape(label['name'])}</td>{cells}</tr>")
    yield f'<div class="wide"><table class="heat" id="heat">{"".join(lines)}</table></div>'


def _one_shot(run: StoredRun, labels: _Labels, data: dict[str, Any]) -> Iterator[str]:
    """What a search with shared weights ended with, and its policy over time."""
    values = {label["name"]: label["values"] for label in labels.described}
    if run.conclusion:
        yield f"<h2>The winner</h2><p id='words'>{escape(_concluded(run.conclusion))}</p>"
        arch = run.conclusion["arch"]
        data["columns"] = [
            {"name": name, "title": name, "main": name == "validation"}
            for name in ("trial", "inherited", "validation", "test")
        ]
        scores = [run.conclusion.get(name) for name in ("inherited", "validation", "test")]
        data["trials"] = [
            {"number": 0, "state": "complete", "values": [0, *scores], "codes": labels.codes(arch)}
        ]
        data["winner"] = 0
        yield '<div id="detail" class="panel"></div>'
        yield from _preferred(run, arch, values)
    else:
        yield "<p>The search has not come to its end.</p>"
    data["policy"] = [
        [label, values[label], over_time]
        for label, over_time in run.policy.items()
        if label in values
    ]
    if data["policy"]:
        yield (
            "<h2>The policy over time</h2><p class='note'>The probability of each value of each "
            "label, step by step.</p><div id='policy' class='small'></div>"
        )


def _preferred(
    run: StoredRun, arch: Mapping[str, Any], values: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """For each choice, the probability that the policy gave it in the end."""
    lines = []
    for label, value in arch.items():
        over_time = run.policy.get(label)
        if not over_time or _word(value) not in values.get(label, ()):
            continue
        last = over_time[-1][1]
        if isinstance(value, list) or len(last) != len(values[label]):
            continue  # of several values together, each combination has its probability
        mine = last[values[label].index(_word(value))]
        likeliest = last.index(max(last))
        other = "" if last[likeliest] <= mine else values[label][likeliest]
        cells = (label, str(value), percent(mine), other)
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    if lines:
        yield (
            "<p class='note'>For each of its choices the probability that the policy gave it in "
            "the end, and what it preferred, if that was another value.</p><div class='wide'>"
            "<table id='preferred'><tr><th>label</th><th>value</th><th>probability</th>"
            f"<th>preferred</th></tr>{''.join(lines)}</table></div>"
        )

"""One HTML file about a compression: before and after, the front over budgets, which layer gave."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing
from . import html
from .colours import COLOURS
from .figures import WIDTH, missing, new_figure
from .numbers import grouped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..runs.compression import CompressionRun
    from ..runs.contents import Compressed

__all__ = ["write_compression_report"]

_TIMES = (
    "Times are those of torch on this machine, for one example; other runtimes rank networks "
    "differently: see --runtime."
)


def write_compression_report(
    run: CompressionRun, found: Sequence[Compressed], file: Path | str
) -> Path:
    """Write what a compression has found into one HTML file; return its path.

    Parameters
    ----------
    run
        The compression, done.
    found
        The original first, then the network of each budget.
    file
        What to write.
    """
    original, *rest = found
    name = type(run.original).__name__
    metric = run.task.main_metric
    body = [
        f"<h1>{escape(name)}, compressed</h1>",
        "<h2>Before and after</h2>",
        _costs(original, rest),
        _times(rest),
        _drawn(original, rest, metric),
        "<h2>What each stage gave</h2>",
        _stages(rest, metric),
        "<h2>Exported</h2>",
        _exports(rest),
        _quantised(rest, metric),
        "<h2>Which layers gave what</h2>",
        _choices(run, original, rest),
        "<h2>What varies, and what is fixed</h2>",
        f"<pre>{escape(str(run.space.groups()))}</pre>",
    ]
    path = Path(file)
    with replacing(path) as beside:
        beside.write_text(html.page(f"{name}, compressed", body), encoding="utf-8")
    return path


def _costs(original: Compressed, rest: Sequence[Compressed]) -> str:
    """Every cost and metric, with its share of the original's."""
    costs, metrics = list(original.costs), list(original.scores)
    rows = []
    for one in (original, *rest):
        cells = [one.name]
        for cost in costs:
            value = one.costs[cost] / 1000 if cost == "latency" else one.costs[cost]
            share = one.costs[cost] / original.costs[cost] if original.costs[cost] else 1.0
            cells.append(f"{grouped(value)} ({share:.0%})")
        rows.append([*cells, *(f"{one.scores[metric]:.4f}" for metric in metrics)])
    heads = ["ms" if cost == "latency" else cost for cost in costs]
    return html.table(["network", *heads, *metrics], rows, numbers=slice(1, None))


def _times(rest: Sequence[Compressed]) -> str:
    """Where times were measured, and what was promised there."""
    told = [f"{one.name}: {one.deployed}" for one in rest if one.deployed]
    if not told:
        return f"<p>{_TIMES}</p>"
    lines = "".join(f"<li>{escape(line)}</li>" for line in told)
    return f"<p>Times are those of one example on this machine.</p><ul>{lines}</ul>"


def _stages(rest: Sequence[Compressed], metric: str) -> str:
    names = ["cut", "refitted", "tuned"]
    rows = [
        [one.name, *(f"{one.steps[name]:.4f}" if name in one.steps else "" for name in names)]
        for one in rest
    ]
    return f"<p>{escape(metric)} on the validation split.</p>" + html.table(
        ["network", *names], rows, numbers=slice(1, None)
    )


def _exports(rest: Sequence[Compressed]) -> str:
    files = list(dict.fromkeys(file for one in rest for file in one.exports))
    rows = []
    for one in rest:
        shown = (one.exports.get(file, "") for file in files)
        rows.append([one.name, *(v if isinstance(v, str) else f"{v:.2g}" for v in shown)])
    return (
        "<p>The largest difference of an output from the network's in torch, or why there is no "
        "such file.</p>" + html.table(["network", *files], rows)
    )


def _quantised(rest: Sequence[Compressed], metric: str) -> str:
    """What 8 bits change, where they were asked for."""
    rows, products = [], True
    for one in rest:
        made = one.quantised
        if made is None:
            continue
        if isinstance(made, str):
            rows.append([one.name, made])
            continue
        products = made.products is not False
        pairs = [f"{a / 1e6:.2f} to {b / 1e6:.2f}" for a, b in [made.size]]
        pairs += [f"{a:.3g} to {b:.3g}" for a, b in [made.milliseconds]]
        pairs += [f"{a:.4f} to {b:.4f}" for a, b in [made.score]]
        rows.append([one.name, made.method, *pairs])
    if not rows:
        return ""
    without = "" if products else " This processor has no instructions for products of 8 bits."
    heads = ["network", "ranges", "MB", "ms", metric]
    return (
        "<p>With 8 bits, on ONNX Runtime, one thread, times taken in turns; in files that end in "
        f"<code>.int8.onnx</code>.{without}</p>"
        + html.table(heads, [row + [""] * (len(heads) - len(row)) for row in rows])
    )


def _choices(run: CompressionRun, original: Compressed, rest: Sequence[Compressed]) -> str:
    """For each label what it loses alone, and its values in the original and what was found."""
    rows = []
    for label, symbol in run.space.symbols().items():
        lost = [(v, run.losses.get(f"{label}={v}")) for v in getattr(symbol, "values", ())]
        shown = ", ".join(f"{value}: {loss:.3f}" for value, loss in lost if loss is not None)
        cells = [str(one.arch.get(label, "-")) for one in (original, *rest)]
        rows.append([label, *cells, shown])
    return "<p>And how much further from the original each value is by itself.</p>" + html.table(
        ["choice", "original", *(one.name for one in rest), "further"], rows
    )


def _drawn(original: Compressed, rest: Sequence[Compressed], metric: str) -> str:
    what = f"{metric} against multiply-adds."
    why = missing()
    if why is not None:
        return f"<p>No picture of {escape(what)} {escape(why)}</p>"
    return html.figure(_front(original, rest, metric), what)


def _front(original: Compressed, rest: Sequence[Compressed], metric: str) -> Figure:
    figure = new_figure(WIDTH, 3.2)
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import PercentFormatter

    axes = figure.add_subplot()
    points: list[tuple[float, float, str]] = sorted(
        (one.costs["macs"] / original.costs["macs"], one.scores[metric], one.name)
        for one in (original, *rest)
    )
    axes.plot([p[0] for p in points], [p[1] for p in points], "o-", color=COLOURS[0])
    for share, score, name in points:
        axes.annotate(
            html.plain(name), (share, score), xytext=(0, 7), textcoords="offset points", fontsize=8,
            ha="center", path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("multiply-adds, of the original's")
    axes.set_ylabel(metric)
    axes.margins(0.1, 0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure

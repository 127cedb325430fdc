"""Optuna's own plots of a search, as parts of a page."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from optuna.visualization import matplotlib as plots

from ..mutable.node import key_of
from ..study.storage import quiet
from . import html

if TYPE_CHECKING:
    from ..study import SearchResult

__all__ = ["optunas_pictures"]

_FEW = 10
"""Of fewer trials nobody can say what matters."""

_NAMED = 12
"""Of more lines nobody wants the names."""


def optunas_pictures(result: SearchResult) -> Iterator[str]:
    """Those plots that have something to show."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    yield "<h2>Optuna's pictures</h2>"
    for caption, draw in _drawn(result):
        # They change matplotlib's settings, and warn that they may change themselves. Names of
        # labels are drawn as they are: `$` does not begin a formula.
        with (
            mpl.rc_context({"text.parse_math": False}), quiet(), warnings.catch_warnings()
        ):  # fmt: skip
            warnings.simplefilter("ignore")
            figure = draw().figure
            legend = figure.axes[0].get_legend()
            if legend is not None and len(legend.get_texts()) > _NAMED:
                legend.remove()  # it would leave no room
            lines = len(figure.axes[0].get_yticklabels())
            figure.set_size_inches(8, max(4.0, 0.2 * lines))
            figure.set_layout_engine("constrained")
            drawn = html.figure(figure, caption)
        yield drawn
        plt.close(figure)


def _drawn(result: SearchResult) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Captions, and what draws."""
    study = result.labelled_study()
    single = len(result.objectives) == 1
    varied = len({key_of(outcome.arch) for outcome in result.complete}) > 1
    for place, objective in enumerate(result.objectives):
        name = objective.name
        arguments: dict[str, Any] = {"target_name": name}
        if not single:
            arguments["target"] = partial(_value, place, 1)
        yield (
            f"{name}, trial by trial.",
            partial(plots.plot_optimization_history, study, **arguments),
        )
        values = {outcome.values[name] for outcome in result.complete}
        if len(result.complete) >= _FEW and len(values) > 1 and varied:
            if not single:  # of a target, what makes it small is looked for
                arguments = {**arguments, "target": partial(_value, place, -objective.sign)}
            yield (
                f"How much {name} depends on each label.",
                partial(plots.plot_param_importances, study, **arguments),
            )
    if len(result.objectives) in (2, 3):
        yield "The Pareto front.", partial(plots.plot_pareto_front, study)
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        yield "What was reported on the way.", partial(plots.plot_intermediate_values, study)
    yield "When each trial ran.", partial(plots.plot_timeline, study)


def _value(place: int, sign: int, trial: optuna.trial.FrozenTrial) -> float:
    return sign * float(trial.values[place])

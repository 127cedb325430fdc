"""Stages that train the shared weights of a space: one path to begin with, then random ones."""

from __future__ import annotations

from ..training import save_weights
from .initialization import copy_to_candidates
from .stage import OnProgress, Stage
from .workspace import Workspace

__all__ = ["SHARED_WEIGHTS", "one_path", "random_paths"]

SHARED_WEIGHTS = "shared_weights.safetensors"
"""The file in the folder of a run with the weights of the space."""


def one_path(run: Workspace) -> Stage:
    """Return the stage that trains one random path, and gives its weights to all candidates."""
    steps = run.plan.first_steps

    def do(on_progress: OnProgress) -> None:
        # A run that goes on after this stage loads its last checkpoint, copies again, and loads
        # that of the random paths over both: so every stage begins as it did the first time.
        first = run.within.sample(seed=run.seed)
        rate = run.plan.learning_rate
        run.fit(
            "one path", run.space, steps, rate, on_progress, lambda _: run.space.activate(first)
        )
        copy_to_candidates(run.space, first)

    return Stage("one path", steps, 1.0, do)


def random_paths(run: Workspace) -> Stage:
    """Return the stage that trains along a random path at each step, and writes the weights."""
    steps = run.plan.steps

    def do(on_progress: OnProgress) -> None:
        # All at once: the path of a step depends on the seed and the step, whenever a run goes on.
        paths = run.within.sample(steps, seed=run.seed)
        run.fit(
            "shared weights",
            run.space,
            steps,
            run.plan.learning_rate / 2,
            on_progress,
            lambda step: run.space.activate(paths[step]),
        )
        run.space.eval()
        file = run.folder.path / SHARED_WEIGHTS
        if not file.exists():
            save_weights(run.space, file)

    return Stage("shared weights", steps, 1.0, do)

"""The stage that trains the candidates of a run."""

from __future__ import annotations

from torch import nn

from ..randomness import preserved_randomness, seed_globally
from ..study.evaluation import make_network
from ..training import Task, evaluate, recalibrate
from .stage import OnProgress, Stage
from .workspace import Workspace

__all__ = ["final_training", "fine_tuning"]


def fine_tuning(run: Workspace, candidates: int) -> Stage:
    """Return the stage that trains candidates further, from the weights of the space.

    Parameters
    ----------
    run
        What it works with; the stages before give it at most ``candidates`` candidates.
    candidates
        For the length of the stage.
    """
    steps, rate = run.plan.fine_tuning, run.plan.learning_rate / 2
    task = run.task(rate)

    def do(on_progress: OnProgress) -> None:
        for number, (role, candidate) in enumerate(run.candidates.items()):
            network: nn.Module = run.space.freeze(candidate.arch)
            before = _score(run, network, task, recalibrated=True)

            def show(
                _: str, done: int, total: int, word: str, number: int = number, role: str = role
            ) -> None:
                word = f"{role}, {word}" if len(run.candidates) > 1 else word
                whole = len(run.candidates) * total
                on_progress("fine-tuning", number * total + done, whole, word)

            run.fit(candidate.trained, network, steps, rate, show)
            after = _score(run, network, task, recalibrated=True)
            run.record.add("validation", role, before=before, after=after)
            candidate.network = network.eval()
            candidate.scores |= {"inherited": before, "validation": after}

    return Stage("fine-tuning", steps * candidates, 1.0, do)


def final_training(run: Workspace) -> Stage:
    """Return the stage that trains the best architecture for longer, from fresh weights."""
    rate, task = run.plan.learning_rate, run.task(run.plan.learning_rate)
    steps = task.steps(run.plan.final_epochs)

    def do(on_progress: OnProgress) -> None:
        [candidate] = run.candidates.values()
        # Initial weights have a stream of their own, whatever was drawn before: a run that goes on
        # straight to here begins with the same network.
        with preserved_randomness(run.fabric.device):
            seed_globally(run.seed, "trials/final", 0, run.fabric.device)
            network: nn.Module = make_network(run.space, candidate.arch, "fresh")
        run.fit(
            candidate.trained,
            network,
            steps,
            rate,
            lambda _, *rest: on_progress("final training", *rest),
        )
        candidate.network = network.eval()
        candidate.scores["validation"] = _score(run, network, task, recalibrated=False)

    return Stage("final training", steps, 1.0, do)


def _score(run: Workspace, network: nn.Module, task: Task, *, recalibrated: bool) -> float:
    """Return the main metric on the validation split."""
    if recalibrated:
        recalibrate(network, task, fabric=run.fabric)
    return evaluate(network, task, fabric=run.fabric)[task.main_metric]

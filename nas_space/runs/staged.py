"""``StagedRun``: a search from the shell, in a folder, made of stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..study import describe
from .conclusion import Findings, conclude
from .deployment import Deployment
from .folder import RunFolder
from .kinds import kind_of, plan_of
from .plan import Limits, Plan
from .stage import OnProgress
from .threads import threads_for
from .workspace import Workspace

__all__ = ["StagedRun"]


class StagedRun:
    """A run in a folder: stages that search a space and train what they find, one by one.

    The process may be killed at any moment. Resumed, a run skips what is done, goes on with what
    is not, and ends with the same result.

    Parameters
    ----------
    out
        The folder: everything that the run needs to go on is in it.
    plan
        What to do; by default that of ``'spos'``.
    limits
        Of the present command.
    resume
        Whether to go on with a run in the folder; if there is none, one begins.
    arguments
        Space, data, budgets and so on, as of :class:`~nas_space.runs.workspace.Workspace`.

    Attributes
    ----------
    stages
        The stages, in their order.

    Raises
    ------
    UsageError
        The folder holds something else, or the plan cannot be done; nothing is written then.
    InfeasibleError, DataError, SpaceError, StorageError
        As of the workspace and of the stages.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        plan: Plan | None = None,
        limits: Limits | None = None,
        resume: bool = False,
        **arguments: Any,
    ) -> None:
        self.plan = plan or plan_of()
        self.kind = kind_of(self.plan.strategy)
        folder = RunFolder(out, resume=resume)
        self.workspace = Workspace(folder, self.plan, **arguments)
        self._say_steps()
        self.stages = self.kind.stages(self.workspace, limits or Limits())
        heeded = {k: v for k, v in asdict(self.plan).items() if k in self.kind.defaults}
        self.settings = {**self.workspace.settings, "strategy": self.plan.strategy, **heeded}
        folder.claim(self.settings, describe(self.workspace.space), {"device", *self.kind.flexible})
        Deployment.keep(self.workspace.table, folder)

    def _say_steps(self) -> None:
        """Say in steps how long shared weights are trained, where the plan says epochs.

        So the settings of a run have one form of it, which is compared when it goes on.
        """
        if self.plan.epochs is not None and "steps" in self.kind.defaults:
            steps = self.workspace.task(self.plan.learning_rate).steps(self.plan.epochs)
            self.plan = self.workspace.plan = replace(self.plan, steps=steps, epochs=None)

    def run(
        self,
        on_progress: OnProgress = lambda *_: None,
        draw: Callable[[Findings], object] = lambda _: None,
    ) -> Findings:
        """Do what is left to do.

        Parameters
        ----------
        on_progress
            Told how far it is.
        draw
            Draws pictures of what was found: the last that a run does before it is finished.
        """
        work = self.workspace
        # A few architectures tell well enough for how many threads a batch is work.
        typical = work.costs.values("macs", work.within.sample(16, seed=0)).mean()
        with threads_for(float(typical) * self.plan.batch_size):
            for stage in self.stages:
                stage.do(on_progress)
            findings = conclude(work, self.settings, compared=self.kind.compared)
        draw(findings)
        work.folder.finish()
        return findings

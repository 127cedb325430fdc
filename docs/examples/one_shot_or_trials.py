"""One-shot or trials: the same space and task, searched in both ways, told by one callback."""

from __future__ import annotations

from typing import Any

import nas_space as ns
from nas_space.hub import ProxylessNAS
from nas_space.study import SearchCallback
from nas_space.training import Task, load_data


class Told(SearchCallback):
    """Count what a search tells, whichever kind it is."""

    def __init__(self) -> None:
        self.trials = self.steps = 0

    def on_trial(self, study: Any, trial: Any) -> None:
        self.trials += 1

    def on_step(self, progress: Any) -> None:
        self.steps += 1

    def on_end(self, result: Any) -> None:
        print(f"{self.trials} trials, {self.steps} steps: {result}")


def main(steps: int = 200, trials: int = 10, epochs: int = 3) -> tuple[Any, Any]:
    """Train shared weights while searching; then train each candidate by itself."""
    task = Task.classification(load_data("digits"))
    space = ProxylessNAS(num_labels=10, width_mult=0.25)
    shared = ns.search(space, task, strategy="random-path", steps=steps, callbacks=[Told()])
    fresh = ProxylessNAS(num_labels=10, width_mult=0.25)
    evaluate = ns.study.from_scratch(task, epochs=epochs)
    single = ns.search(fresh, evaluate, strategy="random", trials=trials, callbacks=[Told()])
    return shared, single


if __name__ == "__main__":
    main()

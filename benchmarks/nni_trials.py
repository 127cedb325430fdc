"""What a trial costs with NNI 3.0, measured in its own environment.

Run by the Python where NNI is installed, from the root of the repository; ``benchmarks.trials``
does. Nothing of this project's library is imported.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._measure import environment, use_one_thread

FEW, MANY = 5, 25


def seconds_per_trial(strategy: Callable[[], Any]) -> float:
    """Of evaluations that do nothing; what an experiment costs once is left out."""
    import nni
    from nni.nas.evaluator import FunctionalEvaluator
    from nni.nas.experiment import NasExperiment
    from nni.nas.experiment.config import SequentialEngineConfig
    from nni.nas.hub.pytorch import ProxylessNAS

    def run(trials: int) -> float:
        experiment = NasExperiment(
            ProxylessNAS(),
            FunctionalEvaluator(lambda _model: nni.report_final_result(1.0)),
            strategy(),
        )
        experiment.config.execution_engine = SequentialEngineConfig()
        experiment.config.max_trial_number = trials
        experiment.config.trial_concurrency = 1
        start = time.perf_counter()
        experiment.run()
        return time.perf_counter() - start

    return (run(MANY) - run(FEW)) / (MANY - FEW)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    use_one_thread()
    from nni.nas.strategy import TPE, Random, RegularizedEvolution

    kinds = {
        "Random": Random,
        "RegularizedEvolution": lambda: RegularizedEvolution(population_size=10, sample_size=5),
        "TPE": TPE,
    }
    found = {name: seconds_per_trial(kind) for name, kind in kinds.items()}
    options.out.write_text(json.dumps({"environment": environment(), "seconds": found}))


if __name__ == "__main__":
    main()

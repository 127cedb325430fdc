"""What a compression is asked for, and a network that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..mutable import Sample

__all__ = ["Compressed", "CompressionPlan"]


@dataclass(frozen=True)
class CompressionPlan:
    """How long each stage of a compression takes.

    Attributes
    ----------
    steps
        Of training the shared weights; 0 leaves them as they are.
    trials
        Architectures to try for each budget.
    fine_tuning
        Steps of training the smallest network that was found; the others take as many as are their
        share of what is cut away.
    learning_rate
        The largest, of AdamW.
    batch_size
        Examples in a batch.
    calibration
        Batches on which channels are ranked, and layers fitted.
    elastic
        Arguments of :func:`nas_space.elastic`.
    """

    steps: int = 200
    trials: int = 30
    fine_tuning: int = 100
    learning_rate: float = 1e-3
    batch_size: int = 32
    calibration: int = 16
    elastic: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Compressed:
    """A network of a compression: the original, or what was found within a budget.

    Attributes
    ----------
    name
        ``'original'``, or the budget.
    arch
        The architecture.
    costs
        Name to value, ``'latency'`` in microseconds for one example as it was measured here: on
        the runtime of the run, or in torch.
    scores
        Metric to value on the test split, or on the validation split where there is no other.
    steps
        The main metric on the validation split after each stage: with the weights that it begins
        with, refitted, and tuned.
    folder
        Where it was written.
    exports
        File beside that to the largest difference of its outputs from the network's, or why there
        is none; see :func:`~nas_space.runs.exporting.export_checked`.
    deployed
        The network on the runtime of the run, if there is one: the fields of
        :class:`~nas_space.runs.deployment.Promise`.
    quantised
        What 8 bits change, before and after: ``size`` in bytes, ``milliseconds``, ``score`` by the
        main metric, beside the ``method`` and whether the processor has instructions for
        ``products`` of 8 bits; or why there is no such file, as ``failure``.
    """

    name: str
    arch: Sample
    costs: Mapping[str, float]
    scores: Mapping[str, float]
    steps: Mapping[str, float] = field(default_factory=dict)
    folder: str | None = None
    exports: Mapping[str, float | str] = field(default_factory=dict)
    deployed: Mapping[str, Any] | None = None
    quantised: Mapping[str, Any] | None = None

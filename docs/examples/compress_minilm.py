"""MiniLM made smaller, from a network and texts to a file of ONNX.

``pip install 'nas-space[demo,onnxruntime]'`` brings all that it needs. The page of the manual that
explains this file is ``docs/compressing-minilm.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nas_space as ns
from nas_space.runs.demo import manual, minilm
from nas_space.training import Task, evaluate, fit

# -- a space from the network ----------------------------------------------------------------------


def space_of(net: nn.Module, example: dict[str, Any]) -> Any:
    """Return the space of what MiniLM can be, with one width for the feed-forward of all layers."""
    return ns.elastic(
        net,
        example,
        only=("*intermediate*",),
        share="kind",  # the configuration of a BERT has one number for all layers
        widths=(0.25, 0.5, 0.75, 1.0),
        depth=False,
    )


# -- smaller, without training ---------------------------------------------------------------------


def cut(space: Any, net: nn.Module, texts: list[dict[str, Any]], share: float) -> Any:
    """Return the largest network within a share of the multiply-adds, fitted to the whole one."""
    space.sort_channels(texts)  # the most important first; the function stays the same
    macs = ns.profiler.macs(space, inputs={name: value[:1] for name, value in texts[0].items()})
    within = space.where(macs <= share * macs.evaluate(space.original))
    best = within.best(macs, maximize=True)[0]
    small = space.freeze(best.arch)
    space.refit(small, texts, teacher=net)
    return small


# -- nearer, with training -------------------------------------------------------------------------


def teach(small: nn.Module, task: Task, steps: int) -> float:
    """Train a network to do what its teacher does; return how well it does, at most 1."""
    if steps:
        fit(small, task, steps=steps)
    return float(evaluate(small.eval(), task)["fidelity"])


# -- out of Python ---------------------------------------------------------------------------------


def export(small: Any, example: dict[str, Any], folder: Path) -> Path:
    """Write a network for transformers, and as a file of ONNX, which is run and compared."""
    small.save_pretrained(folder / "network")
    written = ns.export(small, "onnxruntime", example, folder)
    print(written)
    return written.file


# -- all of it -------------------------------------------------------------------------------------


def compress(
    net: nn.Module, data: list[Any], folder: Path, *, share: float = 0.55, steps: int = 60
) -> Any:
    """Make a network smaller, and tell what each step gives; ``data`` to train and to validate."""
    task = Task.distillation(
        net,
        *data[:2],
        batch_size=32,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=2e-4),
    )
    texts = [_batch(data[0][place : place + 32]) for place in range(0, min(256, len(data[0])), 32)]
    example = {name: value[:1] for name, value in texts[0].items()}
    space = space_of(net, example)
    print(space.groups())
    small = cut(space, net, texts, share)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters,", end=" ")
    print(f"{sum(p.numel() for p in small.parameters()):,} in the small one")
    print(f"fidelity {teach(small, task, 0):.3f} fitted, {teach(small, task, steps):.3f} trained")
    folder.mkdir(parents=True, exist_ok=True)
    export(small, example, folder)
    return small


def _batch(examples: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: torch.stack([one[name] for one in examples]) for name in examples[0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("small"))
    parser.add_argument("--share", type=float, default=0.55, help="of the multiply-adds")
    parser.add_argument("--steps", type=int, default=60, help="of training")
    options = parser.parse_args()
    compress(minilm().eval(), manual(), options.out, share=options.share, steps=options.steps)

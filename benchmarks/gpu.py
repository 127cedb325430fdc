"""What steps of one-shot strategies cost on a CUDA device, against plain steps.

::

    python -m benchmarks.gpu [--out gpu.json]

Images of 224×224, batches of 128 (of 32 for mixtures of all candidates), bfloat16 autocast,
channels last; eager, and compiled region by region.
Where there is no CUDA device it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks._measure import Row, Spread, print_table, row, write_json
from benchmarks.oneshot import CLASSES, Along, largest
from nas_space.hub import MobileNetV3Space, ProxylessNAS
from nas_space.strategy.oneshot import DARTS, Proxyless, Run
from nas_space.training import Task, Trainer, make_fabric

STEPS, WARM, ROUNDS = 10_000, 5, 10


class Bench:
    """Where and on what is measured."""

    def __init__(self, device: str, batch: int, size: int) -> None:
        self.device, self.batch, self.size = torch.device(device), batch, size

    def fabric(self) -> Any:
        return make_fabric(self.device, "bf16-mixed")

    def task(self, batch: int) -> Task:
        # On the device already: this is about steps, not about loading.
        images = torch.randn(2 * batch, 3, self.size, self.size, device=self.device)
        images = images.to(memory_format=torch.channels_last)
        labels = torch.randint(CLASSES, (2 * batch,), device=self.device)
        data = TensorDataset(images, labels)
        return Task.classification(data, validation=data, batch_size=batch)

    def space(self, kind: Any) -> Any:
        torch.manual_seed(0)
        return kind(num_labels=CLASSES).to(self.device, memory_format=torch.channels_last)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, thunk: Callable[[], object]) -> float:
        self.synchronize()
        start = time.perf_counter()
        thunk()
        self.synchronize()
        return time.perf_counter() - start

    def spread(self, thunk: Callable[[], object]) -> Spread:
        for _ in range(WARM):
            thunk()
        return Spread.of([self.seconds(thunk) for _ in range(ROUNDS)])

    def peak(self, thunk: Callable[[], object]) -> str:
        """The most memory of the device that is allocated during a call."""
        if self.device.type != "cuda":
            return "memory is told for CUDA only"
        torch.cuda.reset_peak_memory_stats(self.device)
        thunk()
        self.synchronize()
        return f"{torch.cuda.max_memory_allocated(self.device) / 2**20:,.0f} MiB at most"


def compared(
    bench: Bench, what: str, ours: Callable[[], object], other: Callable[[], object]
) -> Row:
    mine, plain = bench.spread(ours), bench.spread(other)
    ratio = Spread(
        mine.median / plain.median,
        mine.low / plain.high,
        mine.high / plain.low,
        mine.minimum / plain.maximum,
        mine.maximum / plain.minimum,
        mine.count,
    )
    return row(what, mine, plain, ratio, note=bench.peak(ours))


def along(bench: Bench, space: Any, arch: Any) -> Run:
    """A run that trains one path of a space, at every step the same."""
    strategy = Along()
    strategy.arch = arch
    return Run(strategy, space, bench.task(bench.batch), steps=STEPS, fabric=bench.fabric())


def paths(bench: Bench, kind: Any) -> Iterator[Row]:
    """A whole step along a path, against one of the network alone."""
    space = bench.space(kind)
    arch = space.sample(seed=0)
    trainer = Trainer(
        space.freeze(arch), bench.task(bench.batch), steps=STEPS, fabric=bench.fabric()
    )
    what = f"random path on {kind.__name__}, a whole step"
    yield compared(bench, what, along(bench, space, arch).advance, trainer.advance)


def regions(bench: Bench, kind: Any) -> Iterator[Row]:
    """A whole step along a path whose regions are compiled, against the same as it is."""
    space, eager = bench.space(kind), bench.space(kind)
    arch = space.sample(seed=0)
    space.compile_regions()
    what = f"random path on {kind.__name__}, compiled / eager"
    yield compared(
        bench, what, along(bench, space, arch).advance, along(bench, eager, arch).advance
    )


def passes(bench: Bench, network: nn.Module, task: Task) -> Callable[[], None]:
    """Forward and backward of a plain network."""
    x, y = (part[: task.batch_size] for part in task.train.tensors)  # type: ignore[union-attr]
    assert task.loss is not None
    loss: Callable[[Tensor, Tensor], Tensor] = task.loss

    def run() -> None:
        network.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16):
            value = loss(network(x), y)
        torch.autograd.backward(value)

    return run


def policies(bench: Bench) -> Iterator[Row]:
    """A step of a policy along two paths, against passes of one."""
    space, task = bench.space(ProxylessNAS), bench.task(bench.batch)
    run = Run(Proxyless(), space, task, steps=STEPS, fabric=bench.fabric())
    plain = passes(bench, space.freeze(space.sample(seed=0)), task)
    yield compared(
        bench, "Proxyless on ProxylessNAS, a policy step", partial(run.strategy.learn, run), plain
    )


def mixtures(bench: Bench, kind: Any) -> Iterator[Row]:
    """A whole step of DARTS, against passes of the largest network."""
    space, task = bench.space(kind), bench.task(max(1, bench.batch // 4))
    plain = passes(bench, space.freeze(largest(space)), task)
    run = Run(DARTS(), space, task, steps=STEPS, fabric=bench.fabric())
    yield compared(
        bench, f"DARTS on {kind.__name__}, a whole step / passes of the largest", run.advance, plain
    )


def rows(bench: Bench, *, compiled: bool) -> Iterator[Row]:
    figures: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("path", partial(paths, bench, ProxylessNAS)),
        ("elastic path", partial(paths, bench, MobileNetV3Space)),
        ("policy", partial(policies, bench)),
        ("DARTS", partial(mixtures, bench, ProxylessNAS)),
        ("elastic DARTS", partial(mixtures, bench, MobileNetV3Space)),
    ]
    if compiled:
        figures += [
            ("compiled path", partial(regions, bench, ProxylessNAS)),
            ("compiled elastic path", partial(regions, bench, MobileNetV3Space)),
        ]
    for name, figure in figures:
        try:
            yield from figure()
        except torch.OutOfMemoryError as error:
            yield Row(name, note=f"out of memory: {str(error).splitlines()[0]}")
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cpu tries the script, at small sizes")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--eager", action="store_true", help="leave out what is compiled")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("skipped: there is no CUDA device here")
        return
    name = "the CPU"
    if arguments.device.startswith("cuda"):
        name = torch.cuda.get_device_name(arguments.device)
    bench = Bench(arguments.device, arguments.batch, arguments.size)
    found = list(rows(bench, compiled=not arguments.eager))
    print_table(
        f"{name}: {arguments.size}×{arguments.size}, batch {arguments.batch}, bfloat16", found
    )
    if arguments.out:
        write_json(arguments.out, found, device=name)


if __name__ == "__main__":
    main()

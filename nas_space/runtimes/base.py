"""What an adapter of a runtime does: write a network for it, load what was written, run it."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .exportable import Exportable

__all__ = ["Program", "Runtime"]


class Program(ABC):
    """A network that a runtime has loaded.

    It takes the tensors of an :class:`Exportable`, in their order, and returns those of the
    network's output in theirs.
    """

    @abstractmethod
    def prepare(self, *inputs: Tensor) -> Callable[[], Any]:
        """Return a function that runs the program on these inputs, without converting anything.

        What is to be timed: inputs are handed to the runtime here, once.
        """

    @abstractmethod
    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run the program."""


class Runtime(ABC):
    """A runtime, as everything here sees it.

    Attributes
    ----------
    name
        What it is asked for by, in :func:`find_runtime`.
    extra
        The extra of this library that installs it; ``None`` if it comes with torch.
    packages
        The packages to import that writing for it needs; the first is that whose version counts.
    suffix
        How its files end.
    dynamic
        Whether it can take batches of any size.
    largest_batch
        Where memory is planned for the largest batch: how many samples that has, if the batch is to
        be free; 0 for runtimes that plan nothing, or take one size only.
    runs_here
        Whether what was written can be run where it is written.
    quantizes
        Whether :meth:`quantize` does something.
    """

    name: ClassVar[str]
    extra: ClassVar[str | None] = None
    packages: ClassVar[Sequence[str]] = ()
    suffix: ClassVar[str]
    dynamic: ClassVar[bool] = True
    largest_batch: ClassVar[int] = 0
    runs_here: ClassVar[bool] = True
    quantizes: ClassVar[bool] = False

    def require(self) -> None:
        """Raise an error that names the extra if the runtime is not installed.

        Raises
        ------
        UsageError
            If a package of it cannot be found.
        """
        for package in self.packages:
            if find_spec(package) is None:
                raise UsageError(
                    f"{self.name} needs the package {package!r}: "
                    f"pip install 'nas-space[{self.extra}]'"
                )

    def version(self) -> str:
        """Return the version of the runtime that is installed."""
        self.require()
        if not self.packages:
            return str(torch.__version__)
        try:
            return metadata.version(self.packages[0])
        except metadata.PackageNotFoundError:  # another build of it, as onnxruntime-gpu
            return str(import_module(self.packages[0]).__version__)

    @abstractmethod
    def export(
        self, source: Exportable, path: Path, *, dynamic: bool = False, fast: bool = False
    ) -> None:
        """Write a network as a file.

        Parameters
        ----------
        source
            The network and its inputs.
        path
            The file; what must lie beside it has the same stem.
        dynamic
            Whether to write it for batches of any size.
        fast
            Whether to follow one run of the network only: tens of times as fast as
            :func:`torch.export.export`, and meant for what is timed, since a decision taken on
            values is not seen, but kept as it was taken.

        Raises
        ------
        Exception
            Anything, if the runtime or its converter cannot.
        """

    @abstractmethod
    def load(self, path: str | os.PathLike[str], *, threads: int = 1) -> Program:
        """Load what was written, to run on the CPU with so many threads.

        Raises
        ------
        UsageError
            If it does not run here.
        """

    def quantize(
        self, path: Path, target: Path, *, method: str, batches: Iterable[Sequence[Tensor]]
    ) -> None:
        """Write a file that :meth:`export` wrote once more, with weights of 8 bits.

        Parameters
        ----------
        path, target
            The file that is there, and the one to write.
        method
            ``'static'`` for ranges of activations that are known from the batches, ``'dynamic'``
            for ranges that are found anew in each run.
        batches
            What to run on to know the ranges.

        Raises
        ------
        Exception
            Anything, if the runtime cannot.
        """
        raise NotImplementedError

    def compile(self, network: nn.Module, inputs: Any, *, threads: int = 1) -> Program:
        """Return a network as the runtime runs it, for inputs of these shapes, to be timed.

        It is written in the fast way, and not compared with the network.

        Parameters
        ----------
        network, inputs
            As of :class:`Exportable`.
        threads
            How many it runs on.

        Examples
        --------
        >>> import torch
        >>> from nas_space.runtimes import find_runtime
        >>> network = torch.nn.Linear(4, 2).eval()
        >>> program = find_runtime("torch-export").compile(network, torch.ones(1, 4))
        >>> program(torch.ones(1, 4))[0].shape
        torch.Size([1, 2])
        """
        self.require()
        source = Exportable(network, inputs)
        # The file is gone when the program is used: by then its runtime has read it, or has it
        # open.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"network{self.suffix}")
            self.export(source, path, fast=True)
            return self.load(path, threads=threads)

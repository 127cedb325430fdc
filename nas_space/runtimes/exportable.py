"""A network with its inputs, in the one form that all runtimes are given."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from ..errors import UsageError

__all__ = ["Exportable", "quietly", "tensors_in", "with_tensors"]


class Exportable:
    """A network that can be written for a runtime, with inputs on which it is run and compared.

    Parameters
    ----------
    network
        In evaluation mode, on the CPU.
    inputs
        A tensor; a tuple or list of arguments; a mapping of arguments by name, as a tokenizer gives
        it; or a pair of a tuple and a mapping. What is no tensor becomes a constant.

    Attributes
    ----------
    module
        The network as a function of tensors that returns a tuple of tensors.
    tensors
        The tensors among the inputs, in the order of the network's parameters.
    names
        What they are called.
    outputs
        The tensors that the network returns for them, by what they are called.

    Raises
    ------
    UsageError
        If the network is in training mode or not on the CPU, does not run on these inputs, or
        returns no tensor.

    Examples
    --------
    >>> source = Exportable(nn.Linear(4, 2).eval(), torch.ones(3, 4))
    >>> source.names, source.outputs["output"].shape
    (['input'], torch.Size([3, 2]))
    """

    def __init__(self, network: nn.Module, inputs: Any) -> None:
        self.network = network
        _check_state(network)
        bound = self._bound(inputs)
        # As the signature has them, whatever the order of a mapping: so are inputs of the file.
        self.args, self.kwargs = bound.args, bound.kwargs
        # Leaves of the call in the order of the signature; the same leaves by the parameters'
        # names, in the same order, say what each input of the file is called.
        leaves, spec = pytree.tree_flatten((self.args, self.kwargs))
        paths, _ = pytree.tree_flatten_with_path(dict(bound.arguments))
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.tensors: list[Tensor] = [leaves[place] for place in places]
        self.names = ["_".join(map(_step, paths[place][0])) for place in places]
        _check_inputs(self.names, self.tensors)
        constants = {k: leaf for k, leaf in enumerate(leaves) if not isinstance(leaf, Tensor)}
        self.module = _Flat(network, spec, constants, len(leaves)).eval()
        self.outputs = self._run()

    def _bound(self, inputs: Any) -> inspect.BoundArguments:
        args, kwargs = _call(inputs)
        try:
            return inspect.signature(self.network.forward).bind(*args, **kwargs)
        except TypeError as error:
            name = type(self.network).__name__
            raise UsageError(f"{name} does not take these inputs: {error}") from error

    def tensors_of(self, inputs: Any) -> list[Tensor]:
        """Return the tensors of other inputs in the order of :attr:`tensors`.

        Raises
        ------
        UsageError
            If they are not as many, or of other types.
        """
        bound = self._bound(inputs)
        leaves = pytree.tree_leaves((bound.args, bound.kwargs))
        found = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        here, there = ([(t.ndim, t.dtype) for t in some] for some in (found, self.tensors))
        if here != there:
            raise UsageError(
                f"these inputs have tensors of (axes, type) {here}, but those that the network was "
                f"exported with are {there}"
            )
        return found

    def _run(self) -> dict[str, Tensor]:
        name = type(self.network).__name__
        try:
            with torch.no_grad():
                found = tensors_in(self.network(*self.args, **self.kwargs))
        except Exception as error:
            shapes = ", ".join(
                f"{name} {tuple(tensor.shape)}"
                for name, tensor in zip(self.names, self.tensors, strict=True)
            )
            raise UsageError(f"{name} does not run on {shapes}: {error}") from error
        if not found:
            raise UsageError(f"{name} returns no tensor, so there is nothing to export")
        return found

    def of_batch(self, size: int) -> list[Tensor]:
        """Return the inputs with another number of samples, made of those that there are.

        The batch is the first axis of the first tensor, and of all those that are as long.
        """
        # Real samples over again: ones made up might lie outside of what the network accepts, such
        # as tokens of no vocabulary.
        places = torch.arange(size) % max(1, self.batch_size)
        return [
            tensor[places] if batched else tensor
            for tensor, batched in zip(self.tensors, self._batched, strict=True)
        ]

    @property
    def batch_size(self) -> int:
        """The number of samples; 0 if the first tensor has no axis."""
        return self.tensors[0].shape[0] if self.tensors[0].ndim else 0

    @property
    def _batched(self) -> list[bool]:
        whole = self.batch_size
        return [bool(whole and each.ndim and each.shape[0] == whole) for each in self.tensors]

    @cached_property
    def program(self) -> ExportedProgram:
        """The program of :attr:`module` by ``torch.export``, for inputs of these shapes."""
        return torch.export.export(self.module, tuple(self.tensors))

    @cached_property
    def dynamic_program(self) -> ExportedProgram:
        """The same for batches of any size, as far as the network's code allows it."""
        # What is traced with a batch of one is held to be one for ever.
        tensors = self.of_batch(max(2, self.batch_size))
        return torch.export.export(
            self.module, tuple(tensors), dynamic_shapes={"tensors": self.dynamic_shapes()}
        )

    def bound(self, largest: int) -> int:
        """Return the largest batch of a runtime that plans for one; 0 if none is to be planned."""
        return max(largest, self.batch_size + 1) if largest else 0

    def bounded_program(self, largest: int) -> ExportedProgram:
        """Return :attr:`program` for batches of up to so many samples.

        It is traced with the largest: what kernels ask of a batch, such as convolutions whether it
        has 16 samples, would make the answer for a smaller one a bound.
        """
        largest = self.bound(largest)
        tensors = self.of_batch(largest)
        shapes = self.dynamic_shapes(Dim("batch", min=1, max=largest))
        return torch.export.export(self.module, tuple(tensors), dynamic_shapes={"tensors": shapes})

    def dynamic_shapes(self, free: Any = Dim.AUTO) -> tuple[dict[int, Any] | None, ...]:
        """Return for each tensor that its first axis is free, if that is the batch."""
        return tuple({0: free} if batched else None for batched in self._batched)


class _Flat(nn.Module):
    """A network as a function of nothing but tensors, which returns nothing but tensors."""

    def __init__(
        self, network: nn.Module, spec: pytree.TreeSpec, constants: dict[int, Any], size: int
    ) -> None:
        super().__init__()
        self.network = network
        self.spec, self.constants, self.size = spec, constants, size

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        leaves = [
            self.constants[place] if place in self.constants else next(given)
            for place in range(self.size)
        ]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return tuple(tensors_in(self.network(*args, **kwargs)).values())


def tensors_in(value: Any, name: str = "") -> dict[str, Tensor]:
    """Return the tensors of an output by where they are: ``logits``, ``states_0``, ``output``."""
    if isinstance(value, Tensor):
        return {name or "output": value}
    parts: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        parts = value
    elif isinstance(value, list | tuple):
        names = getattr(value, "_fields", range(len(value)))
        parts = dict(zip(names, value, strict=True))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
    found: dict[str, Tensor] = {}
    for part, item in parts.items():
        unnamed = isinstance(part, int) and not name
        found |= tensors_in(
            item, f"{name}_{part}" if name else f"output_{part}" if unnamed else str(part)
        )
    return found


def with_tensors(leaves: Sequence[Any], tensors: Iterable[Tensor]) -> list[Any]:
    """Return the leaves of a tree with other tensors in the places of those that they have."""
    given = iter(tensors)
    return [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, list | tuple):
        if len(inputs) == 2 and isinstance(inputs[0], tuple) and isinstance(inputs[1], Mapping):
            return inputs[0], dict(inputs[1])
        return tuple(inputs), {}
    return (inputs,), {}


def _step(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def _check_state(network: nn.Module) -> None:
    if not isinstance(network, nn.Module):
        raise UsageError(f"a network is a torch.nn.Module, but got {network!r}")
    for path, module in network.named_modules():
        if module.training:
            where = f"{path} ({type(module).__name__})" if path else type(network).__name__
            raise UsageError(
                f"{where} is in training mode, in which layers such as dropout and batch norm do "
                "something else than when a network is used: call network.eval() first"
            )
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.device.type != "cpu":
            raise UsageError(
                f"{name} is on {tensor.device}; networks are exported from the CPU: "
                "call network.to('cpu') first"
            )


def _check_inputs(names: Sequence[str], tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise UsageError("the inputs hold no tensor: give a tensor, or a tuple or mapping of some")
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.device.type != "cpu":
            raise UsageError(f"the input {name} is on {tensor.device}: give it on the CPU")
        if 0 in tensor.shape:
            raise UsageError(f"the input {name} is empty: its shape is {tuple(tensor.shape)}")


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what exporters print and log, which is of no use to who exports a network."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

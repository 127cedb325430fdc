"""How a network is called on a batch, and what was called while a context lasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["RecordedCall", "forward", "inputs_of", "recorded_calls", "tensors_of"]

_TARGETS = ("label", "labels", "target", "targets")


def forward(network: nn.Module, batch: Any) -> Any:
    """Call a network on a batch, whatever the form of the batch.

    Parameters
    ----------
    network
        Any module.
    batch
        A tensor is the input. Of a tuple or a list the first element is. A mapping, such as the
        batches of a tokenizer, is given by keyword, without its ``labels``, ``label``, ``target``
        and ``targets``.

    Returns
    -------
    Any
        What the network returns.

    Examples
    --------
    >>> import torch
    >>> double = nn.Linear(1, 1, bias=False).requires_grad_(False)
    >>> _ = double.weight.fill_(2.0)
    >>> x, y = torch.ones(1, 1), torch.zeros(1)
    >>> [forward(double, batch).item() for batch in (x, (x, y), {"input": x, "labels": y})]
    [2.0, 2.0, 2.0]
    """
    arguments, keywords = inputs_of(batch)
    return network(*arguments, **keywords)


def inputs_of(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that :func:`forward` calls a network with, by place and by name."""
    if isinstance(batch, list | tuple) and batch:
        batch = batch[0]
    if isinstance(batch, Mapping):
        return (), {name: item for name, item in batch.items() if name not in _TARGETS}
    return (batch,), {}


@dataclass(frozen=True)
class RecordedCall:
    """A call of a module: what it was given, and what it returned."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Any


@contextmanager
def recorded_calls(module: nn.Module) -> Iterator[list[RecordedCall]]:
    """Note the calls of a module while a context lasts, in their order.

    Examples
    --------
    >>> import torch
    >>> with recorded_calls(nn.ReLU()) as calls:
    ...     pass
    >>> calls
    []
    """
    calls: list[RecordedCall] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(RecordedCall(args, kwargs, output))

    hook = module.register_forward_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def tensors_of(value: Any, name: str = "") -> dict[str, Tensor]:
    """Collect the floating-point tensors of an output, or of arguments, by where they are.

    Scalars are left out: a loss that a network computes for itself is no output of it.

    Parameters
    ----------
    value
        A tensor, or lists, tuples, mappings and data classes of them, nested as they may be.
    name
        What to call the value itself; its parts get ``name.part``.

    Examples
    --------
    >>> import torch
    >>> sorted(tensors_of({"logits": torch.ones(2, 3), "states": (torch.ones(2), None)}))
    ['logits', 'states.0']
    """
    if isinstance(value, Tensor):
        return {name: value} if value.is_floating_point() and value.ndim else {}
    if isinstance(value, Mapping):
        parts = {str(key): item for key, item in value.items()}
    elif isinstance(value, list | tuple):
        parts = {str(place): item for place, item in enumerate(value)}
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
    else:
        return {}
    found: dict[str, Tensor] = {}
    for part, item in parts.items():
        found |= tensors_of(item, f"{name}.{part}" if name else part)
    return found

"""Trees of state in one safetensors file: written in one piece, read without running code.

The structure of the tree is JSON in the file's metadata, its tensors and arrays are the file's
tensors. A digest over both is kept, because the format itself does not notice a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import replacing

__all__ = ["dump_state", "load_state", "save_state", "stored_tensors"]

_FORMAT = "nas_space.state/1"
_ARRAY_KINDS = "biufcSUMm"
"""Kinds of numpy arrays whose bytes say everything: no objects, no structures."""


def save_state(path: str | Path, tree: Any) -> None:
    """Write a tree of state to a file, all of it or nothing.

    Parameters
    ----------
    path
        The file. One that is there is replaced at the last moment, so that a crash leaves either
        the old state or the new.
    tree
        Dicts, lists and tuples, nested at will, of tensors, numpy arrays and scalars, integers of
        any size, floats, strings, bytes, booleans and None. Keys may be anything of these that
        hashes. A tensor that occurs several times is stored once, and is one tensor again after
        loading; tensors that share memory in other ways are stored separately.

    Raises
    ------
    CheckpointError
        Something of another type is in it, named by its place. The file is as it was.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name, "state.safetensors")
    >>> save_state(file, {"step": 3, "weights": [torch.ones(2)], "huge": 10**40})
    >>> load_state(file)
    {'step': 3, 'weights': [tensor([1., 1.])], 'huge': 10000000000000000000000000000000000000000}
    >>> folder.cleanup()
    """
    tensors, metadata = _stored(tree, f"{path}: ")
    with replacing(Path(path)) as temporary:
        save_file(tensors, temporary, metadata)


def dump_state(tree: Any) -> bytes:
    """Return what :func:`save_state` would write to a file, to be sent or kept in memory.

    Parameters
    ----------
    tree
        As of :func:`save_state`.

    Raises
    ------
    CheckpointError
        Something of another type is in it, named by its place.

    Examples
    --------
    >>> load_state(dump_state({"step": 3}))
    {'step': 3}
    """
    return save(*_stored(tree, ""))


def _stored(tree: Any, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file that holds a tree."""
    encoder = _Encoder()
    try:
        structure = json.dumps(encoder.encode(tree, "state"), allow_nan=False)
    except RecursionError as error:
        raise CheckpointError(f"{where}the state is nested too deeply, or in itself") from error
    tensors = stored_tensors(encoder.tensors)
    digest = _digest(structure, tensors)
    return tensors, {"format": _FORMAT, "structure": structure, "sha256": digest}


def load_state(path: str | Path | bytes) -> Any:
    """Read a tree of state from a file.

    Parameters
    ----------
    path
        A file written by :func:`save_state`, or what :func:`dump_state` gave. It may come from
        anywhere: no code in it is run.

    Returns
    -------
    Any
        The tree, its tensors on the CPU.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, cut short, or something else.
    """
    if isinstance(path, bytes):
        metadata, tensors = _parsed(path)
        path = Path("what was sent")
    else:
        path = Path(path)
        metadata, tensors = read_safetensors(path)
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} is not a state written by save_state(), but has the format "
            f"{metadata.get('format')!r} instead of {_FORMAT!r}"
        )
    structure = metadata.get("structure", "")
    if metadata.get("sha256") != _digest(structure, tensors):
        raise CheckpointError(f"{path} is damaged: its contents do not match their checksum")
    try:
        return _Decoder(tensors).decode(json.loads(structure))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} describes no state: {error}") from error


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors of a safetensors file, or raise a CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies: the file is mapped into memory, where whoever changes it would change them.
            return metadata, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged, cut short, or no safetensors file: {error}"
        ) from error


def _parsed(content: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return metadata and tensors of what a safetensors file would hold."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return header.get("__metadata__", {}), load(content)
    except (SafetensorError, AttributeError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the state that was sent is damaged: {error}") from error


def stored_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make tensors ready for a safetensors file: on the CPU, contiguous, sharing no memory."""
    stored: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().resolve_neg().contiguous()
        storage = plain.untyped_storage()
        if storage.nbytes() != plain.nbytes or storage.data_ptr() in memory:
            plain = plain.clone(memory_format=torch.contiguous_format)
        memory.add(plain.untyped_storage().data_ptr())
        stored[name] = plain
    return stored


def identity_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return what tied tensors have in common: one piece of memory, read in one way."""
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def digest_of(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return a checksum of what a safetensors file holds."""
    return _digest(json.dumps(metadata, sort_keys=True), tensors)


def _digest(structure: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # Its memory holds it and nothing else, but may have odd strides where an axis has length 1.
        content = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        digest.update(content.numpy().data)
    return digest.hexdigest()


class _Encoder:
    """Turns a tree into JSON and collects its tensors.

    What JSON has stays as it is; everything else becomes a list that begins with its kind.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def encode(self, node: Any, place: str) -> Any:
        # Exact types: a subclass would silently come back as its base.
        if node is None or type(node) in {bool, str}:
            return node
        if type(node) is int:
            # JSON has larger ones, but Python refuses to read numbers of many digits.
            return node if abs(node) < 2**63 else ["int", hex(node)]
        if type(node) is float:
            return node if math.isfinite(node) else ["float", repr(node)]
        if isinstance(node, Mapping):
            return [
                "dict",
                *(
                    [self.encode(k, f"a key of {place}"), self.encode(v, f"{place}[{k!r}]")]
                    for k, v in node.items()
                ),
            ]
        if type(node) in {list, tuple}:
            kind = type(node).__name__
            return [kind, *(self.encode(v, f"{place}[{i}]") for i, v in enumerate(node))]
        if type(node) is bytes:
            return ["bytes", node.hex()]
        if isinstance(node, Tensor):
            return self._tensor(node, place)
        if isinstance(node, np.ndarray | np.generic) and node.dtype.kind in _ARRAY_KINDS:
            return self._array(node)
        raise CheckpointError(
            f"{place} is a {type(node).__name__}, which cannot be saved; there may be dicts, "
            "lists, tuples, tensors, numpy arrays, numbers, strings, bytes, booleans and None"
        )

    def _tensor(self, tensor: Tensor, place: str) -> Any:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise CheckpointError(
                f"{place} is a sparse, quantised or meta tensor; save a dense one"
            )
        if tensor.is_complex():
            return ["complex", self._tensor(torch.view_as_real(tensor.resolve_conj()), place)]
        # Tied tensors are one piece of memory, read in one way.
        identity = identity_of(tensor)
        name = self._names.get(identity) if tensor.numel() else None
        if name is None:
            name = self._store(tensor)
            self._names[identity] = name
        return ["tensor", name]

    def _array(self, array: np.ndarray[Any, Any] | np.generic) -> Any:
        flat = np.frombuffer(bytearray(array.tobytes()), np.uint8)
        kind = "array" if isinstance(array, np.ndarray) else "scalar"
        name = self._store(torch.from_numpy(flat))
        return [kind, name, array.dtype.str, list(array.shape)]

    def _store(self, tensor: Tensor) -> str:
        name = str(len(self.tensors))
        self.tensors[name] = tensor
        return name


class _Decoder:
    """Turns JSON into a tree; for anything unexpected, load_state expects the errors."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.kinds: dict[str, Callable[..., Any]] = {
            "int": lambda digits: int(digits, 16),
            "float": float,
            "bytes": bytes.fromhex,
            "dict": lambda *items: {self.decode(k): self.decode(v) for k, v in items},
            "list": lambda *items: [self.decode(item) for item in items],
            "tuple": lambda *items: tuple(self.decode(item) for item in items),
            "tensor": lambda name: self.tensors[name],
            "complex": lambda node: torch.view_as_complex(self.decode(node)),
            "array": self._array,
            "scalar": lambda *parts: self._array(*parts)[()],
        }

    def decode(self, node: Any) -> Any:
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise ValueError("it has an object of JSON, which is never written")
            return node
        kind, *parts = node
        if kind not in self.kinds:
            raise ValueError(f"it has something of the unknown kind {kind!r}")
        return self.kinds[kind](*parts)

    def _array(self, name: str, dtype: str, shape: list[int]) -> Any:
        if not re.fullmatch(rf"[<>|][{_ARRAY_KINDS}]\d+(\[\w+\])?", dtype):
            raise ValueError(f"it has an array of the type {dtype!r}")
        kind = np.dtype(dtype)
        # Of a bytearray, so that the array can be written to.
        content = bytearray(self.tensors[name].numpy().tobytes())
        if not kind.itemsize:  # of strings without a character
            return np.zeros(shape, kind)
        return np.frombuffer(content, kind).reshape(shape)

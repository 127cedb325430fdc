"""Keep a network that was made small: as its library does, or as what differs from the original.

A library's own format holds sizes in a configuration.  Where that can say all sizes of a network,
it is brought up to date, and ``save_pretrained`` works as ever.  Any network can be saved as its
tensors and the numbers in its modules: with the original, or what makes it, they give the network
back.  Nothing that is read runs code.
"""

from __future__ import annotations

import copy
import functools
import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
from safetensors.torch import save_file
from torch import nn

from ..errors import CheckpointError, StorageError, UsageError
from ..files import replacing
from ..nn.copying import copied
from ..schema import checked
from ..training.checkpoint import digest_of, read_safetensors
from .adopted import AdoptedBlocks, origin_of
from .layouts import Layout, Product, Sum, indices
from .sorting import TensorLayout
from .symbolic import own_tensors

__all__ = ["became", "guard_saving", "load_network", "save_network", "sizes_in_config"]

_FILE, _WEIGHTS = "network.json", "weights.safetensors"
_FORMAT = 1
_PLAIN = (int, float, bool, str, type(None))
_MOST_CONFIGS = 64


_SavedModule = TypedDict(
    "_SavedModule", {"class": str, "children": list[str], "attributes": dict[str, Any]}
)

_Saved = TypedDict(
    "_Saved",
    {
        "format": int, "class": str, "maker": str | None, "config": dict[str, Any] | None,
        "architecture": dict[str, Any] | None, "order": NotRequired[str | None], "training": bool,
        "modules": dict[str, _SavedModule], "shared": dict[str, str],
    },
)  # fmt: skip


# -- a network by itself -------------------------------------------------------------------------


def save_network(network: nn.Module, folder: str | Path, *, maker: str | None = None) -> None:
    """Save a network that was made small, so that :func:`load_network` gives it back.

    Parameters
    ----------
    network
        Any network: its tensors, and numbers and names that its modules hold, are saved.
    folder
        Where to; it is made.
    maker
        ``"module:function"``, what makes the original when it is called: its name is saved, so
        that who trusts it need not give the original to :func:`load_network`.

    Raises
    ------
    UsageError
        If there is no such function.

    Examples
    --------
    >>> import tempfile
    >>> from nas_space import elastic, load_network
    >>> def make():
    ...     return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    >>> x = torch.ones(1, 4)
    >>> small = elastic(make(), x).freeze({"0.width": 8})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_network(small, folder)
    ...     again = load_network(folder, make)
    >>> torch.equal(again(x), small(x))
    True
    """
    if maker is not None:
        _function(maker)
    folder = Path(folder)
    config: Any = getattr(network, "config", None)
    arch, order = origin_of(network)
    described: dict[str, Any] = {
        "format": _FORMAT,
        "class": _name_of(type(network)),
        "maker": maker,
        "config": config.to_dict() if hasattr(config, "to_dict") else None,
        "architecture": arch,
        "order": order,
        "training": network.training,
        "modules": {path: _described(module) for path, module in network.named_modules()},
    }
    tensors = {name: t.detach().contiguous() for name, t in _tensors(network)}
    shared: dict[int, str] = {}
    described["shared"] = {
        name: shared[id(tensor)]
        for name, tensor in _tensors(network)
        if shared.setdefault(id(tensor), name) != name
    }
    kept = {n: t.clone() for n, t in tensors.items() if n not in described["shared"]}
    # As it will be read: what JSON cannot hold is text then, and keys are.
    described = json.loads(json.dumps(described, default=_refuse))
    described["sha256"] = _digest(described, kept)
    text = json.dumps(described, indent=1)
    with replacing(folder / _WEIGHTS) as file:
        save_file(kept, file)
    with replacing(folder / _FILE) as file:
        file.write_text(text, encoding="utf-8")


def _digest(described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a checksum of all that is saved."""
    return digest_of({"described": json.dumps(described)}, tensors)


def _refuse(value: Any) -> Any:
    return repr(value)  # of a configuration; what cannot be written is taken from the original


def _tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers by name, each of those that are shared as often as it is there."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def _described(module: nn.Module) -> dict[str, Any]:
    numbers = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and _is_plain(value)
    }
    children = [name for name, child in module._modules.items() if child is not None]
    return {"class": _name_of(type(module)), "children": children, "attributes": numbers}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _name_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def load_network(folder: str | Path, original: Any = None, *, trust: bool = False) -> nn.Module:
    """Load a network that :func:`save_network` has saved.

    Parameters
    ----------
    folder
        Where it is.
    original
        The network that it was made of, or a function that makes one: code is not saved.  It is
        copied.  Networks of ``transformers`` are made of the configuration that was saved.
    trust
        Whether to import and call what the files name: the maker that was saved, or else the class
        of the network, without arguments.  Else nothing that a file says is imported, but classes
        of ``transformers``; nothing is unpickled in any case.

    Returns
    -------
    nn.Module

    Raises
    ------
    CheckpointError
        If the files are none of a network, or of another one.
    UsageError
        If the original is needed, and was not given.

    Examples
    --------
    >>> import tempfile
    >>> from nas_space import load_network, save_network
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_network(nn.Linear(4, 2), folder)
    ...     load_network(folder, nn.Linear(4, 2))
    Linear(in_features=4, out_features=2, bias=True)
    """
    folder = Path(folder)
    described, tensors = _read(folder)
    modules = described["modules"]
    net = _original(described, original, trust)
    if _name_of(type(net)) != described["class"]:
        raise CheckpointError(
            f"{folder} holds a {described['class']}, but the original is a {_name_of(type(net))}"
        )
    tensors |= {name: tensors[other] for name, other in described["shared"].items()}
    made: dict[str, Any] = {}
    _rebuild(net, "", modules, tensors, described["shared"], made, folder)
    for name in ("architecture", "order"):
        if described.get(name) is not None:
            net.__dict__[f"_{name}"] = described[name]
    return net.train(described["training"])


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return what the files of a network say."""
    file = folder / _FILE
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(described, dict) and described.get("format", _FORMAT) != _FORMAT:
            raise CheckpointError(f"{folder} was saved in another format: {described['format']}")
        described = checked(described, _Saved, file)
        _, tensors = read_safetensors(folder / _WEIGHTS)
    except (OSError, RecursionError, ValueError, StorageError) as error:
        raise CheckpointError(f"{folder} holds no network that can be read: {error}") from error
    digest = described.pop("sha256", None)  # earlier versions wrote none
    if digest is not None and digest != _digest(described, tensors):
        raise CheckpointError(
            f"{folder} is damaged: {_FILE} and {_WEIGHTS} do not match their checksum"
        )
    paths = [
        f"{path}.{name}" if path else name
        for path, module in described["modules"].items()
        for name in module["children"]
    ]
    missing = [path for path in ("", *paths) if path not in described["modules"]]
    missing += [name for name in described["shared"].values() if name not in tensors]
    if missing:
        raise CheckpointError(f"{file} is damaged: it says nothing of {missing[0]!r}")
    return described, tensors


def _original(described: Mapping[str, Any], original: Any, trust: bool) -> nn.Module:
    if isinstance(original, nn.Module):
        return copied(original)
    module, _, name = described["class"].partition(":")
    if original is None and described.get("config") and module.startswith("transformers."):
        cls = getattr(importlib.import_module(module), name)
        return cls(cls.config_class.from_dict(described["config"]))  # type: ignore[no-any-return]
    if original is None:
        maker = described.get("maker") or described["class"]
        if not trust:
            raise UsageError(
                f"a {name} is made by code of its own: give the network that it was made of, or a "
                "function that makes one, load_network(folder, make); or with trust=True have "
                f"{maker} imported and called"
            )
        original = _function(maker)
    try:
        made = original()
    except Exception as error:
        raise UsageError(
            f"{getattr(original, '__name__', original)}() does not make the original: {error}"
        ) from error
    if not isinstance(made, nn.Module):
        raise UsageError(f"the function returned a {type(made).__name__}, not a network")
    return made


def _function(spec: str) -> Callable[[], Any]:
    """What ``module:function`` names."""
    module, _, name = spec.partition(":")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a module does when it is imported
        raise UsageError(f"there is no function {spec!r}, as module:function: {error}") from error
    if not callable(found):
        raise UsageError(f"{spec} is a {type(found).__name__}, no function")
    return cast("Callable[[], Any]", found)


def _rebuild(
    module: nn.Module,
    path: str,
    modules: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    shared: Mapping[str, str],
    made: dict[str, Any],
    folder: Path,
) -> None:
    known = modules.get(path)
    if known is None:
        raise CheckpointError(f"{folder} says nothing of the part {path!r} that the original has")
    children = {name: child for name, child in module._modules.items() if child is not None}
    if known["children"] != list(children):
        children = _chosen(known["children"], children, path, modules, folder)
        module._modules.clear()
        module._modules.update(children)
    for name, value in known["attributes"].items():
        was = vars(module).get(name)
        vars(module)[name] = tuple(value) if isinstance(was, tuple) else value
    for kind in (module._parameters, module._buffers):
        for name, tensor in kind.items():
            if tensor is None:
                continue
            full = f"{path}.{name}" if path else name
            if full not in tensors:
                raise CheckpointError(f"{folder} has no tensor {full!r}: it is of another network")
            first = shared.get(full, full)
            if first not in made:
                new = tensors[first].clone()  # in memory of its own, where kernels expect it
                is_parameter = isinstance(tensor, nn.Parameter)
                made[first] = nn.Parameter(new, tensor.requires_grad) if is_parameter else new
            kind[name] = made[first]
    for name, child in children.items():
        below = f"{path}.{name}" if path else name
        _rebuild(child, below, modules, tensors, shared, made, folder)


def _chosen(
    names: list[str],
    children: Mapping[str, nn.Module],
    path: str,
    modules: Mapping[str, Any],
    folder: Path,
) -> dict[str, nn.Module]:
    """Of the blocks of the original, as many of each class as there are left, in order."""
    left = list(children.values())
    found = {}
    for name in names:
        wanted = modules[f"{path}.{name}" if path else name]
        place = next((i for i, c in enumerate(left) if _fits(c, wanted)), None)
        if place is None:
            raise CheckpointError(f"{folder} has a block {path}.{name} that the original lacks")
        found[name] = left[place]
        del left[: place + 1]
    return found


def _fits(module: nn.Module, wanted: Mapping[str, Any]) -> bool:
    children = [name for name, child in module._modules.items() if child is not None]
    return _name_of(type(module)) == wanted["class"] and (
        children == wanted["children"] or isinstance(module, (nn.ModuleList, nn.Sequential))
    )


# -- a configuration that says sizes --------------------------------------------------------------


def became(space: nn.Module, plan: TensorLayout, values: Any) -> dict[int, set[int]]:
    """Return, by size in the original, what it has become in an architecture.

    Sizes are dimensions, what these are products of, and numbers of blocks.
    """
    found: dict[int, set[int]] = {}
    known = plan.values(values.active)
    varying = {(place, axis.dim): axis.layout for axis in plan.axes for place in axis.places}
    for path, module in space.named_modules():
        for name, tensor in own_tensors(module).items():
            for dim, size in enumerate(tensor.shape):
                layout = varying.get(((path, name), dim), size)
                for part in _parts_of(layout):
                    if part is not layout and isinstance(part, int):
                        continue  # as of how many matrices are packed in one
                    kept, whole = indices(part, known, plan.sizes)
                    found.setdefault(whole, set()).add(len(kept))
        if isinstance(module, AdoptedBlocks):
            kept_blocks = module.there(values)
            found.setdefault(len(module._modules), set()).add(len(kept_blocks))
    return found


def _parts_of(layout: Layout) -> Iterator[Layout]:
    """A layout, and the products in it that a library may have a name for."""
    yield layout
    if isinstance(layout, (Sum, Product)):
        for part in layout.parts:
            yield from _parts_of(part)
    if isinstance(layout, Product):
        n = len(layout.parts)
        for start, end in itertools.combinations(range(n + 1), 2):
            if 1 < end - start < n:
                yield Product(layout.parts[start:end])


def sizes_in_config(network: Any, changed: Mapping[int, set[int]]) -> None:
    """Bring a configuration up to date where one value of the original became one other.

    Parameters
    ----------
    network
        A frozen network, with a configuration of its own.
    changed
        By size in the original, the sizes that this has become.
    """
    for config, name, value in _numbers(network.config):
        new = changed.get(value, set())
        if len(new) == 1:
            _assign(config, name, next(iter(new)))


def _numbers(config: Any) -> list[tuple[Any, Any, int]]:
    """The whole numbers in a configuration, those in lists and in configurations in it included."""
    found: list[tuple[Any, Any, int]] = []
    for name, value in vars(config).items():
        if name.startswith("_") or name.endswith(("_id", "_ids")):  # of tokens: no sizes
            continue
        if type(value) is int and value > 1:
            found.append((config, name, value))
        elif isinstance(value, list) and value and all(type(item) is int for item in value):
            found += [(value, place, item) for place, item in enumerate(value) if item > 1]
        elif hasattr(value, "to_dict"):
            found += _numbers(value)
    return found


def _assign(holder: Any, name: Any, value: int) -> None:
    if isinstance(holder, list):
        holder[name] = value
    else:
        setattr(holder, name, value)


def guard_saving(network: Any, changed: Mapping[int, set[int]]) -> None:
    """Have ``save_pretrained`` of a network look first whether its configuration says all sizes."""
    network.__dict__["save_pretrained"] = functools.partial(_save, network, dict(changed))


def _save(network: Any, changed: Mapping[int, set[int]], *args: Any, **kwargs: Any) -> Any:
    difference = _difference(network, network.config)
    if difference is not None:
        numbers = _numbers(network.config)
        options = [sorted({value, *_became(value, changed)}) for _, _, value in numbers]
        for chosen in itertools.islice(itertools.product(*options), _MOST_CONFIGS):
            before = [value for _, _, value in numbers]
            for (holder, name, _), value in zip(numbers, chosen, strict=True):
                _assign(holder, name, value)
            if _difference(network, network.config) is None:
                break
            for (holder, name, _), value in zip(numbers, before, strict=True):
                _assign(holder, name, value)
        else:
            raise UsageError(
                f"the configuration of {type(network).__name__} cannot say the sizes of this "
                f"network: {difference}; use nas_space.save_network(net, folder), and "
                "nas_space.load_network(folder)"
            )
    guard = network.__dict__.pop("save_pretrained")
    try:
        return network.save_pretrained(*args, **kwargs)
    finally:
        network.__dict__["save_pretrained"] = guard


def _became(value: int, changed: Mapping[int, set[int]]) -> set[int]:
    return changed.get(value, set())


def _difference(network: Any, config: Any) -> str | None:
    """In what a network that is made of a configuration differs; ``None`` if in nothing."""
    make: Callable[[Any], nn.Module] = type(network)
    try:
        with torch.device("meta"):
            other = make(copy.deepcopy(config))
    except Exception as error:  # noqa: BLE001 - a configuration that its class refuses
        return f"it is refused ({type(error).__name__}: {error})"
    theirs = {name: tuple(tensor.shape) for name, tensor in other.state_dict().items()}
    for name, tensor in network.state_dict().items():
        if theirs.get(name) != tuple(tensor.shape):
            return f"{name} is {tuple(tensor.shape)}, it would be {theirs.get(name)}"
    modules = dict(other.named_modules())
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, (int, float, tuple)) and not name.startswith("_"):
                found = vars(modules[path]).get(name, value) if path in modules else None
                if name != "training" and _is_plain(value) and found != value:
                    return f"{path}.{name} is {value}, it would be {found}"
    return None

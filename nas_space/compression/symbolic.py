"""Run a network once on tensors whose sizes are symbols, and note what its code asks of them.

The only file that stands on ``torch.fx.experimental.symbolic_shapes``, which torch does not
promise to keep.  What comes out is plain: symbols of sympy, and equations between them.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Any, TypeAlias

import sympy  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn
from torch._dynamo.source import ConstantSource
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._sympy.functions import FloorDiv, Mod, PythonMod

from . import layer_rules, movement_rules  # noqa: F401 - which register what they say
from .attributes import candidates
from .constants import Constants
from .rules import Rules

__all__ = [
    "Equation",
    "Origin",
    "Trace",
    "Where",
    "follow",
    "forgetting_caches",
    "is_own_code",
    "keeping",
    "leaves_of",
    "own_tensors",
    "tensors_of",
]

Symbol: TypeAlias = Any

_OURS = str(Path(__file__).parents[1])
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Origin:
    """What a symbol stands for: a dimension of a tensor, or an attribute.

    Attributes
    ----------
    path
        Of the module that owns it.
    name
        Of the tensor or attribute.
    dim
        The dimension; ``None`` for an attribute.
    size
        Its value in the network as it is.
    place
        Which item of an attribute that is a tuple.
    """

    path: str
    name: str
    dim: int | None
    size: int
    place: int | None = None

    def __str__(self) -> str:
        place = f"{self.path}.{self.name}" if self.path else self.name
        return place if self.dim is None else f"{place}[{self.dim}]"


@dataclass(frozen=True)
class Where:
    """Where the code asks for something: the module, and the line."""

    path: str = ""
    line: str = ""

    def __str__(self) -> str:
        module = f"in {self.path or 'the network'}"
        return f"at {self.line} {module}" if self.line else module


@dataclass(frozen=True)
class Equation:
    """Something that is zero, and where the code needs it to be."""

    zero: sympy.Expr
    where: Where


@dataclass
class Call:
    """The first call of a module: the sizes of its first tensor, and of the first it returns.

    Attributes
    ----------
    length
        Of the tuple that it returns, if it does.
    count
        How often it was called.
    returned
        The first tensor that it returned last.
    """

    inputs: tuple[Any, ...] | None
    outputs: tuple[Any, ...] | None
    length: int | None
    count: int = 1
    returned: Tensor | None = None


@dataclass
class Trace:
    """What one run has shown.

    Attributes
    ----------
    origins
        What each symbol stands for.
    equations
        What holds between them.
    outputs
        The sizes of the tensors that the network returns.
    calls
        By path, how modules were called.
    notes
        What could not be followed, and why.
    compositions
        That a size is a ``'sum'`` or a ``'product'`` of others, in the order of the elements.
    """

    origins: dict[Symbol, Origin] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    outputs: list[tuple[Any, ...]] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    compositions: list[tuple[str, Any, tuple[Any, ...]]] = field(default_factory=list)

    def compose(self, kind: str, whole: Any, parts: Sequence[Any]) -> None:
        """Note of what a size is made."""
        noted = (kind, *expressions([whole]), expressions(parts))
        if noted not in self.compositions:
            self.compositions.append(noted)


_ROUNDING = (FloorDiv, Mod, PythonMod)


class _Sizes(ShapeEnv):
    """A shape environment that notes equalities, and decides everything by the present sizes.

    torch's own keeps guards on ranges and reasons about them, for minutes in a large network.
    Here only equalities count: whether a smaller network runs is tried afterwards.
    """

    def __init__(self, trace: Trace, paths: Mapping[int, str]) -> None:
        super().__init__(duck_shape=False, allow_dynamic_output_shape_ops=False)
        self.trace = trace
        self.paths = paths

    def symbol(self, origin: Origin) -> Any:
        source = ConstantSource(f"{origin}")
        made: Any = self.create_unspecified_symint_and_symbol(
            origin.size, source, DimDynamic.DYNAMIC
        )
        self.trace.origins[made.node.expr] = origin
        return made

    def evaluate_expr(
        self,
        orig_expr: Any,
        hint: Any = None,
        fx_node: Any = None,
        size_oblivious: bool = False,
        fallback_value: bool | None = None,
        **_: Any,
    ) -> Any:
        expr = self.replace(orig_expr)
        if not getattr(expr, "free_symbols", None):
            return expr
        expr = self._without_windows(expr)
        if not expr.free_symbols:
            return expr
        value = expr.xreplace(self.backed_var_to_val)
        if value.free_symbols:  # something that only running on values would tell
            if fallback_value is not None:
                return sympy.sympify(fallback_value)
            raise RuntimeError("a decision is taken on the values of a tensor")
        if isinstance(value, sympy.logic.boolalg.BooleanAtom):
            self._compared(expr, bool(value))
        else:  # a plain number is needed
            self._zero(expr - value)
        return value

    def _without_windows(self, expr: Any) -> Any:
        """Holds attributes by which a plain number is divided, such as the size of a window.

        These are no sizes of tensors, and the paddings and numbers of windows that follow from
        them are expressions that grow for minutes.
        """
        for atom in expr.atoms(*_ROUNDING):
            if len(atom.args) == 2 and atom.args[0].is_number:
                for symbol in atom.args[1].free_symbols:
                    origin = self.trace.origins[symbol]
                    if origin.dim is None and symbol not in self.replacements:
                        self._zero(symbol - origin.size)
        return self.replace(expr)

    def _compared(self, expr: Any, holds: bool) -> None:
        if isinstance(expr, sympy.Not):
            self._compared(expr.args[0], not holds)
        elif isinstance(expr, sympy.And) and holds:
            for part in expr.args:
                self._compared(part, True)
        elif (isinstance(expr, sympy.Eq) and holds) or (isinstance(expr, sympy.Ne) and not holds):
            self._zero(expr.lhs - expr.rhs)

    def _zero(self, zero: Any) -> None:
        zero = self.replace(zero)
        if not zero.free_symbols:
            return
        self.trace.equations.append(Equation(zero, where(self.paths)))
        # A symbol that is another, or a number, is replaced at once: later sizes stay short.
        symbols = sorted(zero.free_symbols, key=lambda s: s.name, reverse=True)
        for symbol in symbols:
            rest = sympy.expand(symbol - zero) if zero.coeff(symbol) == 1 else None
            if rest is None and zero.coeff(symbol) == -1:
                rest = sympy.expand(symbol + zero)
            if rest is not None and (rest.is_Symbol or rest.is_Integer):
                self.replacements[symbol] = rest
                self._update_version_counter()
                return


def is_own_code(file: str) -> bool:
    """Return whether a file is neither torch's, nor sympy's, nor ours."""
    return not file.startswith((_OURS, _TORCH, "<")) and "sympy" not in file


def where(paths: Mapping[int, str]) -> Where:
    """Return the innermost line that is neither torch's nor ours, and the module that runs it.

    There is none where layers of torch are called by others of torch: who called us is no part of
    the network.
    """
    frame: Any = sys._getframe(1)
    line = path = None
    while (
        frame is not None and frame.f_code is not follow.__code__ and (line is None or path is None)
    ):
        file = frame.f_code.co_filename
        if not file.startswith((_OURS, "<")):
            if line is None and is_own_code(file):
                line = f"{'/'.join(Path(file).parts[-2:])}:{frame.f_lineno}"
            owner = frame.f_locals.get("self")
            if path is None and isinstance(owner, nn.Module):
                path = paths.get(id(owner))
        frame = frame.f_back
    return Where(path or "", line or "")


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that a module itself has, by name."""
    held = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in held.items() if tensor is not None}


def tensors_of(net: nn.Module) -> dict[int, tuple[Tensor, list[tuple[str, str]]]]:
    """Return parameters and buffers by identity, with the modules and names they stand under."""
    found: dict[int, tuple[Tensor, list[tuple[str, str]]]] = {}
    for path, module in net.named_modules():
        for name, tensor in own_tensors(module).items():
            found.setdefault(id(tensor), (tensor, []))[1].append((path, name))
    return found


def follow(
    net: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], fixed: frozenset[str]
) -> Trace:
    """Run a network on symbolic sizes.

    Parameters
    ----------
    net
        The network, which is left as it was.
    args, kwargs
        Its inputs, whose sizes stay as they are.
    fixed
        Paths of modules of which attributes are left as numbers.
    """
    trace = Trace()
    paths = {id(module): path for path, module in net.named_modules()}
    sizes = _Sizes(trace, paths)
    mode = FakeTensorMode(shape_env=sizes, allow_non_fake_inputs=True)
    mode.cache_enabled = False  # to look for what was seen already takes longer with symbols
    with _quiet():
        fakes = _fakes(net, mode, sizes)
    given = torch.utils._pytree.tree_map_only(
        Tensor, lambda t: mode.from_tensor(t.detach(), static_shapes=True), (args, dict(kwargs))
    )
    leaves = map(torch.utils._pytree.tree_leaves, ((args, dict(kwargs)), given))
    pairs = [pair for pair in zip(*leaves, strict=True) if isinstance(pair[0], Tensor)]
    constants = Constants(mode, pairs)
    handles: list[Any] = []
    with keeping(net), forgetting_caches(net), _hashable(), _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, module in net.named_modules():
            for name, value in candidates(module):
                if path not in fixed:
                    module.__dict__[name] = (
                        tuple(
                            sizes.symbol(Origin(path, name, None, item, place))
                            for place, item in enumerate(value)
                        )
                        if isinstance(value, tuple)
                        else sizes.symbol(Origin(path, name, None, value))
                    )
            handles.append(module.register_forward_hook(_noting(trace, path), with_kwargs=True))
        try:
            with mode, torch.no_grad(), Rules(trace.compose), constants:
                result = torch.func.functional_call(net, fakes, given[0], given[1])
        finally:
            for handle in handles:
                handle.remove()
    trace.outputs = [expressions(leaf.shape) for leaf in leaves_of(result)]
    return trace


def _fakes(net: nn.Module, mode: Any, sizes: _Sizes) -> dict[str, Tensor]:
    """Return by path what stands for each tensor of a network."""
    fakes: dict[str, Tensor] = {}
    for tensor, places in tensors_of(net).values():
        owner = places[0][0].removesuffix(".parametrizations.weight")
        is_convolution = isinstance(net.get_submodule(owner), nn.modules.conv._ConvNd)
        fake = _fake(mode, sizes, tensor, places[0], is_convolution)
        for path, name in places:
            fakes[f"{path}.{name}" if path else name] = fake
    return fakes


def _fake(
    mode: Any, sizes: _Sizes, tensor: Tensor, place: tuple[str, str], is_convolution: bool
) -> Tensor:
    if not tensor.is_floating_point():
        return mode.from_tensor(tensor.detach(), static_shapes=True)  # type: ignore[no-any-return]
    # Kernels stay numbers: they are varied from the middle, not by what the code asks of sizes.
    # Norms of weights and the like put other tensors in the place of the weight.
    is_kernel = is_convolution and place[1].startswith(("weight", "original"))
    dims = 2 if is_kernel else tensor.dim()
    extents = [
        size if size <= 1 or dim >= dims else sizes.symbol(Origin(*place, dim, size))
        for dim, size in enumerate(tensor.shape)
    ]
    with mode:
        return torch.empty(extents, dtype=tensor.dtype, device=tensor.device)


def _noting(trace: Trace, path: str) -> Callable[..., None]:
    def hook(_: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        out = result[0] if isinstance(result, (tuple, list)) and result else result
        known = trace.calls.get(path)
        if known is not None:
            known.count += 1
            known.returned = out if isinstance(out, Tensor) else None
            return
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        trace.calls[path] = Call(
            None if first is None else (*expressions(first.shape), first.dtype),
            (*expressions(out.shape), out.dtype) if isinstance(out, Tensor) else None,
            len(result) if isinstance(result, (tuple, list)) else None,
            returned=out if isinstance(out, Tensor) else None,
        )

    return hook


def expressions(shape: Sequence[Any]) -> tuple[Any, ...]:
    """Return sizes as expressions of sympy, or numbers."""
    return tuple(size.node.expr if isinstance(size, torch.SymInt) else size for size in shape)


def leaves_of(result: Any) -> list[Tensor]:
    """Return the tensors in what a network returns, outputs of libraries included."""
    if isinstance(result, Mapping):
        result = [leaves_of(value) for value in result.values()]
    elif isinstance(result, (tuple, list)):
        result = [leaves_of(value) for value in result]
    return [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


_REGISTERED = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict))


@contextmanager
def keeping(net: nn.Module) -> Iterator[None]:
    """Enter a context after which all modules hold what they held before, with the same values.

    Of parameters no forward changes any, of buffers some do.
    """
    held = [
        # With what torch keeps in dictionaries: tensors, modules, and hooks, which libraries add
        # when a network first runs.
        (m, dict(vars(m)), {k: dict(vars(m)[k]) for k in _REGISTERED if k in vars(m)})
        for m in net.modules()
    ]
    values = [(b, b.detach().clone(), b._version) for b in net.buffers()]
    try:
        yield
    finally:
        for module, state, registered in held:
            for kind, tensors in registered.items():
                state[kind].clear()
                state[kind].update(tensors)
            vars(module).clear()
            vars(module).update(state)
        for buffer, value, version in values:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)


@contextmanager
def forgetting_caches(net: nn.Module) -> Iterator[None]:
    """Enter a context around which functions that remember results forget them.

    Else a later run would be given tensors of this one.
    """
    caches = {id(cache): cache for module in net.modules() for cache in _caches(type(module))}
    for cache in caches.values():
        cache.cache_clear()
    try:
        yield
    finally:
        for cache in caches.values():
            cache.cache_clear()


def _caches(kind: type) -> Iterator[Any]:
    for cls in kind.__mro__:
        if cls.__module__.startswith("torch."):
            continue
        around = vars(sys.modules.get(cls.__module__, object))
        for value in (*vars(cls).values(), *around.values()):
            if isinstance(value, _lru_cache_wrapper):
                yield value
            for cell in getattr(value, "__closure__", None) or ():
                try:
                    inside = cell.cell_contents
                except ValueError:
                    continue
                if isinstance(inside, _lru_cache_wrapper):
                    yield inside


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without what torch tells of every symbol, and of kernels that take none."""
    loggers = [logging.getLogger(name) for name in ("torch.__trace", fake_tensor.__name__)]
    were = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        yield
    finally:
        for logger, was in zip(loggers, were, strict=True):
            logger.disabled = was


@contextmanager
def _hashable() -> Iterator[None]:
    """A context in which a symbolic size can be a key: that asks for its value, which fixes it."""
    usual = torch.SymInt.__hash__
    torch.SymInt.__hash__ = lambda self: hash(int(self))  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.SymInt.__hash__ = usual  # type: ignore[method-assign]

"""Elastic layers: one set of weights, of which every architecture uses a part.

An elastic layer owns each tensor at the largest shape that any architecture needs.  Under an
active architecture, torch's own ``forward`` runs on a light stand-in for the plain layer,
whose attributes are those of a plain layer with the active arguments and whose tensors are
cut from the owned ones.  Freezing makes a plain layer out of the same attributes and the
same cuts, so the two agree by construction.  A class only has to say which shapes its
tensors have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import DomainError
from ..mutable import MutableExpression, bounds
from ..mutable.context_stack import Entered
from ..mutable.expression import apply
from ..mutable.node import Node
from ..mutable.operators import OPERATORS
from .activation import current, required
from .blueprint import (
    REFUSALS,
    Blueprint,
    LayerForm,
    ModuleForm,
    Shape,
    Template,
    as_call,
    defaults_of,
    layouts_of,
    refusal,
)
from .computed_tensors import PARAMETRIZATIONS, hooked, is_reparametrized, whole
from .construction import slim
from .freezing import Cut, Freezer, dense
from .parametrized import ParametrizedModule, evaluated, expressions_in, signature_of
from .places import leading
from .reparametrized import Note, Reparametrization, defer, part_of, reparametrize, run
from .structure import ATOMS, Survey
from .trial_values import allowed_values, is_allowed, nearest_allowed
from .widths import Widths

__all__ = ["ElasticModule", "blank_layers", "put_back"]


class ElasticModule(ParametrizedModule):
    """Base class of layers that are cut to the active arguments.

    A subclass also derives from the plain layer that it wraps, and implements :meth:`shapes`.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> class Scale(nn.Module):
    ...     def __init__(self, width, device=None, dtype=None):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
    ...         self.reset_parameters()
    ...
    ...     def reset_parameters(self):
    ...         nn.init.ones_(self.weight)
    ...
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> class MutableScale(ElasticModule, Scale, wraps=Scale):
    ...     @classmethod
    ...     def shapes(cls, arguments):
    ...         return {"weight": (arguments["width"],)}
    >>> scale = MutableScale(Categorical([4, 8], label="width"))
    >>> scale.weight.shape, scale.freeze({"width": 4}).weight.shape
    (torch.Size([8]), torch.Size([4]))
    """

    plain: ClassVar[type[nn.Module]]
    kept: ClassVar[frozenset[str]] = frozenset()
    """Attributes that all architectures have in common, though torch derives them."""
    sizes: ClassVar[frozenset[str]] = frozenset()
    """Arguments that are only sizes of tensors, which the plain ``forward`` does not read."""
    widths: ClassVar[Widths | None] = None
    """The arguments that are widths, by which mixtures weight it; a class that wraps another
    plain layer than its base says them anew, for its ``forward`` may use them otherwise."""
    is_normalization: ClassVar[bool] = False
    """Whether it normalises, for who counts normalisations apart."""
    derived: ClassVar[frozenset[str]] = frozenset()
    """Attributes that hold the tensors of the plain layer once more; made by :meth:`derive`."""

    def __init_subclass__(cls, wraps: type[nn.Module] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(wraps=wraps, **kwargs)
        if wraps is not None:
            if hasattr(cls, "plain") and "widths" not in cls.__dict__:
                cls.widths = None
            cls.plain = wraps

    # -- what a class says ------------------------------------------------------------------

    @classmethod
    def shapes(cls, arguments: Mapping[str, Any]) -> dict[str, Shape]:
        """Return tensor name to shape, in terms of arguments that are numbers or expressions."""
        raise NotImplementedError(f"{cls.__name__} must implement shapes()")

    @classmethod
    def cut(cls, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the part of a tensor that has the given shape: by default, what comes first.

        A size that is :class:`~nas_space.nn.places.Places` says which elements it is of.
        """
        del name  # the same for all
        return leading(tensor, shape)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Raise where arguments cannot go together; before anything is built."""

    @classmethod
    def reference(cls, arguments: Mapping[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
        """Return the plain arguments with which the tensors are first made, for some arguments."""
        del arguments  # for those to whom it matters which are expressions
        return plain

    @classmethod
    def derive(cls, layer: Any) -> None:
        """Make the attributes in :attr:`derived` from the tensors that a layer has.

        Called after these have been made, cut or frozen: on the elastic layer itself, on the
        stand-in on which torch's ``forward`` runs, which has its tensors as ordinary attributes,
        and on the plain layer in a network.  Nothing to do for most layers.

        Parameters
        ----------
        layer
            One of these three; attributes other than the derived ones are set.
        """

    # -- building -----------------------------------------------------------------------------

    def construct_mutable(self, arguments: dict[str, Any]) -> None:
        arguments = {**defaults_of(self.plain), **arguments}
        known = signature_of(self.plain).parameters
        arguments = {n: arguments[n] for n in known if n in arguments} | arguments
        self.check(arguments)
        names = ("device", "dtype")
        factory = {str(name): arguments.pop(name) for name in names if name in arguments}
        # A plain layer of one architecture gives the attributes; on the meta device, for its
        # tensors are replaced by those of the largest shapes.
        self._init_plain(arguments, factory)
        self.__dict__["args"] = arguments
        reference = Template(self, self.derived)
        layouts = layouts_of(type(self), arguments, reference)
        self.__dict__["_blueprint"] = Blueprint(type(self), arguments, reference, layouts)
        device = factory.get("device")
        for name, layout in layouts.items():
            self._allocate(name, tuple([axis.extent for axis in layout]), device)
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.is_meta:  # a counter, the same for every architecture
                self._buffers[name] = torch.zeros_like(buffer, device=_device(device))
        for layer in (*self.children(), self):
            for reset in ("reset_parameters", "_reset_parameters"):
                getattr(layer, reset, _nothing_to_reset)()
        self.derive(self)
        for name, value in arguments.items():
            if expressions_in(value) and name in self.__dict__:
                setattr(self, name, _as_kept(value, self.__dict__[name]))

    def _init_plain(self, arguments: dict[str, Any], factory: dict[str, Any]) -> None:
        on_meta = {**factory, "device": "meta"} if "device" in factory else {}
        refusals = []
        for values in _examples(arguments):
            plain = {name: evaluated(value, values) for name, value in arguments.items()}
            try:
                self.plain.__init__(self, **self.reference(arguments, plain), **on_meta)
            except REFUSALS as error:
                refusals.append(refusal(self.plain, plain, error))
            else:
                return
        raise refusals[0]

    def _allocate(self, name: str, shape: tuple[Any, ...], device: Any) -> None:
        prefix, _, leaf = name.rpartition(".")
        holder = self._modules[prefix] if prefix else self
        assert holder is not None
        kinds: tuple[dict[str, Any], ...] = (holder._parameters, holder._buffers)
        for tensors in kinds:
            meta = tensors.get(leaf)
            if meta is None:
                continue
            if not all(isinstance(size, int) and size >= 0 for size in shape):
                raise DomainError(
                    f"{type(self).__name__} needs whole, finite sizes, but its {name} would be "
                    f"{shape}"
                )
            made = torch.zeros(shape, dtype=meta.dtype, device=device)
            trains = meta.requires_grad
            parameter = isinstance(meta, nn.Parameter)
            tensors[leaf] = nn.Parameter(made, requires_grad=trains) if parameter else made

    def reset_parameters(self) -> None:
        """Draw initial weights, as the plain layer does."""
        if not _BLANK.last(False):
            getattr(self.plain, "reset_parameters", _nothing_to_reset)(self)

    def __setattr__(self, name: str, value: Any) -> None:
        # Constructors set many plain values, which torch takes long to tell from tensors.
        kind, state = type(value), self.__dict__
        if (kind in ATOMS or kind is tuple) and not (
            name in state.get("_parameters", ())
            or name in state.get("_buffers", ())
            or name in state.get("_modules", ())
            or name in state.get("_expressions", ())
        ):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # Its forward is torch's, which reads no expressions.
    _call_impl = nn.Module._call_impl

    # -- running and freezing -------------------------------------------------------------------

    @property
    def blueprint(self) -> Blueprint:
        """What makes the layer out of values of the expressions among its arguments."""
        found: Blueprint = self.__dict__["_blueprint"]
        return found

    def form(self, values: Any) -> LayerForm:
        """Return what the layer is under some values."""
        return self.blueprint.form(values)

    def extents(self, values: Any) -> dict[str, Shape | None]:
        """Return the shapes of its tensors under some values; ``None`` for those it lacks."""
        return self.blueprint.extents(values)

    @property
    def wanted(self) -> list[Node]:
        """The expressions among its arguments."""
        return self.blueprint.wanted

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if "args" not in self.__dict__:
            return self.plain.forward(self, *args, **kwargs)
        return required(self).elastic(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # A module that reads a tensor of a layer, instead of calling it, gets the part that is
        # there: torch's encoder layers do so, and code that ties an output to an embedding.
        state = self.__dict__
        if "_blueprint" not in state:
            # An ordinary layer, as most are, finds its tensors as fast as one of torch's own.
            parameters = state.get("_parameters")
            if parameters is not None:
                if name in parameters:
                    return parameters[name]
                if name in state["_buffers"]:
                    return state["_buffers"][name]
            return super().__getattr__(name)
        is_hooked = name in hooked(self)
        if is_hooked or name in state["_parameters"] or name in state["_buffers"]:
            part = self.active_part(name)
            if part is not None or is_hooked:
                return whole(self, name) if part is None else part
        if f"{name}_orig" in state["_parameters"] and f"{name}_mask" in state["_buffers"]:
            # Who prunes again takes the hook off first, and then reads what it had computed.
            return state["_parameters"][f"{name}_orig"] * state["_buffers"][f"{name}_mask"]
        found = super().__getattr__(name)
        if isinstance(found, Node) and found.operator is OPERATORS["tuple"]:
            return found.arguments  # as the plain layer keeps it
        return found

    def active_part(self, name: str) -> Tensor | None:
        """Return the part of a tensor that the active architecture has; ``None`` without one."""
        activation = current()
        if activation is None:
            return None
        if activation.is_single:
            return part_of(activation.stand_in(self), name)
        wanted = [*self.blueprint.wanted, *self.blueprint.atoms]
        known = dict(zip(wanted, activation.values(apply("tuple", *wanted)), strict=True))
        return part_of(self.stand_in(known.__getitem__), name)

    def __delattr__(self, name: str) -> None:
        # Who takes a hook off removes what it has computed, too, which is kept nowhere here.
        if name not in hooked(self) or name in self.__dict__:
            super().__delattr__(name)

    def run(self, values: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output of the layer with the shape that it has under some values."""
        return self.run_as(self.stand_in(values), *args, **kwargs)

    def run_as(self, stand_in: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what torch's ``forward`` gives on a stand-in; statistics it changes are kept."""
        output = run(stand_in, *args, **kwargs)
        put_back(stand_in)
        return output

    def stand_in(self, values: Any, note: Note | None = None) -> Any:
        """Return what torch's ``forward`` takes for the plain layer; as :meth:`shaped`."""
        return self.shaped(self.form(values), note)

    def shaped(self, form: LayerForm, note: Note | None = None) -> Any:
        """Return an object that torch's ``forward`` takes for a plain layer of some form.

        Parameters
        ----------
        form
            The form.
        note
            Is told of each part that is cut from a parameter, and gives what runs in its place.
        """
        if torch.is_inference_mode_enabled():
            # A view of a tensor made there forgets that it wants gradients, by which torch
            # chooses kernels: what is cut has to be as ordinary as the parameters.
            with torch.inference_mode(False), torch.no_grad():
                return self.shaped(form, note)
        note = note or _itself
        stand_in = self._light(self, self.plain, form.parts[""], note)
        for name, child in self._modules.items():
            if child is not None and name in form.parts:
                light = self._light(child, type(child), form.parts[name], note)
                stand_in.__dict__[name] = light
                if "_copied" in light.__dict__:
                    stand_in.__dict__.setdefault("_copied", []).extend(light.__dict__["_copied"])
        reparametrization = self.reparametrization
        if reparametrization is not None:
            reparametrization.give(stand_in, form, lambda *cut: note(*_as_it_runs(*cut)))
        self.derive(stand_in)
        return stand_in

    @staticmethod
    def _light(module: nn.Module, kind: type[nn.Module], part: ModuleForm, note: Note) -> nn.Module:
        light = object.__new__(kind)
        contents = light.__dict__
        contents.update(module.__dict__)
        contents.update(module._parameters)
        contents.update(module._buffers)
        contents.update(part.attributes)
        for name, cut in part.cuts.items():
            tensor = contents.get(name)
            if tensor is not None:
                taken = cut(tensor)
                # Buffers stay views, so that statistics are updated in place.
                if taken is not None and name in module._parameters:
                    taken = note(*_as_it_runs(tensor, cut, taken))
                elif taken is not None and taken is not tensor and not taken._is_view():
                    contents.setdefault("_copied", []).append((tensor, cut, taken))
                contents[name] = taken
        return light

    @property
    def reparametrization(self) -> Reparametrization | None:
        """What computes some of its tensors from others, if utilities of torch have added that.

        Raises
        ------
        SpaceError
            If something was added of which nothing says how it is cut.
        """
        state = self.__dict__
        blueprint: Blueprint = state["_blueprint"]
        tensors = len(state["_parameters"]) + len(state["_buffers"])
        if (
            tensors == blueprint.reference.count
            and not state["_forward_pre_hooks"]
            and len(state["_modules"]) == len(blueprint.reference.attributes) - 1
            and not any(map(is_reparametrized, state["_modules"].values()))
        ):
            return None  # which need not be looked for again and again
        return Reparametrization(self) or None

    @property
    def reference_tensors(self) -> frozenset[str]:
        """The names of the tensors that its class gives it."""
        blueprint: Blueprint = self.__dict__["_blueprint"]
        return frozenset(blueprint.reference.tensors)

    def register_forward_pre_hook(self, hook: Any, **kwargs: Any) -> Any:
        if self.is_parametrized:
            defer(self, hook)
        return super().register_forward_pre_hook(hook, **kwargs)

    def describe(self, survey: Survey) -> Node | None:
        # With plain arguments, as most layers have them, there is nothing to look for.
        if not _MUTABLE_BY & self.__dict__.keys():
            return None
        if self.is_parametrized:
            _ = self.reparametrization  # refused here, if at all: when the space is built
        return survey.contents(self)

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        if "args" in self.__dict__:
            return freezer.elastic(self)
        new = freezer.clone(self, self.plain)
        if PARAMETRIZATIONS in self._modules:
            reparametrize(new)
        return new

    def extra_repr(self) -> str:
        if not self.is_parametrized:
            return self.plain.extra_repr(self)
        defaults = defaults_of(self.plain)
        return as_call(
            {k: v for k, v in self.args.items() if k not in defaults or v is not defaults[k]}
        )


_MUTABLE_BY = frozenset({"args", "_expressions", "_mutables"})
"""Attributes that only a layer has which differs between architectures."""

_BLANK: Entered[bool] = Entered("blank")


def blank_layers() -> AbstractContextManager[None]:
    """Return a context for constructors that set all weights themselves in the end.

    Layers built in it leave the drawing of initial weights to them.
    """
    return _BLANK.entering(True)


def _itself(parameter: nn.Parameter, cut: Cut, part: Tensor) -> Tensor:
    del parameter, cut
    return part


def _as_it_runs(
    parameter: nn.Parameter, cut: Cut, part: Tensor
) -> tuple[nn.Parameter, Cut, Tensor]:
    """Return a part as torch's kernels see that of a plain layer."""
    part = dense(part, parameter)
    if parameter.requires_grad and not part.requires_grad:
        # Without gradients, too, torch chooses kernels by this.
        part = part.detach().requires_grad_()
    return parameter, cut, part


def _as_kept(value: Any, kept: Any) -> Any:
    """Return an argument of expressions as the plain layer keeps it: torch makes tuples of some."""
    if not isinstance(kept, tuple):
        return value
    if isinstance(value, MutableExpression):
        several = isinstance(value.robust_default(), (tuple, list))
        value = [value[place] if several else value for place in range(len(kept))]
    return apply("tuple", *value)


def _nothing_to_reset(*_: Any) -> None:
    pass


def _examples(arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Values with which a layer can be tried: those built for, or one combination after another.

    Not every one is allowed by what torch, or a constraint, asks of arguments together.
    """
    only = slim()
    if only is not None:
        yield only
        return
    wanted = [e for value in arguments.values() for e in expressions_in(value)]

    def complete(values: Any) -> Any:
        """Require that what only some architectures have, such as a bias, is there."""

        def value_of(expression: Any) -> Any:
            value = values(expression)
            return bool(bounds(expression)[1]) if isinstance(value, bool) else value

        return value_of

    default = complete(lambda expression: expression.robust_default())
    nearest = nearest_allowed(wanted)
    if nearest is None or is_allowed(wanted, default):
        yield default
    if nearest is not None:
        yield complete(nearest)
    try:
        combinations = allowed_values(wanted)
    except DomainError:
        return
    for combination in combinations:
        chosen = dict(zip(wanted, combination, strict=True))
        if all(value for value in combination if isinstance(value, bool)):
            yield chosen.__getitem__


def put_back(stand_in: Any) -> None:
    """Write what a forward has made of copied parts of buffers to where these came from."""
    for buffer, cut, taken in stand_in.__dict__.get("_copied", ()):
        places = cut(torch.arange(buffer.numel(), device=buffer.device).view(buffer.shape))
        # As torch's kernels write statistics: a backward pass that has kept these is not told.
        buffer.data.view(-1).index_copy_(0, places.flatten(), taken.flatten().to(buffer))


def _device(device: Any) -> torch.device:
    return torch.get_default_device() if device is None else torch.device(device)

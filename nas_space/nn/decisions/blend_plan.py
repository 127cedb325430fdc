"""``BlendPlan``: how an elastic layer is mixed, computed once for the values it may have.

A mixture runs the same layers in every step, with other probabilities.  Whatever does not depend on
these, all of NumPy's work on indices, is in the plan; a step multiplies tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ...mutable import bounds
from ...mutable.node import Node
from ..blueprint import TorchRefusesError
from ..elastic import ElasticModule
from ..parametrized import evaluated, expressions_in
from ..places import Indices, Places, spread
from ..segments import AxisLayout, layout_of
from .marginals import Known, Marginals, Outcomes, Support, are_independent
from .mixed_axis import Axes, MixedAxis, axis_of
from .mixed_tensor import MixedTensor
from .mixer import Atoms, reader_of, union
from .refusals import CannotMixError, labels_in
from .weight_masks import InputOrder, Mask, kernel_places

__all__ = ["BlendPlan", "not_buildable", "not_mixable", "plan_of"]


def plan_of(
    layer: ElasticModule, marginals: Marginals, known: Known, x: MixedTensor | None = None
) -> BlendPlan:
    """Return how a layer is mixed; computed once for each set of values that it may have."""
    # Two keys lead to a plan: what is known here, by identity, which is found at once in the next
    # step; and the outcomes that follow from it, which contexts that know the same share.  With a
    # support, which changes from step to step, the first would never be found again.
    plans = _PLANS.get(layer.blueprint)
    if plans is None:
        plans = _PLANS[layer.blueprint] = {}
    axes = None if x is None else x.axes if x.wide is not None else ()
    read = None if axes is None else tuple(map(id, axes))
    bare = layer.reparametrization is None
    # Most layers are asked for where the same is known, step by step.
    here = (
        tuple([(id(node), value) for node, value in known]),
        read,
        () if x is None or x.wide is not None else tuple(map(id, x.atoms)),
        bare,
    )
    # Asked for once: another thread may empty them at any time.
    kept = None if marginals.support else plans.get(here)
    if kept is not None:
        return kept
    atoms = union(_wanted(layer), () if x is None else x.atoms)
    outcomes = marginals.outcomes(atoms, known)
    everything = marginals.everywhere(_wanted(layer))
    key = (id(outcomes), id(everything), read, bare)
    if len(plans) > _REMEMBERED:
        plans.clear()
    plan = plans.get(key)
    if plan is None:
        try:
            plan = BlendPlan(layer, atoms, outcomes, everything, axes, known, marginals.support)
        except TorchRefusesError as error:
            raise not_buildable(layer, atoms, error) from error
        plans[key] = plan
    if not marginals.support:
        plan.asked.append(known)  # kept, for their identities are in the key
        plans[here] = plan
    return plan


_PLANS: WeakKeyDictionary[Any, dict[Any, BlendPlan]] = WeakKeyDictionary()
"""Not kept by the layers, of which everything they hold is cloned and stored."""

_REMEMBERED = 256


def _wanted(layer: ElasticModule) -> Atoms:
    """Return the expressions that a layer's arguments, and which elements it has, depend on."""
    blueprint = layer.blueprint
    found = _WANTED.get(blueprint)
    if found is None:
        widths = layer.widths
        names = () if widths is None else (widths.inputs, widths.outputs)
        sizes = [layout_of(_width(layer.args[n])) for n in names if n and n in layer.args]
        atoms = [atom for layout in sizes for atom in layout.atoms]
        found = _WANTED[blueprint] = union(blueprint.wanted, blueprint.atoms, atoms)
    return found


_WANTED: WeakKeyDictionary[Any, Atoms] = WeakKeyDictionary()


class BlendPlan:
    """How a layer is mixed.

    Attributes
    ----------
    atoms
        The expressions that its arguments, its elements and those of its input depend on.
    widest
        The form with all elements that any architecture has.
    together
        Whether one run of the widest form, with mixed weights, is the mixture.
    columns
        Permutes the input weights to the order of the input; ``None`` if they have it.
    mask
        The probabilities that weights are multiplied by; ``None`` if there are none.
    rows
        The plain arguments in each of the outcomes.
    needs_width
        The argument that says how wide the input is, if that differs.
    own, output
        The axes of the widths of the input and the output; ``None`` if these do not differ.
    """

    def __init__(
        self,
        layer: ElasticModule,
        atoms: Atoms,
        outcomes: Outcomes,
        everything: Outcomes,
        axes: Axes | None,
        known: Known,
        support: Support,
    ) -> None:
        # Kept, so that plans can be told apart by the identity of what they are for.
        self.outcomes, self.everything, self.axes = outcomes, everything, axes
        self.asked: list[Known] = []
        self.atoms = atoms
        self.values = [reader_of(atoms, value) for value in outcomes.values]
        self.rows = [
            {name: evaluated(a, values) for name, a in layer.args.items()} for values in self.values
        ]
        wanted = _wanted(layer)
        # Inputs are as wide as the widest, whatever is known here.
        largest = reader_of(wanted, tuple(map(_largest, zip(*everything.values, strict=True))))
        self.everything_values = [reader_of(wanted, value) for value in everything.values]
        self.full = {name: evaluated(a, largest) for name, a in layer.args.items()}
        self.widest = layer.blueprint.make(largest, lambda axis: Places.of(self.region(axis)))
        self.widths = layer.widths
        self.varying = {
            name: expressions_in(value)
            for name, value in layer.args.items()
            if expressions_in(value) and any(row[name] != self.full[name] for row in self.rows)
        }
        self.mask: Mask | None = None
        self.columns: InputOrder | None = None
        self.own: MixedAxis | None = None
        self.output: MixedAxis | None = None
        self.needs_width = ""
        if self.widths is not None:
            inputs, outputs = str(self.widths.inputs), self.widths.outputs
            self.output = axis_of(_width(layer.args[outputs]), support)
            if inputs in layer.args:
                self.own = axis_of(_width(layer.args[inputs]), support)
            self.needs_width = inputs if self.own is not None and inputs in self.varying else ""
        self.together = (
            self._is_one_shape(layer)
            and self._reads_together(layer)
            and (
                self._is_the_widest()
                or (self._is_alike_for_all_rows(layer, known) and self._together(layer))
            )
        )
        if not self.together:
            self._check(layer)

    def output_axes(self, x: Any) -> Axes | None:
        """Return the axes of the output for an input; ``None`` if it does not differ."""
        if self.widths is None or (self.output is None and not isinstance(x, MixedTensor)):
            return None
        if isinstance(x, MixedTensor):
            assert x.wide is not None
            axes = list(x.axes)
            if self.widths.inputs is None:
                axes.append(None)
        else:
            axes = [None] * (x.dim() + (self.widths.inputs is None))
        axes[self.widths.axis] = self.output
        return tuple(axes)

    def _is_one_shape(self, layer: ElasticModule) -> bool:
        """Return whether the largest layer has all elements that any architecture has.

        It has not if a width has several forms, such as ``condition(wide, w + 8, w)``, of which
        the second has elements beside those of the first.
        """
        shapes = layer.shapes(self.full)
        return all(
            len(self.region(axis)) == shapes[name][dim]
            for name, axes in layer.blueprint.segmented.items()
            if name in shapes
            for dim, axis in axes.items()
        )

    def _is_the_widest(self) -> bool:
        """Return whether each outcome is the widest layer, and reads all that its input has."""
        return not self.varying and (self.columns is None or bool(self.columns.there.all()))

    def _is_alike_for_all_rows(self, layer: ElasticModule, known: Known) -> bool:
        """Return whether inputs have the same probabilities in each row of a batch.

        A row that only some architectures have says which these are, and so which inputs are there:
        of a tensor of ``w`` rows and ``w`` columns, the last row has all columns.  The mask has one
        probability for all rows, which is right if what decides on rows is independent of the rest.
        """
        if not self.axes or self.widths is None:
            return True
        place = self.widths.axis % len(self.axes)
        rows = [axis.atoms for d, axis in enumerate(self.axes) if axis is not None and d != place]
        its = self.axes[place]
        read = union(_wanted(layer), () if its is None else its.atoms)
        return are_independent(union(*rows), read, known)

    def _reads_together(self, layer: ElasticModule) -> bool:
        """Return whether the weights can be put where the elements of the input are."""
        axes = self.axes
        if axes is None:
            # A plain input has the elements of one outcome one after the other.
            return self.own is None or all(
                np.array_equal(self.own.indices(values), np.arange(self.own.size))
                for values in self.values
            )
        if self.widths is None or not axes or self.widths.inputs is None:
            return False
        place = self.widths.axis % len(axes)
        # Other dimensions may differ if the layer does the same for each of their elements: a
        # linear one does along all of them, the others along the batch only, but for batch norms,
        # whose statistics would count elements of architectures that are not there.
        mapped = {d for d in range(len(axes)) if self.widths.axis == -1 and d != place}
        mapped |= set() if self.widths.reads == "channel" else {0}
        if any(axis is not None and d != place and d not in mapped for d, axis in enumerate(axes)):
            return False
        mine, its = self.own, axes[place]
        if mine is None or its is None:
            return mine is its and self.widths.reads != "mean"
        if self.widths.reads == "mean":
            return False
        if mine.is_like(its):
            return True
        if self.widths.reads == "channel" or self._grouped():
            return False
        if layer.reparametrization is not None:
            return False  # its weight is not there yet
        self.columns = self._order_of(mine, its)
        return self.columns is not None

    def own_axes(self, layer: ElasticModule, support: Support) -> dict[str, MixedAxis]:
        """Return the axes of the arguments that are sizes, by name."""
        found = {name: axis_of(_width(size), support) for name, size in _sizes(layer)}
        return {name: axis for name, axis in found.items() if axis is not None}

    def _grouped(self) -> bool:
        return any(row.get("groups", 1) != 1 for row in self.rows)

    def region(self, axis: AxisLayout) -> Indices:
        """Return the indices of all elements that any architecture has, whatever is known here."""
        return np.unique(np.concatenate([axis.indices(v) for v in self.everything_values]))

    def there(self, size: Any) -> npt.NDArray[Any]:
        """Return which elements of an axis of some size are there in which outcome."""
        axis = layout_of(size)
        region = self.region(axis)
        return np.stack([np.isin(region, axis.indices(values)) for values in self.values])

    def _together(self, layer: ElasticModule) -> bool:
        if self.widths is None or layer.reparametrization is not None:
            return False
        if self.widths.reads == "channel":
            return set(self.varying) == {self.widths.outputs} and not (
                self.widths.broadcasts and any(row[self.widths.outputs] == 1 for row in self.rows)
            )
        if self.widths.reads == "sum":
            self.mask = self._mask_of(layer)
            return self.mask is not None
        return self.widths.reads == "lookup" and set(self.varying) <= {self.widths.outputs}

    def _mask_of(self, layer: ElasticModule) -> Mask | None:
        """Return the mask over the weights of a convolution or linear layer.

        ``None`` where the outcomes are no parts of the widest layer: for a stride, a dilation, or a
        number of groups that connects other channels with each other.
        """
        assert self.widths is not None
        inputs, outputs = str(self.widths.inputs), self.widths.outputs
        kinds = {inputs, outputs, "bias"}
        convolution = "kernel_size" in layer.args
        if convolution:
            kinds |= {"kernel_size", "padding", "groups"}
        if not set(self.varying) <= kinds:
            return None
        rows, full = self.rows, self.full
        o_there = self.there(layer.args[outputs])
        columns = self.columns
        i_there = self.there(layer.args[inputs]) if columns is None else columns.there
        kernels: list[npt.NDArray[Any]] = []
        if convolution:
            every = [row["groups"] for row in (*rows, full)]
            depthwise = all(r["groups"] == r[inputs] == r[outputs] for r in (*rows, full))
            if depthwise or not {inputs, outputs, "groups"} & set(self.varying):
                # An output channel reads its own channel, or always the same ones.
                i_there = np.ones((len(rows), 1), bool)
            elif set(every) != {1}:
                return None
            dimensions = getattr(layer, "dimensions")  # noqa: B009 - of convolutions only
            if not (found := kernel_places(rows, full, dimensions)):
                return None
            kernels = list(found)
        axes = [o_there, i_there]
        if self.widths.inputs_first and i_there.shape[1] > 1:
            axes.reverse()
        output_axis = 0 if axes[0] is o_there else 1
        return Mask([*axes, *kernels], output_axis, [bool(row["bias"]) for row in rows])

    def _order_of(self, mine: MixedAxis, its: MixedAxis) -> InputOrder | None:
        """Return the order of input weights; ``None`` where it is not the same for all outcomes."""
        # The j-th element of the input is read by the j-th weight in each architecture.  In wide
        # tensors both have gaps, at other places; one permutation does for all outcomes if no input
        # element meets one weight here and another one there.
        source = np.full(its.size, -1, np.int64)
        there = np.zeros((len(self.values), its.size), bool)
        for place, values in enumerate(self.values):
            own, given = mine.indices(values), its.indices(values)
            if len(own) != len(given) or len(np.unique(given)) != len(given):
                return None
            before = source[given]
            if ((before != -1) & (before != own)).any():
                return None
            source[given] = own
            there[place, given] = True
        source[source == -1] = 0
        assert self.widths is not None
        return InputOrder(source, 0 if self.widths.inputs_first else 1, there)

    def _check(self, layer: ElasticModule) -> None:
        """Refuse what cannot be run for one shape after another either.

        Outputs of different height or width have no mean.
        """
        if self.widths is None or "kernel_size" not in layer.args:
            return
        what = type(layer).__name__
        for name in self.varying:
            if name in {"stride", "dilation"}:
                raise not_mixable(what, f"the {name} of a convolution", self.varying[name])
        if not self._same_size():
            guilty = [e for n in ("padding", "kernel_size") for e in self.varying.get(n, ())]
            raise not_mixable(what, "a padding that changes the shape", guilty)

    def _same_size(self) -> bool:
        return len({_overhang(row) for row in self.rows}) == 1


def not_buildable(layer: ElasticModule, atoms: Atoms, error: Exception) -> CannotMixError:
    """Return the error for a layer that cannot be for some of the combinations in a mixture."""
    labels = labels_in(atoms)
    return CannotMixError(
        f"{type(layer).__name__} cannot be mixed over the labels {', '.join(map(repr, labels))}: a "
        "mixture gives all of their combinations a probability, those that constraints forbid as "
        f"well, and {error}; take a strategy that draws whole architectures, such as RandomOneShot",
        labels,
    )


def not_mixable(what: str, thing: str, expressions: list[Any]) -> CannotMixError:
    """Return the error for a layer that cannot be mixed over some of its arguments."""
    labels = labels_in(expressions)
    return CannotMixError(
        f"{what} cannot be mixed over {thing}, which depends on the label"
        f"{'s' if len(labels) > 1 else ''} {', '.join(map(repr, labels))}; choose between layers "
        "(LayerChoice) instead, or take a strategy that samples, such as RandomOneShot",
        labels,
    )


def _largest(values: tuple[Any, ...]) -> Any:
    try:
        return max(values)
    except TypeError:
        return values[0]


def _overhang(row: Mapping[str, Any]) -> Any:
    """Return by how much the output of a convolution of stride 1 is smaller than its input."""
    n = max((len(v) for v in row.values() if isinstance(v, tuple)), default=1)
    if row["padding"] == "same":
        return (0,) * n
    padding = (0,) * n if row["padding"] == "valid" else spread(row["padding"], n)
    kernel, dilation = spread(row["kernel_size"], n), spread(row["dilation"], n)
    return tuple(d * (k - 1) - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True))


def _sizes(layer: ElasticModule) -> Iterator[tuple[str, Any]]:
    """Yield the arguments that are numbers of elements, and differ."""
    for name, size in layer.args.items():
        width = _width(size)
        if isinstance(width, Node) and all(isinstance(bound, int) for bound in bounds(width)):
            yield name, size


def _width(size: Any) -> Any:
    """Return the width of the last dimension, the one of a shape that can be mixed."""
    return size[-1] if isinstance(size, (tuple, list)) else size

"""The NASNet family: networks of repeated cells, whose two kinds are searched."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from ..errors import UsageError
from ..mutable import Categorical, MutableExpression
from ..nn import Cell, MutableBatchNorm2d, MutableConv2d, MutableLinear, Repeat
from ..nn.elastic import blank_layers
from ..nn.segments import flattened
from ..nn.switch import Switch
from .cells import OPERATIONS, AuxiliaryHead, CellInputs, CellOutputs, DropPath
from .published import published_in
from .searched import SearchedSpace

__all__ = ["AmoebaNetSpace", "CellSpace", "DARTSSpace", "ENASSpace", "NASNetSpace", "PNASSpace"]

_STAGES = 3


class CellSpace(SearchedSpace):
    """Three stages of cells; the second and the third begin with one that halves images.

    A subclass says which operations there are, how many nodes a cell has, and which of these its
    output concatenates. Cells of a kind are alike: labels ``normal/op_<node>_<k>`` and
    ``normal/input_<node>_<k>`` say what operation ``k`` of a node is, and which node it reads, the
    two cells before counting as 0 and 1; ``reduce/…`` the same for cells that halve images. With
    several widths or numbers of cells, there are labels ``width`` and ``depth``. As in the papers,
    a block's two operations may read the same node.

    Parameters
    ----------
    width
        Channels of an operation in the first stage, or several to choose from; each stage has
        twice as many as the one before.
    num_cells
        How many cells there are, or several numbers to choose from; they are shared out evenly.
    dataset
        'cifar' or 'imagenet': what becomes of an image before the first cell. The latter makes it
        eight times smaller.
    auxiliary_loss
        Whether there is a second classifier at the beginning of the last stage: in training, the
        output is then a pair of scores.
    drop_path_prob
        With which probability an operation is dropped for an example, in training; but for those
        that only pass on.
    num_labels
        Classes; by default 10 and 1000.

    Raises
    ------
    UsageError
        A width is odd, there are fewer than three cells, or ``dataset`` is none of the two.

    References
    ----------
    Radosavovic et al., *On network design spaces for visual recognition*, arXiv 1905.13214, whose
    design of the family this is.
    """

    operations: ClassVar[Sequence[str]] = ()
    """Names in :data:`nas_space.hub.cells.OPERATIONS`."""

    num_nodes: ClassVar[int] = 4
    """Nodes of a cell."""

    merge_op: ClassVar[Literal["all", "loose_end"]] = "all"
    """Which nodes the output of a cell concatenates: all, or those that no other reads."""

    example_shape: ClassVar[tuple[int, ...]] = (3, 32, 32)

    def __init__(
        self,
        width: Sequence[int] | int = (16, 24, 32),
        num_cells: Sequence[int] | int = (4, 8, 12, 16, 20),
        dataset: Literal["cifar", "imagenet"] = "cifar",
        auxiliary_loss: bool = False,
        drop_path_prob: float = 0.0,
        *,
        num_labels: int | None = None,
    ) -> None:
        super().__init__()
        if str(dataset) not in ("cifar", "imagenet"):
            raise UsageError(f"dataset is 'cifar' or 'imagenet', but got {dataset!r}")
        first = _choice("width", width, lambda number: number > 0 and number % 2 == 0, "even")
        depth = _choice("depth", num_cells, lambda number: number >= _STAGES, "at least 3")
        self.dataset = dataset
        self.auxiliary_loss = auxiliary_loss
        self.drop_path_prob = drop_path_prob
        self.num_labels = num_labels or (10 if dataset == "cifar" else 1000)
        with blank_layers():
            self._build(first, depth)
        for module in self.modules():
            reset: Any = getattr(module, "reset_parameters", None)
            if reset is not None and module is not self:
                reset()

    def _build(self, first: Any, depth: Any) -> None:
        before_last, last = self._stem(first)
        reduced: Any = self.dataset == "imagenet"
        self.stages = nn.ModuleList()
        for stage in range(_STAGES):
            # Half of a width each, since what halves images concatenates two convolutions, and what
            # is summed with that, or reads it, is to keep the same channels.
            width = flattened(2, first * 2**stage // 2)
            cells = _Cells(self, width, halves=stage > 0, inputs=(before_last, last, reduced))
            count = (stage + 1) * depth // _STAGES - stage * depth // _STAGES
            self.stages.append(Repeat(cells, count))
            if stage == _STAGES - 1 and self.auxiliary_loss:
                # The loss of training is that of the first cell of the last stage.
                head = AuxiliaryHead(
                    cells.channels(0), self.num_labels, 3 if self.dataset == "cifar" else 2
                )
            before_last, last, reduced = cells.after(count)
        if self.auxiliary_loss:
            self.auxiliary_head = head
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = MutableLinear(last, self.num_labels)

    def _stem(self, width: Any) -> tuple[Any, Any]:
        """Add what comes before the cells; return the channels of its two outputs."""
        conv = partial(MutableConv2d, kernel_size=3, padding=1, bias=False)
        if self.dataset == "cifar":
            self.stem = nn.Sequential(conv(3, 3 * width), MutableBatchNorm2d(3 * width))
            return 3 * width, 3 * width
        half = width // 2
        self.stem0 = nn.Sequential(
            conv(3, half, stride=2),
            MutableBatchNorm2d(half),
            nn.ReLU(inplace=True),
            conv(half, width, stride=2),
            MutableBatchNorm2d(width),
        )
        self.stem1 = nn.Sequential(
            nn.ReLU(inplace=True), conv(width, width, stride=2), MutableBatchNorm2d(width)
        )
        return width, width

    def forward(self, x: Tensor) -> Any:
        """Return class scores of images; a pair of them in training, with an auxiliary loss."""
        if self.dataset == "cifar":
            states = [self.stem(x)] * 2
        else:
            first = self.stem0(x)
            states = [first, self.stem1(first)]
        *others, final = self.stages
        for stage in others:
            states = stage(states)
        # Its head reads the first cell of the last stage, which a Repeat runs: what that gives is
        # taken by a hook for the time of the call, so that no output of a cell has to be handed on.
        auxiliary: list[Tensor] | None = None
        if self.auxiliary_loss and self.training:
            auxiliary = []
            hook = final[0].register_forward_hook(  # type: ignore[index]
                lambda _, __, output: auxiliary.append(self.auxiliary_head(output[-1]))
            )
            try:
                states = final(states)
            finally:
                hook.remove()
        else:
            states = final(states)
        scores = self.classifier(self.global_pooling(states[-1]).flatten(1))
        return scores if auxiliary is None else (scores, auxiliary[0])

    def set_drop_path_prob(self, drop_prob: float) -> None:
        """Change how often operations are dropped, as schedules of training do."""
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = drop_prob


class _Cells:
    """The cells of a stage, made one by one in their order.

    What a cell reads depends on how many cells the stage before has: of one, the last is the cell
    that halves images, and the one before is of the stage before. How many channels a cell has is
    known once it is made, by what its output concatenates: so cells are made in their order, and
    the next stage asks this one for them.
    """

    def __init__(
        self, space: CellSpace, width: Any, *, halves: bool, inputs: tuple[Any, Any, Any]
    ) -> None:
        self.space, self.width, self.halves = space, width, halves
        self.before = inputs
        self.made: list[Cell] = []

    def __call__(self, index: int) -> Cell:
        before_last, last, reduced = self.after(index)
        halving = self.halves and index == 0
        space = self.space
        made: dict[str, Any] = {
            name: partial(self._strided, name) if halving else partial(self._operation, name, 1)
            for name in space.operations
        }
        cell = Cell(
            made,
            space.num_nodes,
            num_ops_per_node=2,
            num_predecessors=2,
            merge_op=space.merge_op,
            preprocessor=CellInputs(before_last, last, self.width, reduced),
            postprocessor=CellOutputs(),
            label="reduce" if halving else "normal",
        )
        self.made.append(cell)
        return cell

    def after(self, count: Any) -> tuple[Any, Any, Any]:
        """Return what follows so many cells: channels of the last two, and whether one halved."""
        _, last, _ = self.before
        if isinstance(count, int):
            if count == 0:
                return self.before
            if count == 1:
                return last, self.channels(0), self.halves
            return self.channels(count - 2), self.channels(count - 1), False
        several = count > 1
        normal = self.channels(-1)
        alone = self.channels(0)
        second_last = MutableExpression.condition(count > 2, normal, alone)
        return (
            MutableExpression.condition(several, second_last, last),
            MutableExpression.condition(several, normal, alone),
            (count <= 1) if self.halves else False,
        )

    def channels(self, index: int) -> Any:
        """Return the channels of a cell: a segment for each node that its output may have."""
        cell = self.made[index]
        if self.space.merge_op == "all":
            return flattened(self.space.num_nodes, self.width)
        return reduce(
            add, [MutableExpression.condition(loose, self.width, 0) for loose in cell.loose_ends]
        )

    def _operation(self, name: str, stride: int) -> nn.Module:
        made = OPERATIONS[name](self.width, stride)
        if self.space.drop_path_prob and not isinstance(made, nn.Identity):
            return nn.Sequential(made, DropPath(self.space.drop_path_prob))
        return made

    def _strided(self, name: str, source: Any) -> nn.Module:
        """Halve what the cells before give; what nodes of this one give is small already."""
        strides = {
            True: partial(self._operation, name, 2),
            False: partial(self._operation, name, 1),
        }
        return Switch(source < 2, strides)


def _choice(label: str, given: Sequence[int] | int, fits: Any, rule: str) -> Any:
    numbers: list[Any] = [given] if isinstance(given, int) else list(given)
    wrong = [number for number in numbers if not isinstance(number, int) or not fits(number)]
    if wrong or not numbers:
        what = {"width": "width", "depth": "num_cells"}[label]
        raise UsageError(f"{what} is a whole number, {rule}, or several, but got {given!r}")
    return given if isinstance(given, int) else Categorical(numbers, label=label)


class NASNetSpace(CellSpace):
    """The space of NASNet (Zoph et al., arXiv 1707.07012): thirteen operations, five nodes.

    Examples
    --------
    >>> import torch
    >>> space = NASNetSpace(width=8, num_cells=3)
    >>> space.random(seed=0).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    operations: ClassVar[Sequence[str]] = (
        "skip_connect", "conv_3x1_1x3", "conv_7x1_1x7", "dil_conv_3x3", "avg_pool_3x3",
        "max_pool_3x3", "max_pool_5x5", "max_pool_7x7", "conv_1x1", "conv_3x3", "sep_conv_3x3",
        "sep_conv_5x5", "sep_conv_7x7",
    )  # fmt: skip
    num_nodes = 5
    merge_op: ClassVar[Literal["all", "loose_end"]] = "loose_end"
    published = published_in("NASNetSpace")


class ENASSpace(CellSpace):
    """The space of ENAS (Pham et al., arXiv 1802.03268): five operations, five nodes."""

    operations: ClassVar[Sequence[str]] = (
        "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3",
    )  # fmt: skip
    num_nodes = 5
    merge_op: ClassVar[Literal["all", "loose_end"]] = "loose_end"


class AmoebaNetSpace(CellSpace):
    """The space of AmoebaNet (Real et al., arXiv 1802.01548): eight operations, five nodes."""

    operations: ClassVar[Sequence[str]] = (
        "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "avg_pool_3x3",
        "max_pool_3x3", "dil_sep_conv_3x3", "conv_7x1_1x7",
    )  # fmt: skip
    num_nodes = 5
    merge_op: ClassVar[Literal["all", "loose_end"]] = "loose_end"
    published = published_in("AmoebaNetSpace")


class PNASSpace(CellSpace):
    """The space of progressive search (Liu et al., arXiv 1712.00559): eight operations."""

    operations: ClassVar[Sequence[str]] = (
        "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "conv_7x1_1x7", "skip_connect",
        "avg_pool_3x3", "max_pool_3x3", "dil_conv_3x3",
    )  # fmt: skip
    num_nodes = 5


class DARTSSpace(CellSpace):
    """The space of DARTS (Liu et al., arXiv 1806.09055): seven operations, four nodes.

    Published are ``darts-v1``, ``darts-v2`` and their kin, with 20 cells of width 36.

    Examples
    --------
    >>> net = DARTSSpace.load_searched_model("darts-v2")
    >>> sum(parameter.numel() for parameter in net.parameters())
    3349342
    """

    operations: ClassVar[Sequence[str]] = (
        "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5",
        "dil_conv_3x3", "dil_conv_5x5",
    )  # fmt: skip
    published = published_in("DARTSSpace")

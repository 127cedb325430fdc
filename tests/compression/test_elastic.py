"""`nas_space.elastic`: what holds for every network that it is given."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space.compression.symbolic import leaves_of
from tests.compression.networks import NETWORKS, REAL, TORCH

QUICK = ("ResNet", "UNet", "nn.TransformerEncoder", "BERT")


def _marked(names: Any) -> list[Any]:
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


every_network = pytest.mark.parametrize("name", _marked(NETWORKS))

_MADE: dict[str, Any] = {}


def made(name: str) -> tuple[nn.Module, Any, Any]:
    """A network, its inputs and its space, which no test changes."""
    if name not in _MADE:
        try:
            net, inputs = NETWORKS[name]()
        except ImportError as error:
            pytest.skip(f"not installed: {error.name}")
        space = ns.elastic(net, inputs)
        # Weights that are mapped from a file lie where kernels add in another order than in a copy.
        _MADE[name] = (copy.deepcopy(net) if name in REAL else net, inputs, space)
    return _MADE[name]  # type: ignore[no-any-return]


def run(net: Any, inputs: Any) -> list[Tensor]:
    if isinstance(inputs, Mapping):
        return leaves_of(net(**inputs))
    return leaves_of(net(*inputs) if isinstance(inputs, tuple) else net(inputs))


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@every_network
@pytest.mark.parametrize("training", [False, True])
def test_the_original_is_the_network_bit_for_bit_with_its_gradients(name, training):
    net, inputs, space = made(name)
    # Of each a copy, for running in training changes statistics.
    net, space = copy.deepcopy(net).train(training), copy.deepcopy(space).train(training)
    frozen = space.freeze(space.original).train(training)
    assert type(frozen) is type(net)
    found = []
    for model in (net, space, frozen):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - which libraries draw masks from
        with space.activate(space.original):
            outputs = run(model, inputs)
        loss: Any = sum(o.float().square().mean() for o in outputs if o.is_floating_point())
        loss.backward()
        gradients = [p.grad for _, p in sorted(model.named_parameters())]
        found.append((outputs, [g for g in gradients if g is not None]))
    for outputs, gradients in found[1:]:
        assert_equal(outputs, found[0][0])
        assert_equal(gradients, found[0][1])


@every_network
def test_keys_and_values_of_the_state_are_those_of_the_network(name):
    net, _, space = made(name)
    ours, theirs = space.state_dict(), net.state_dict()
    assert list(ours) == list(theirs)
    assert_equal(list(ours.values()), list(theirs.values()))


@every_network
def test_every_architecture_runs_frozen_as_it_runs_active_and_is_plain(name):
    net, inputs, space = made(name)
    classes = {type(module) for module in net.modules()}
    cost = ns.profiler.params(space)
    for seed in range(3):
        arch = space.sample(seed=seed)
        frozen = space.freeze(arch)
        with torch.no_grad(), space.activate(arch):
            active = run(space, inputs)
        with torch.no_grad():
            assert_equal(active, run(frozen, inputs))
        assert {type(module) for module in frozen.modules()} <= classes
        for module in frozen.modules():
            assert not {"args", "_blueprint", "_expressions", "_mutables", "_keep"} & set(
                vars(module)
            )
        assert cost.evaluate(arch) == sum(p.numel() for p in frozen.parameters())


@every_network
def test_a_space_goes_through_pickle_where_the_network_does(name):
    net, inputs, space = made(name)
    with torch.no_grad():
        run(net, inputs)  # as the space has: some libraries leave hooks where a forward was run
    try:
        pickle.dumps(net)
    except Exception:  # noqa: BLE001 - hooks of libraries, parametrised tensors
        pytest.skip("the network itself does not go through pickle")
    again = pickle.loads(pickle.dumps(space))
    arch = space.sample(seed=7)
    with torch.no_grad(), again.activate(arch):
        assert_equal(run(again, inputs), run(space.freeze(arch), inputs))


@every_network
def test_the_network_is_left_as_it_was(name):
    if name not in TORCH:
        pytest.skip("as for all others")
    net, inputs = NETWORKS[name]()
    before = {id(m): (type(m), dict(vars(m))) for m in net.modules()}
    values = {key: value.clone() for key, value in net.state_dict().items()}
    ns.elastic(net, inputs)
    assert {id(m): type(m) for m in net.modules()} == {k: v[0] for k, v in before.items()}
    for module in net.modules():
        assert list(vars(module)) == list(before[id(module)][1])
        for key, value in vars(module).items():
            if not isinstance(value, dict):
                assert value is before[id(module)][1][key]
    assert_equal(list(net.state_dict().values()), list(values.values()))


# -- what is cut is what would be silenced: an oracle that knows nothing of the analysis ----------


def _silenced(net: nn.Module, path: str, keep: Tensor, *, inputs: bool = False) -> nn.Module:
    """A copy in which channels of what a module returns, or is given, are zero but for some."""
    silent = copy.deepcopy(net)

    def mask(x: Tensor) -> Tensor:
        return x * (keep.view(1, -1, 1, 1) if x.dim() == 4 else keep)

    module = silent.get_submodule(path)
    if inputs:
        module.register_forward_pre_hook(lambda _, args: (mask(args[0]), *args[1:]))
    else:
        module.register_forward_hook(lambda _, __, out: mask(out))
    return silent


def _first(of: int, n: int) -> Tensor:
    return (torch.arange(n) < of).float()


HEADS = 16
_BERT, _NEOX = "encoder.layer.1.attention", "gpt_neox.layers.0.attention"
CUTS = [
    # Network, label, the module of which channels are silenced, whether in what it is given, and
    # how many channels one step of the label is.
    ("ResNet", "stages.0.0.conv1.width", "stages.0.0.bn1", False, 1),
    ("ResNet", "stages.1.1.conv1.width", "stages.1.1.bn1", False, 1),
    ("UNet", "up2.width", "up2", False, 1),
    ("UNet", "down1.3.width", "down1.5", False, 1),
    ("DenseNet", "block1.1.conv1.width", "block1.1.bn2", False, 1),
    (
        "nn.TransformerEncoder",
        "encoder.layers.0.linear1.width",
        "encoder.layers.0.linear2",
        True,
        1,
    ),
    ("BERT", f"{_BERT}.self.query.heads", f"{_BERT}.output.dense", True, HEADS),
    ("GPT-2", "transformer.h.1.attn.c_attn.heads", "transformer.h.1.attn.c_proj", True, HEADS),
    ("GPT-NeoX", f"{_NEOX}.query_key_value.heads", f"{_NEOX}.dense", True, HEADS),
]


@pytest.mark.parametrize(
    ("name", "label", "path", "of_inputs", "step"),
    [cut if cut[0] in QUICK else pytest.param(*cut, marks=pytest.mark.slow) for cut in CUTS],
)
def test_a_cut_equals_silencing_the_same_channels_of_the_original(
    name, label, path, of_inputs, step
):
    net, inputs, space = made(name)
    value = min(group.values[0] for group in space.groups() if group.label == label)
    arch = space.original | {label: value}
    keep = _first(value, space.original[label]).repeat_interleave(step)
    silent = _silenced(net, path, keep, inputs=of_inputs)
    with torch.no_grad():
        for ours, theirs in zip(run(space.freeze(arch), inputs), run(silent, inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            assert not torch.equal(theirs, run(net, inputs)[0])


class Kept:
    """What a library returns: an object of its own, which is another one each time."""

    def __init__(self, y: Tensor) -> None:
        self.y = y


class Returning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Kept:
        y = self.first(x)
        size = x.size()[:-1] + (y.size(-1),)  # noqa: RUF005 - of torch, it takes plain numbers
        return Kept(self.last(y.view(size)))


def test_costs_are_exact_where_all_of_the_forward_runs_once_for_each_size():
    x = torch.ones(1, 4)
    space = ns.elastic(Returning().eval(), x)
    cost = ns.profiler.macs(space, inputs=x)
    for value in space.symbols()["first.width"].values:
        network = space.freeze({"first.width": value} | _others(space, "first.width"))
        arch = {"first.width": value} | _others(space, "first.width")
        assert cost.evaluate(arch) == ns.profiler.macs(network, inputs=x)


class Centred(nn.LayerNorm):
    """A layer of torch's with a flag that its own forward looks at."""

    def __init__(self, width: int, *, first: bool) -> None:
        super().__init__(width)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT).mT if self.first else super().forward(x)


def test_costs_tell_layers_of_equal_sizes_apart_by_what_else_they_hold():
    first, last = Centred(16, first=True), Centred(16, first=False)
    net = nn.Sequential(nn.Conv1d(3, 16, 1), first, nn.Flatten(2), nn.Conv1d(16, 16, 1)).eval()
    turned = nn.Sequential(nn.Linear(4, 16), last, nn.Linear(16, 2)).eval()
    both = nn.ModuleDict({"a": net, "b": turned})

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = both

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.both["a"](x), self.both["b"](x)

    x = torch.randn(2, 3, 4)
    space = ns.elastic(Both().eval(), x)
    cost = ns.profiler.macs(space, inputs=x)
    smallest = {label: symbol.values[0] for label, symbol in space.symbols().items()}
    assert len(smallest) == 2
    assert cost.evaluate(smallest) == ns.profiler.macs(space.freeze(smallest), inputs=x)


class Hooking(nn.Module):
    """Leaves a hook on a part of it when it first runs, as libraries that record outputs do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.first.register_forward_hook(lambda *_: None)
        return self.last(self.first(x))  # type: ignore[no-any-return]


def test_hooks_that_a_forward_leaves_while_costs_are_counted_stay_with_what_was_followed():
    x = torch.ones(1, 4)
    space: Any = ns.elastic(Hooking().eval(), x)
    before = len(space.first._forward_hooks)
    ns.profiler.macs(space, inputs=x)
    assert len(space.first._forward_hooks) == before


class Deciding(nn.Module):
    """Goes one way or the other by a mask, and by positions that follow from it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(20, 16), nn.Embedding(8, 16)
        self.up, self.down, self.other = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 2)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        places = mask.cumsum(-1) - 1
        places[mask == 0] = 0
        x = self.tokens(tokens)
        if int(places.max()) > 3:
            x = x + self.positions(places)
        if not mask.all():
            x = x * mask[..., None]
            x = x + self.other(x)
        x = x + self.down(self.up(x).relu())
        return self.out(x[:, : int(mask.sum(-1).max())].mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("length", [3, 5, 6])
@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_decisions_on_values_that_are_given_are_followed_whichever_way_they_go(length, kind):
    mask = (torch.arange(6) < length)[None].to(kind)
    inputs = {"tokens": torch.arange(6)[None], "mask": mask}
    net = Deciding().eval()
    space = ns.elastic(net, inputs)
    assert not space.groups().notes
    assert set(space.symbols()) == {"tokens.width", "up.width"}
    smallest = {label: symbol.values[0] for label, symbol in space.symbols().items()}
    small = space.freeze(smallest)
    with torch.no_grad(), space.activate(smallest):
        assert_equal(run(space, inputs), run(small, inputs))
    cost = ns.profiler.macs(space, inputs=inputs)
    assert cost.evaluate(smallest) == ns.profiler.macs(small, inputs=inputs)


class Joined(nn.Module):
    """Branches of several widths, concatenated before a norm of groups."""

    def __init__(self, widths: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, width, 1) for width in widths)
        self.norm = nn.GroupNorm(groups, sum(widths))
        self.out = nn.Conv2d(sum(widths), 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.cat([branch(x) for branch in self.branches], 1)
        return self.out(self.norm(parts).relu())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("widths", "groups"), [((16, 24, 24), 8), ((8, 16), 12), ((12, 8), 5)])
def test_branches_before_a_norm_of_groups_vary_by_whole_groups_each_on_its_own(widths, groups):
    x = torch.randn(2, 3, 4, 4)
    space = ns.elastic(Joined(widths, groups).eval(), x, divisor=1)
    size = sum(widths) // groups
    assert len(space.symbols()) == len(widths)
    for seed in range(4):
        arch = space.sample(seed=seed)
        small: Any = space.freeze(arch)
        kept = [branch.out_channels for branch in small.branches]
        assert all(width % size == 0 for width in kept)
        assert small.norm.num_groups * size == sum(kept)
        with torch.no_grad(), space.activate(arch):
            assert_equal(run(space, x), run(small, x))


def _others(space: Any, label: str) -> dict[str, Any]:
    return {name: value for name, value in space.original.items() if name != label}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet", "BERT", "GPT-2", "nn.TransformerEncoder"])
def test_multiply_adds_of_the_space_are_those_of_the_network_that_it_freezes_to(name):
    net, inputs, _ = made(name)
    space = ns.elastic(net, inputs, outputs="free")
    cost = ns.profiler.macs(space, inputs=inputs)
    for seed in range(3):
        arch = space.sample(seed=seed)
        assert cost.evaluate(arch) == ns.profiler.macs(space.freeze(arch), inputs=inputs)


def test_a_network_that_came_out_of_a_space_becomes_one_again():
    net, inputs = NETWORKS["ResNet"]()
    space = ns.elastic(net, inputs)
    small: Any = space.freeze(space.sample(seed=0))
    again = ns.elastic(small, inputs)
    with torch.no_grad(), again.activate(again.original):
        assert_equal(run(again, inputs), run(small, inputs))
    smaller = again.freeze(again.sample(seed=1))
    assert type(smaller) is type(net)

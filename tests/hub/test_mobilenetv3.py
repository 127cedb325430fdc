"""The MobileNetV3 space against networks written by hand, and against facts about NNI's.

Parameters, and digests of the names and shapes of all tensors, were taken once from the networks
that NNI 3.0's ``frozen_factory`` builds.  The five published architectures that it refuses, being
deeper than the space that it builds for them, were taken with a larger ``depth_range``.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_space.errors import SampleValidationError, SpaceError, UsageError
from nas_space.hub import (
    ConvBNReLU,
    DepthwiseSeparableConv,
    InvertedResidual,
    MobileNetV3Space,
    ProxylessNAS,
    SqueezeExcite,
    reset_parameters,
)
from nas_space.hub.published import Published
from nas_space.mutable import Categorical, Mutable
from nas_space.nn import ModelSpace, MutableLinear, Repeat

MOBILENETV3 = MobileNetV3Space.published

WIDTHS = (16, 16, 16, 32, 64, 128, 256, 512, 1024)
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1, 1)
MULTIPLIERS = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)
ACTIVATIONS = (nn.Hardswish, *[nn.ReLU] * 3, *[nn.Hardswish] * 5)
OPTIONAL = (2, 4, 5)
"""The stages of the default space whose squeeze-and-excite is optional."""

TINY: dict[str, Any] = {
    "num_labels": 3,
    "base_widths": (8, 8, 16, 16, 16),
    "width_multipliers": (1.0, 2.0),
    "expand_ratios": (1.0, 2.0),
    "squeeze_excite": ("none", "optional"),
    "depth_range": (1, 2),
    "stride": (2, 1, 1, 1, 1),
    "activation": ("hswish",) * 5,
}
"""One searched stage, with everything that a larger space has."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def space() -> MobileNetV3Space:
    return MobileNetV3Space(num_labels=10)


@pytest.fixture(scope="module")
def tiny() -> MobileNetV3Space:
    return MobileNetV3Space(**TINY)


def images(size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(seed))


def scores(network: nn.Module, x: Tensor, *, train: bool = False) -> Tensor:
    """What a copy of a network says, so that running statistics stay as they are."""
    network = copy.deepcopy(network).train(train)
    torch.manual_seed(0)  # for dropout
    found: Tensor = network(x).detach()
    return found


def digest(network: nn.Module) -> str:
    """A digest of the names and the shapes of all tensors, in order."""
    lines = [f"{name}{list(tensor.shape)}" for name, tensor in network.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# -- networks written by hand ------------------------------------------------------------------


class Excite(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, hidden, 1)
        self.act1 = nn.ReLU()
        self.conv_expand = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        scaled: Tensor = x * self.gate(y)
        return scaled


class Adding(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + super().forward(x)
        return added


def by_hand(arch: dict[str, Any], num_labels: int) -> nn.Module:
    """A network of the default space, in torch alone, with the names of NNI's."""

    def eighths(width: float) -> int:
        # A multiple of 8; the nearest, or the next above if that is less than 90% of the width.
        near = max(8, round(width + 4) // 8 * 8)
        return near + 8 if near < 0.9 * width else near

    def conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3),
        ]

    def tail(hidden: int, outputs: int, label: str) -> list[nn.Module]:
        excite = arch.get(f"{label}_se") == "se"
        return [
            *([Excite(hidden, eighths(hidden / 4))] if excite else []),
            *conv(hidden, outputs, 1, 1, 1),
        ]

    factors = [arch[f"s{max(place - 1, 0)}_width_mult"] for place in range(len(WIDTHS))]
    widths = [eighths(factor * width) for factor, width in zip(factors, WIDTHS, strict=True)]
    stages: list[nn.Module] = []
    for stage in range(1, 6):
        blocks = []
        for index in range(arch[f"s{stage}_depth"]):
            label = f"s{stage}_i{index}"
            inputs, outputs = widths[stage + (index > 0)], widths[stage + 1]
            hidden = eighths(inputs * arch[f"{label}_exp"])
            act = ACTIVATIONS[stage + 1]
            stride = 1 if index else STRIDES[stage + 1]
            layers = [
                *conv(inputs, hidden, 1, 1, 1),
                act(),
                *conv(hidden, hidden, arch[f"{label}_ks"], stride, hidden),
                act(),
                *tail(hidden, outputs, label),
            ]
            blocks.append((Adding if index else nn.Sequential)(*layers))
        stages.append(nn.Sequential(*blocks))
    first = widths[0]
    network = nn.Sequential()
    network.stem = nn.Sequential(*conv(3, first, arch["stem_ks"], 2, 1), nn.Hardswish())
    network.blocks = nn.Sequential(
        Adding(
            *conv(first, first, arch["s0_i0_ks"], 1, first), nn.ReLU(), *tail(first, first, "s0_i0")
        ),
        *stages,
        nn.Sequential(*conv(widths[6], widths[7], 1, 1, 1), nn.Hardswish()),
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Conv2d(widths[7], widths[8], 1), nn.Hardswish()),
    )
    network.flatten = nn.Flatten()
    network.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(widths[8], num_labels))
    return network


@pytest.mark.parametrize("seed", range(8))
def test_a_network_is_the_one_written_by_hand(space: MobileNetV3Space, seed: int) -> None:
    arch = space.sample(seed=seed)
    network, hand = space.freeze(arch), by_hand(arch, 10)
    assert list(network.state_dict()) == list(hand.state_dict())
    hand.load_state_dict(network.state_dict())
    x = images()
    for train in (False, True):
        assert torch.equal(scores(network, x, train=train), scores(hand, x, train=train))


# -- facts about NNI's networks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [
        ("mobilenetv3-large-100", 5_483_032, "35b3632bd588"),
        ("mobilenetv3-small-050", 1_593_224, "2bac43c9e232"),
        ("mobilenetv3-small-075", 2_041_872, "b02eca3aab61"),
        ("mobilenetv3-small-100", 2_542_856, "b2dc8e74b0fb"),
        ("cream-014", 2_673_096, "9bc68e28049c"),
        ("cream-043", 4_398_600, "33944cb844c5"),
        ("cream-114", 4_410_120, "ea9e0624ff5d"),
        ("cream-287", 6_044_368, "b46f1e5df469"),
        ("cream-481", 7_713_360, "8ce71f3c6340"),
        ("cream-604", 9_695_624, "05c6b1f5f314"),
    ],
)
def test_published_networks_have_the_tensors_of_nni(
    name: str, parameters: int, tensors: str
) -> None:
    network = MobileNetV3Space.load_searched_model(name)
    assert (size(network), digest(network)) == (parameters, tensors)
    assert network.architecture == MOBILENETV3[name].architecture
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_every_published_network_is_tested() -> None:
    (mark,) = test_published_networks_have_the_tensors_of_nni.pytestmark  # type: ignore[attr-defined]
    assert [row[0] for row in mark.args[1]] == list(MOBILENETV3)


@pytest.mark.parametrize(
    ("seed", "parameters", "tensors"),
    [
        (0, 3_731_946, "ce34ba8d7763"),
        (1, 1_885_810, "c216e1df01ee"),
        (2, 2_563_674, "b188164681fa"),
        (3, 4_991_234, "6d25f0e2383a"),
        (4, 3_128_202, "d0bd395837f7"),
        (5, 1_549_402, "c73656d59b61"),
    ],
)
def test_networks_of_the_default_space_have_the_tensors_of_nni(
    space: MobileNetV3Space, seed: int, parameters: int, tensors: str
) -> None:
    arch = space.sample(seed=seed)
    for network in (
        space.freeze(arch),
        MobileNetV3Space.frozen_factory(arch)(num_labels=10),
    ):
        assert (size(network), digest(network)) == (parameters, tensors)


@pytest.mark.parametrize(
    ("name", "image", "millions"),
    [
        ("mobilenetv3-large-100", 224, 219),
        ("mobilenetv3-small-075", 224, 44),
        ("mobilenetv3-small-100", 224, 56.5),
        ("cream-014", 64, 14),
        ("cream-043", 96, 43),
        ("cream-114", 160, 114),
        ("cream-287", 224, 287),
        ("cream-481", 224, 481),
        ("cream-604", 224, 604),
    ],
)
def test_published_networks_multiply_as_often_as_their_papers_say(
    name: str, image: int, millions: float
) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = MobileNetV3Space.load_searched_model(name)
        network(torch.empty(1, 3, image, image, device="meta"))
    # The papers do not agree on what counts beside convolutions.
    assert counter.get_total_flops() / 2e6 == pytest.approx(millions, rel=0.06)


def test_small_and_large_networks_add_where_fixed_widths_agree() -> None:
    def additions(name: str) -> list[list[Any]]:
        blocks: Any = MobileNetV3Space.load_searched_model(name).blocks
        return [
            [block.has_skip for block in stage]
            for stage in blocks
            if isinstance(stage, nn.Sequential) and hasattr(stage[0], "has_skip")
        ]

    large: Any = MobileNetV3Space.load_searched_model("mobilenetv3-large-100")
    assert large.blocks[0].has_skip  # 16 to 16
    assert additions("mobilenetv3-large-100")[3] == [False, True]  # 80 to 112
    assert additions("mobilenetv3-small-050")[2] == [True, True]  # 24 to 24
    assert additions("mobilenetv3-small-100")[2] == [False, True]  # 40 to 48


# -- labels ---------------------------------------------------------------------------------------


def test_labels_and_domains_are_those_of_nni(space: MobileNetV3Space) -> None:
    expected: dict[str, list[Any]] = {f"s{k}_width_mult": list(MULTIPLIERS) for k in range(8)}
    expected |= {"stem_ks": [3, 5], "s0_i0_ks": [3, 5, 7]}
    for stage in range(1, 6):
        expected[f"s{stage}_depth"] = [1, 2, 3, 4]
        for index in range(4):
            label = f"s{stage}_i{index}"
            expected[f"{label}_exp"] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
            expected[f"{label}_ks"] = [3, 5, 7]
            if stage in OPTIONAL:
                expected[f"{label}_se"] = ["identity", "se"]
    found: Any = space.simplify()
    assert {label: list(symbol.values) for label, symbol in found.items()} == expected


def test_an_architecture_of_nni_is_read_as_it_is(space: MobileNetV3Space) -> None:
    arch = space.canonical(space.sample(seed=0) | {"s1_depth": 3})
    theirs = {k: int(v) if k.endswith("_exp") else v for k, v in arch.items()}
    theirs |= {"s0_depth": 1, "s1_i3_exp": 6}  # retired; inactive
    assert space.canonical(theirs) == arch
    with pytest.raises(SampleValidationError, match="s0_depth"):
        space.freeze(arch | {"s0_depth": 2})


def test_samples_hold_active_labels_only_and_reach_every_value(space: MobileNetV3Space) -> None:
    seen: dict[str, set[Any]] = {}
    for seed in range(300):
        arch = space.sample(seed=seed)
        for stage in range(1, 6):
            kernels = [
                label for label in arch if label.startswith(f"s{stage}_i") and "_ks" in label
            ]
            assert kernels == [f"s{stage}_i{i}_ks" for i in range(arch[f"s{stage}_depth"])]
        assert space.canonical(arch) == arch
        for label, value in arch.items():
            seen.setdefault(label, set()).add(value)
    symbols: Any = space.simplify()
    assert seen == {label: set(symbol.values) for label, symbol in symbols.items()}


def test_the_grid_of_a_tiny_space_is_every_architecture_once() -> None:
    # Networks are made on the way, so one without weights to speak of.
    few = MobileNetV3Space(
        **TINY
        | {"width_multipliers": 1.0, "expand_ratios": (1.0,), "squeeze_excite": ("none",) * 2}
    )
    sample: dict[str, Any] = {}
    found = {tuple(few.canonical(sample).items()) for _ in few.grid(sample)}
    kernels = [3, 5, 7]
    expected = set()
    for stem, first, depth in itertools.product([3, 5], kernels, [1, 2]):
        for chosen in itertools.product(kernels, repeat=depth):
            blocks = [
                item
                for i, kernel in enumerate(chosen)
                for item in ((f"s1_i{i}_exp", 1.0), (f"s1_i{i}_ks", kernel))
            ]
            arch = dict([("stem_ks", stem), ("s0_i0_ks", first), ("s1_depth", depth), *blocks])
            expected.add(tuple(few.canonical(arch).items()))
    assert found == expected
    assert len(found) == 2 * 3 * (3 + 9)


# -- one space, many networks ---------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), train=st.booleans())
def test_a_space_runs_as_the_network_that_it_freezes_to(
    space: MobileNetV3Space, seed: int, train: bool
) -> None:
    space.train(train)
    arch, x = space.sample(seed=seed), images(seed=seed)
    network = space.freeze(arch)
    torch.manual_seed(1)
    with space.activate(arch):
        active = space(x)
    torch.manual_seed(1)
    assert torch.equal(active, network(x))
    # And what training changes, it changes alike.
    after = space.freeze(arch).state_dict()
    assert all(torch.equal(after[name], value) for name, value in network.state_dict().items())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_network_is_built_as_it_is_frozen(tiny: MobileNetV3Space, seed: int) -> None:
    arch = tiny.sample(seed=seed)
    frozen, built = tiny.freeze(arch), MobileNetV3Space.frozen_factory(arch)(**TINY)
    assert digest(frozen) == digest(built)
    assert repr(frozen) == repr(built)
    assert frozen.architecture == built.architecture == arch
    assert [type(module) for module in frozen.modules()] == [type(m) for m in built.modules()]
    plain = [module for module in frozen.modules() if module is not frozen]
    assert not any(isinstance(module, Mutable) for module in plain)
    built.load_state_dict(frozen.state_dict())
    x = images()
    for train in (False, True):
        assert torch.equal(scores(frozen, x, train=train), scores(built, x, train=train))


def test_only_what_is_active_gets_gradients(tiny: MobileNetV3Space) -> None:
    arch = tiny.sample(seed=0) | {"s1_depth": 1, "s1_i0_se": "identity", "s2_width_mult": 1.0}
    space = copy.deepcopy(tiny).train()
    with space.activate(arch):
        space(images()).sum().backward()
    stage: Any = space.blocks[1]
    assert all(parameter.grad is None for parameter in stage[1].parameters())
    assert all(parameter.grad is None for parameter in stage[0].get_submodule("6").parameters())
    mix: Any = space.get_parameter("blocks.2.0.weight")
    assert mix.grad is not None
    assert mix.grad[:16].any()
    assert not mix.grad[16:].any()


def test_hooks_on_an_identity_are_not_lost_in_silence() -> None:
    space = MobileNetV3Space(**TINY)
    arch = space.sample(seed=0) | {"s1_depth": 1}
    identity = space.get_submodule("blocks.1.blocks.0.6.identity")
    identity.register_forward_hook(lambda *_: None)
    space.freeze(arch | {"s1_i0_se": "se"})
    with pytest.raises(SpaceError, match=r"blocks\.1.*hooks|hooks.*blocks\.1"):
        space.freeze(arch | {"s1_i0_se": "identity"})


def test_spaces_and_networks_pickle(tiny: MobileNetV3Space) -> None:
    again = pickle.loads(pickle.dumps(tiny))
    arch, x = tiny.sample(seed=4), images()
    network = tiny.freeze(arch)
    assert again.sample(seed=4) == arch
    for other in (again.freeze(arch), pickle.loads(pickle.dumps(network))):
        assert torch.equal(scores(other, x), scores(network, x))


def test_threads_each_get_their_own_architecture(tiny: MobileNetV3Space) -> None:
    space = copy.deepcopy(tiny).eval()
    x = images()
    archs = [space.sample(seed=seed) for seed in range(16)]
    expected = [(digest(n), scores(n, x)) for n in map(space.freeze, archs)]

    def work(place: int) -> bool:
        arch, (tensors, wanted) = archs[place % 16], expected[place % 16]
        with torch.no_grad(), space.activate(arch):
            active = space(x)
        frozen, built = space.freeze(arch), MobileNetV3Space.frozen_factory(arch)(**TINY)
        return (
            torch.equal(active, wanted)
            and torch.equal(scores(frozen, x), wanted)
            and digest(built) == tensors
        )

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(48)))


# -- arguments ------------------------------------------------------------------------------------


def test_excitation_may_reduce_the_input_instead_of_the_expanded_width() -> None:
    arguments = TINY | {"squeeze_excite": ("force", "force"), "width_multipliers": 4.0}
    arch: dict[str, Any] = {"stem_ks": 3, "s0_i0_ks": 3, "s1_depth": 1}
    arch |= {"s1_i0_exp": 2.0, "s1_i0_ks": 3}
    for from_expanded, hidden in ((True, 16), (False, 8)):
        factory = MobileNetV3Space.frozen_factory(arch)
        network = factory(**arguments, se_from_exp=from_expanded)
        excite = network.get_submodule("blocks.1.0.6")
        assert isinstance(excite, SqueezeExcite)
        assert excite.conv_reduce.weight.shape == (hidden, 64, 1, 1)
        assert network(images()).shape == (3, 3)


def test_excitation_without_weights_halves_every_channel() -> None:
    excite = SqueezeExcite(16)
    for parameter in excite.parameters():
        nn.init.zeros_(parameter)
    x = images()[:, :1].expand(-1, 16, -1, -1)
    assert torch.equal(excite(x), x / 2)


def test_excitation_passes_large_values() -> None:
    excite, hand = SqueezeExcite(16), Excite(16, 8)
    hand.load_state_dict(excite.state_dict())
    x = 100 + images()[:, :1].expand(-1, 16, -1, -1)
    assert torch.equal(excite(x), hand(x))
    assert excite.conv_reduce(x).max() > 6


@pytest.mark.parametrize("whole", [True, False])
def test_weights_are_drawn_as_in_nni(whole: bool) -> None:
    torch.manual_seed(0)
    network = MobileNetV3Space() if whole else MobileNetV3Space.load_searched_model("cream-043")
    seen = set()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs, *kernel = module.weight.shape
            count = math.prod(kernel)
            if module.weight.numel() > 20_000:
                wanted = (2 / (count * outputs)) ** 0.5
                assert module.weight.std().item() == pytest.approx(wanted, rel=0.05)
                seen.add("weight")
            if module.bias is not None:
                bound = (count * inputs) ** -0.5
                assert module.bias.abs().max() <= bound
                if module.bias.numel() > 100:
                    wanted = bound / 3**0.5
                    assert module.bias.std().item() == pytest.approx(wanted, rel=0.2)
                    seen.add("bias")
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert not module.running_mean.any()
            assert (module.running_var == 1).all()
            seen.add("norm")
        elif isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
            assert not module.bias.any()
            seen.add("linear")
    assert seen == {"weight", "bias", "norm", "linear"}


def test_arguments_reach_the_layers() -> None:
    space = MobileNetV3Space(**TINY | {"bn_eps": 0.1, "bn_momentum": 0.2, "dropout_rate": 0.3})
    network = space.random(seed=0)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.1, 0.2)}
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base_widths": (8, 8, 16, 16)}, "base_widths"),
        ({"stride": (2, 1, 1, 1)}, "stride must have 5 items"),
        ({"activation": ("relu",) * 4}, "activation must have 5 items"),
        ({"activation": ("gelu",) * 5}, "'gelu'"),
        ({"squeeze_excite": ("none",)}, "squeeze_excite must have 2 items"),
        ({"squeeze_excite": ("none", "maybe")}, "'maybe'"),
        ({"depth_range": (0, 2)}, "depth_range"),
        ({"depth_range": (3, 2)}, "depth_range"),
        ({"depth_range": (1, 2, 3)}, "depth_range"),
        ({"depth_range": [(1, 2), (1, 2)]}, "depth_range must have 1 items"),
        ({"stride": (2, 3, 1, 1, 1)}, "stride"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MobileNetV3Space(**TINY | wrong)


def test_depths_may_be_given_for_each_stage() -> None:
    space = MobileNetV3Space(
        base_widths=(8, 8, 8, 8, 8, 8),
        width_multipliers=1.0,
        squeeze_excite=("none",) * 3,
        depth_range=[(1, 2), (3, 3)],
        stride=(1,) * 6,
        activation=("relu",) * 6,
    )
    symbols: Any = space.simplify()
    assert list(symbols["s1_depth"].values) == [1, 2]
    assert list(symbols["s2_depth"].values) == [3]


# -- published weights ----------------------------------------------------------------------------


def test_published_weights_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, published = "mobilenetv3-small-050", MOBILENETV3["mobilenetv3-small-050"]
    known = MobileNetV3Space.load_searched_model(name)
    torch.save(known.state_dict(), tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    file = f"weights-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "weights").rename(tmp_path / file)
    monkeypatch.setenv("NAS_SPACE_CACHE", str(tmp_path))
    local = Published(published.architecture, file, published.arguments)
    monkeypatch.setitem(MOBILENETV3, name, local)
    load = partial(MobileNetV3Space.load_searched_model, name, pretrained=True)
    assert torch.equal(scores(load(), images()), scores(known, images()))
    few = load(num_labels=7)
    assert few(images()).shape == (3, 7)
    kept, known_one = few.get_parameter("stem.0.weight"), known.get_parameter("stem.0.weight")
    assert torch.equal(kept, known_one)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="mobilenetv3-small-100"):
        MobileNetV3Space.load_searched_model("mobilenetv3-small-10")


# -- ProxylessNAS as a space of this kind ----------------------------------------------------------


class ProxylessLike(ModelSpace):
    """ProxylessNAS's networks with ratios and kernels as choices of values, on shared weights."""

    def __init__(self, widths: tuple[Any, ...], num_labels: int) -> None:
        super().__init__()

        def block(stage: int, stride: int, index: int) -> nn.Module:
            return InvertedResidual(
                widths[stage] if index else widths[stage - 1],
                widths[stage],
                Categorical([3, 6], label=f"s{stage}_i{index}_exp"),
                Categorical([3, 5, 7], label=f"s{stage}_i{index}_ks"),
                1 if index else stride,
            )

        self.stem = ConvBNReLU(3, widths[0], stride=2)
        self.blocks = nn.Sequential(
            DepthwiseSeparableConv(widths[0], widths[1]),
            *(
                Repeat(partial(block, stage, stride), (1, 4), label=f"s{stage}_depth")
                for stage, stride in ((2, 2), (3, 2), (4, 2), (5, 1), (6, 2))
            ),
            block(7, 1, 0),
        )
        self.feature_mix_layer = ConvBNReLU(widths[7], widths[8], kernel_size=1)
        self.classifier = MutableLinear(widths[8], num_labels)
        reset_parameters(self, bn_eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.feature_mix_layer(self.blocks(self.stem(x)))
        scored: Tensor = self.classifier(x.mean((2, 3), keepdim=True).flatten(1))
        return scored


def as_values(arch: dict[str, Any]) -> dict[str, Any]:
    """An architecture of ProxylessNAS, with a kernel and a ratio for each chosen block."""
    found: dict[str, Any] = {}
    for label, value in arch.items():
        if isinstance(value, str):
            kernel, ratio = value.removeprefix("k").split("e")
            found |= {f"{label}_ks": int(kernel), f"{label}_exp": int(ratio)}
        else:
            found[label] = value
    return found


@pytest.mark.parametrize("name", [None, "proxyless-mobile", "proxyless-gpu"])
def test_networks_of_proxylessnas_are_points_of_such_a_space(name: str | None) -> None:
    if name is None:
        source: Any = ProxylessNAS(num_labels=10).random(seed=0)
    else:
        source = ProxylessNAS.load_searched_model(name, num_labels=10)
    assert source.architecture is not None
    arch = as_values(source.architecture)
    arch.pop("s7_depth", None)
    ends = [source.stem[0], source.blocks[0], *(stage[0] for stage in source.blocks[1:6])]
    widths = tuple(
        end.out_channels for end in (*ends, source.blocks[6], source.feature_mix_layer[0])
    )
    like, x = ProxylessLike(widths, 10), images(64)
    network = like.freeze(arch)
    network.load_state_dict(source.state_dict())
    for train in (False, True):
        assert torch.equal(scores(network, x, train=train), scores(source, x, train=train))
    # The weights fit into the shared ones as well: channels come first, kernels in the middle.
    for path, weight in source.named_parameters():
        part = like.get_parameter(
            re.sub(r"^blocks\.([1-5])\.", r"blocks.\1.blocks.", path)
        ).detach()
        for dim, length in enumerate(weight.shape):
            part = part.narrow(dim, (part.shape[dim] - length) // 2 if dim > 1 else 0, length)
        part.copy_(weight.detach())
    with like.activate(arch):
        assert torch.equal(like.train()(x), scores(source, x, train=True))

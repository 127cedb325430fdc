"""Kernels of convolutions that may be smaller, where that is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nas_space as ns
from nas_space.errors import UsageError
from tests.compression.test_elastic import assert_equal, run

X = torch.randn(1, 3, 21, 21, generator=torch.Generator().manual_seed(0))


class Same(nn.Conv2d):
    """Pads by itself."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (2, 2, 2, 2)))


def convolutional(*convolutions: nn.Module) -> Any:
    layers: list[nn.Module] = []
    for convolution in convolutions:
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 2, 1)).eval()


@st.composite
def convolutions(draw):
    size, rate = draw(st.sampled_from([3, 5, 7])), draw(st.integers(1, 2))
    thin = draw(st.booleans())
    half = rate * (size // 2)
    padding = draw(st.sampled_from(["same", half, half + 1]))
    return nn.Conv2d(
        8,
        8,
        (1, size) if thin else size,
        1 if padding == "same" else draw(st.integers(1, 2)),
        padding if not thin or padding == "same" else (0, padding),
        rate,
        draw(st.sampled_from([1, 8])),
        padding_mode=draw(st.sampled_from(["zeros", "circular"])),
    )


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_smaller_kernel_is_the_middle_of_the_original_with_the_same_output_size(data):
    torch.manual_seed(0)
    net = convolutional(nn.Conv2d(3, 8, 1), data.draw(convolutions()), data.draw(convolutions()))
    space = ns.elastic(net, X, kernels=True, widths=(1.0,))
    with torch.no_grad(), space.activate(space.original):
        assert_equal(run(space, X), run(net, X))
    arch = space.sample(seed=data.draw(st.integers(0, 9)))
    small: Any = space.freeze(arch)
    silent = convolutional(*[m for m in net[:-1] if isinstance(m, nn.Conv2d)])
    silent.load_state_dict(net.state_dict())
    with torch.no_grad():
        for place in (2, 4):
            conv, whole = small[place], silent[place]
            kernel = max(conv.kernel_size)
            assert kernel == arch.get(f"{place}.kernel", max(whole.kernel_size))
            mask = torch.zeros_like(whole.weight)
            for dim, size in enumerate(whole.kernel_size):
                own = torch.arange(size).sub(size // 2).abs() <= kernel // 2
                mask = mask + own.view([-1 if d == dim + 2 else 1 for d in range(4)])
            whole.weight[mask < 2] = 0
        with space.activate(arch):
            assert_equal(run(space, X), run(small, X))
        for ours, theirs in zip(run(small, X), run(silent, X), strict=True):
            torch.testing.assert_close(ours, theirs)
    cost = ns.profiler.macs(space, inputs=X)
    found = ns.profiler.macs(small, inputs=X)
    assert (cost.evaluate(arch) if space.original else cost) == found


@pytest.mark.parametrize(
    ("convolution", "reason"),
    [
        (nn.Conv2d(8, 8, 5), "padding of"),
        (nn.Conv2d(8, 8, 4, padding=2), "no middle that is odd"),
        (nn.Conv2d(8, 8, (3, 5), padding=(1, 2)), "no middle that is odd"),
        (nn.Conv2d(8, 8, 3, padding=1), "on offer"),
        (Same(8, 8, 5), "a Same does more"),
        (nn.ConvTranspose2d(8, 8, 3, padding=1), "a ConvTranspose2d does more"),
    ],
)
def test_kernels_that_cannot_be_smaller_say_why(convolution, reason):
    net = convolutional(nn.Conv2d(3, 8, 1), convolution)
    groups = ns.elastic(net, X, kernels=True).groups()
    assert not any(group.kind == "kernel" for group in groups)
    (group,) = [group for group in groups.fixed if group.kind == "kernel"]
    assert group.label == "2.kernel"
    assert reason in str(group.reason)


class Borrowing(nn.Module):
    """Uses the weight of a convolution with a padding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, padding=2)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        y = nn.functional.conv2d(x, self.conv.weight, self.conv.bias, padding=2)
        return self.head(y.relu())


def test_a_kernel_that_other_code_uses_is_tried_and_fixed():
    groups = ns.elastic(Borrowing().eval(), X, kernels=True).groups()
    assert not any(group.kind == "kernel" for group in groups)
    assert any("does not run" in str(g.reason) for g in groups.fixed if g.kind == "kernel")


def test_sizes_labels_and_patterns_choose_kernels():
    net = convolutional(nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 8, 5, padding=2))
    assert not any("kernel" in label for label in ns.elastic(net, X).symbols())
    space = ns.elastic(net, X, kernels=[1, 5], fixed=["2.kernel"], only=["*kernel"])
    assert {n: s.values for n, s in space.symbols().items()} == {"0.kernel": (1, 5)}
    shared = ns.elastic(net, X, kernels=True, share="kind", only=["*kernel"])
    assert set(shared.symbols()) == {"*.kernel"}
    small: Any = shared.freeze({"*.kernel": 3})
    assert [small[place].kernel_size for place in (0, 2)] == [(3, 3), (3, 3)]
    with pytest.raises(UsageError, match="odd"):
        ns.elastic(net, X, kernels=[2])


@pytest.mark.parametrize("sizes", [[3, 7], [1, 3, 7]])
def test_a_refit_makes_up_for_taps_and_channels_that_are_cut(sizes):
    torch.manual_seed(0)
    net = convolutional(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 7, padding=3), nn.Conv2d(8, 8, 3, padding=1)
    )
    space = ns.elastic(net, X, kernels=sizes, divisor=1)
    small: Any = space.freeze({n: symbol.values[0] for n, symbol in space.symbols().items()})
    assert small[2].kernel_size == (sizes[0], sizes[0])
    images, probe = (nn.functional.avg_pool2d(torch.randn(8, 3, 42, 42), 2) for _ in range(2))

    def error() -> float:
        with torch.no_grad():
            return float((small(probe) - net(probe)).square().mean())

    before = error()
    kernels = [m.kernel_size for m in small.modules() if isinstance(m, nn.Conv2d)]
    space.refit(small, images.split(4), teacher=net)
    assert error() < 0.95 * before
    assert kernels == [m.kernel_size for m in small.modules() if isinstance(m, nn.Conv2d)]


def test_a_kernel_alone_is_refitted_where_all_channels_stay():
    torch.manual_seed(0)
    net = convolutional(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, padding=2))
    space = ns.elastic(net, X, kernels=[1, 5], only=["*kernel"])
    small: Any = space.freeze({"2.kernel": 1})
    images = torch.nn.functional.avg_pool2d(torch.randn(8, 3, 42, 42), 2)

    def error() -> float:
        with torch.no_grad():
            return float((small(images) - net(images)).square().mean())

    before = error()
    space.refit(small, [images], teacher=net)
    assert error() < 0.8 * before

"""What a smaller network has learnt goes back into its space, and on to networks smaller still."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import UsageError
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import every_network, made


def smallest(space: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(space.original)
    for label, symbol in space.symbols().items():
        found[label] = symbol.values[0] if "depth" not in label else found[label]
    return found


@every_network
def test_what_is_absorbed_is_frozen_again_and_nothing_else_has_changed(name):
    """So layers cut where the analysis has tried to: both say where the elements of sizes are."""
    net, _, original = made(name)
    space: Any = copy.deepcopy(original)
    before = {key: value.clone() for key, value in space.state_dict().items()}
    arch = space.original | space.sample(seed=3)
    small: Any = space.freeze(arch)
    for parameter in small.parameters():
        parameter.data.uniform_(-0.1, 0.1)
    space.absorb(small)
    again = space.freeze(arch).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in small.state_dict().items())
    parameters = dict(space.named_parameters())
    changed = sum(int((parameters[key] != before[key]).sum()) for key in parameters)
    assert changed <= sum(parameter.numel() for parameter in small.parameters())
    wanted = net.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in before.items())


def test_a_network_is_fitted_to_a_larger_one_of_its_space():
    """Of which it has some of the blocks and channels; the original is another network."""
    torch.manual_seed(0)
    net, inputs = NETWORKS["ResNet"]()
    space = ns.elastic(net, inputs, divisor=1).sort_channels([inputs])
    fewer = {"stages.0.depth": 1}
    larger: Any = space.freeze(smallest(space) | fewer | _middle(space))
    for parameter in larger.parameters():
        parameter.data.mul_(1.1)
    space.absorb(larger)
    small: Any = space.freeze(smallest(space) | fewer)
    data = [torch.randn(32, *inputs.shape[1:]) for _ in range(2)]
    with torch.no_grad():
        before = (small(inputs) - larger(inputs)).square().mean()
        space.refit(small, data, teacher=larger)
        assert (small(inputs) - larger(inputs)).square().mean() < 0.9 * before


def _middle(space: Any) -> dict[str, Any]:
    return {
        label: symbol.values[1]
        for label, symbol in space.symbols().items()
        if "depth" not in label and len(symbol.values) > 2
    }


def test_a_teacher_that_lacks_channels_is_refused_and_nothing_is_changed():
    net, inputs = NETWORKS["ResNet"]()
    space = ns.elastic(net, inputs)
    narrow: Any = space.freeze(smallest(space))
    wide: Any = space.freeze(space.original | _middle(space))
    before = {key: value.clone() for key, value in wide.state_dict().items()}
    with pytest.raises(UsageError, match="larger in every choice"):
        space.refit(wide, [inputs], teacher=narrow)
    assert all(torch.equal(value, before[key]) for key, value in wide.state_dict().items())


class Edited(nn.Sequential):
    """As a sequence, and yet another class."""


class Written(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.layer = ns.nn.MutableLinear(4, ns.Categorical([8, 16], label="w"))


def _edited(change: Any) -> Any:
    """What someone did to a network, who then asks for what only networks of the space can have."""

    def of(net: nn.Module, space: Any) -> Any:
        del net
        small = space.freeze(smallest(space))
        return change(small) or small

    return of


def _wider(small: Any) -> None:
    small[2] = nn.Linear(24, 2)


def _added(small: Any) -> None:
    small.append(nn.Identity())


def _removed(small: Any) -> None:
    del small[3]


def _parametrized(small: Any) -> None:
    nn.utils.parametrizations.weight_norm(small[0])


def _without_bias(small: Any) -> None:
    small[0].bias = None


def _another(small: Any) -> None:
    small[3] = nn.ReLU()


def _plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), nn.Identity(), nn.BatchNorm1d(2)
    ).eval()


ROWS = torch.ones(3, 4)

STRANGE: dict[str, tuple[Any, str]] = {
    "no network": (lambda _, __: "small", "takes a module.*got a str"),
    "nothing": (lambda _, __: None, "takes a module.*NoneType"),
    "the original": (lambda net, _: net, "was not frozen"),
    "another plain network": (
        lambda _, __: nn.Linear(4, 2), "Linear was not frozen|is a Linear, not a Sequential"
    ),
    "the space": (lambda _, space: space, "ModelSpace already"),
    "of another space": (
        lambda _, __: _frozen(nn.Sequential(nn.Identity(), *_plain())), "from another one"
    ),
    "of a space of the same labels and other sizes": (
        lambda _, __: _frozen(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))),
        r"weight of \(3, 8\), not of \(2, 8\)",
    ),
    "of a written space": (
        lambda _, __: Written().freeze({"w": 8}),
        "frozen from a space written in code",
    ),
    "of another class": (_edited(lambda small: setattr(small, "__class__", Edited)), "an? Edited"),
    "wrapped": (_edited(nn.DataParallel), "DataParallel.*attribute module"),
    "compiled": (_edited(torch.compile), "_orig_mod"),
    "quantised": (
        _edited(
            lambda small: torch.ao.quantization.quantize_dynamic(
                small, {nn.Linear}, dtype=torch.qint8
            )
        ),
        "'0', a Linear, is quantised",
    ),
    "without values": (_edited(lambda small: small.to("meta")), r"0\.weight is on the meta device"),
    "a layer of another size": (_edited(_wider), r"2 has a weight of \(2, 24\), not of \(2, 8\)"),
    "a layer of another class": (_edited(_another), "3 is a ReLU, not a Identity"),
    "a layer more": (_edited(_added), "5 was added"),
    "a layer less": (_edited(_removed), "is a Bat|3 is|4 is not there"),
    "parametrized": (_edited(_parametrized), "0 is a ParametrizedLinear"),
    "without a bias": (_edited(_without_bias), "0 has a bias of no shape"),
}  # fmt: skip


def _frozen(net: nn.Module) -> Any:
    space = ns.elastic(net.eval(), ROWS)
    return space.freeze(smallest(space))


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_what_the_space_was_not_frozen_to_is_refused_by_name_and_nothing_is_changed(name):
    """As the network, to be absorbed or fitted, and as the teacher."""
    make, message = STRANGE[name]
    net = _plain()
    space: Any = ns.elastic(net, ROWS)
    strange, small = make(net, space), space.freeze(smallest(space))
    before = {key: value.clone() for key, value in space.state_dict().items()}
    own = {key: value.clone() for key, value in small.state_dict().items()}
    with pytest.raises(UsageError, match=f"absorb.*{message}|{message}"):
        space.absorb(strange)
    with pytest.raises(UsageError, match=message):
        space.refit(strange, [ROWS])
    if strange is not net and strange is not None:  # which is the teacher by default
        with pytest.raises(UsageError, match=message):
            space.refit(small, [ROWS], teacher=strange)
    assert all(torch.equal(value, before[key]) for key, value in space.state_dict().items())
    assert all(torch.equal(value, own[key]) for key, value in small.state_dict().items())


def test_a_network_from_before_the_space_was_sorted_is_refused_for_its_channels_are_elsewhere():
    net = _plain()
    space: Any = ns.elastic(net, ROWS)
    small = space.freeze(smallest(space))
    space.absorb(copy.deepcopy(small))
    space.sort_channels()
    with pytest.raises(UsageError, match="before this one was sorted"):
        space.absorb(small)
    with pytest.raises(UsageError, match="before this one was sorted"):
        space.refit(space.freeze(smallest(space)), [ROWS], teacher=small)
    space.absorb(space.freeze(smallest(space)))


def test_a_network_without_a_note_of_its_order_is_told_from_one_of_another_order():
    space: Any = ns.elastic(_plain(), ROWS).sort_channels()
    old = space.freeze(smallest(space))
    del vars(old)["_order"]
    old[0].bias.data.fill_(7.0)
    for use in (space.absorb, lambda net: space.refit(net, [ROWS])):
        with pytest.raises(UsageError, match="by an earlier version, which did not note the order"):
            use(old)
    again = space.freeze(smallest(space))
    again.load_state_dict(old.state_dict())
    space.absorb(again)
    assert torch.equal(space.freeze(smallest(space))[0].bias, old[0].bias)


def test_a_network_that_was_saved_is_known_again(tmp_path):
    net = _plain()
    space: Any = ns.elastic(net, ROWS).sort_channels()
    small = space.freeze(smallest(space))
    ns.save_network(small, tmp_path)
    again: Any = ns.load_network(tmp_path, net)
    again[0].bias.data.fill_(7.0)
    space.absorb(again)
    assert torch.equal(space.freeze(smallest(space))[0].bias, again[0].bias)


def test_a_small_network_whose_space_is_made_anew_is_the_teacher_of_what_comes_out():
    """Whose note is of the first space, although it is the original of the second."""
    first: Any = ns.elastic(_plain(), ROWS, divisor=1).sort_channels()
    small = first.freeze({"0.width": 12})
    second: Any = ns.elastic(small, ROWS, divisor=1).sort_channels()
    smaller = second.freeze({"0.width": 6})
    x = torch.randn(64, 4)
    with torch.no_grad():
        before = (smaller(x) - small(x)).square().mean()
        second.refit(smaller, [x], teacher=small)
        assert (smaller(x) - small(x)).square().mean() < before
    with pytest.raises(UsageError, match=r"from another one|from another space"):
        second.absorb(small)


def test_weights_of_another_type_are_absorbed_and_a_teacher_of_another_type_is_refused():
    net = _plain()
    space: Any = ns.elastic(net, ROWS)
    small = space.freeze(smallest(space), dtype=torch.bfloat16)
    small[0].bias.data.fill_(2.0)
    space.absorb(small)
    assert space.freeze(space.original)[0].bias[:8].tolist() == [2.0] * 8
    own = {key: value.clone() for key, value in small.state_dict().items()}
    with pytest.raises(UsageError, match="does not run on these inputs"):
        space.refit(small, [ROWS.bfloat16()], teacher=net)
    with pytest.raises(UsageError, match="the network does not run on these inputs"):
        space.refit(small, [ROWS], teacher=net)
    assert all(torch.equal(value, own[key]) for key, value in small.state_dict().items())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "there are none"),
        (iter(()), "a generator gives its batches once"),
        ([torch.ones(3, 4, device="meta")], "input 0 is on meta, the network on cpu"),
        ([ROWS, torch.ones(3, 4, device="meta")], "input 0 is on meta"),
        ([torch.ones(3, 5)], "does not run on these inputs"),
        ([(ROWS, ROWS)], "does not take these inputs"),
        ([{"wrong": ROWS}], "does not take these inputs"),
        (["text"], "inputs are a tensor"),
        (ROWS, "got a single Tensor"),
        ({"input": ROWS}, "got a single dict"),
        ([{"input": ROWS, "labels": ROWS}], "unexpected keyword argument 'labels'"),
    ],
)
def test_data_that_do_not_fit_are_refused_and_all_stays_as_it_was(data, message):
    data = data if isinstance(data, (torch.Tensor, dict)) else list(data)
    space: Any = ns.elastic(_plain(), ROWS)
    before = {key: value.clone() for key, value in space.state_dict().items()}
    for sort in (space.sort_channels, space.sort_blocks):
        with pytest.raises(UsageError, match=message):
            sort(iter(data) if isinstance(data, list) else data)
    assert all(torch.equal(value, before[key]) for key, value in space.state_dict().items())
    small = space.freeze(smallest(space))
    with pytest.raises(UsageError, match="ridge must be at least 0"):
        space.refit(small, [ROWS], ridge=-1.0)
    own = {key: value.clone() for key, value in small.state_dict().items()}
    with pytest.raises(UsageError, match=message):
        space.refit(small, data)
    assert all(torch.equal(value, own[key]) for key, value in small.state_dict().items())


def test_a_failure_half_way_leaves_the_network_as_it_was():
    space: Any = ns.elastic(_two(), ROWS, divisor=1)
    small = space.freeze(smallest(space))
    own = {key: value.clone() for key, value in small.state_dict().items()}
    seen: list[int] = []

    def stop(_: nn.Module, __: Any) -> None:
        # It is the layer before that is fitted by now.
        if any(not torch.equal(value, own[key]) for key, value in small.state_dict().items()):
            seen.append(1)
            raise MemoryError

    small[4].register_forward_pre_hook(stop)
    with pytest.raises(MemoryError):
        space.refit(small, [torch.randn(40, 4)])
    assert seen
    assert all(torch.equal(value, own[key]) for key, value in small.state_dict().items())


def _two() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    ).eval()


def test_a_smaller_kernel_goes_back_to_the_middle_of_the_larger():
    net = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 2, 1)).eval()
    space: Any = ns.elastic(net, torch.ones(1, 3, 8, 8), kernels=True, divisor=1)
    before = space.state_dict()["0.weight"].clone()
    small = space.freeze(smallest(space))
    small[0].weight.data.fill_(9.0)
    space.absorb(small)
    after, kept = space.state_dict()["0.weight"], len(small[0].weight)
    assert after[:kept, :, 1:4, 1:4].eq(9.0).all()
    after = after.clone()
    after[:kept, :, 1:4, 1:4] = before[:kept, :, 1:4, 1:4]
    assert torch.equal(after, before)

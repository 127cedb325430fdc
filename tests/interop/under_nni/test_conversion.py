"""What a space becomes in NNI, and what is refused because NNI has nothing like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.mutable import CategoricalMultiple as NNIMultiple
from nni.mutable import SampleValidationError as NNIValidationError
from nni.nas import strategy as strategies
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.hub.pytorch import ProxylessNAS as TheirProxylessNAS
from nni.nas.nn.pytorch import ModelSpace as NNIModelSpace
from torch import Tensor, nn

from nas_space import ModelSpace
from nas_space.errors import NasSpaceError, SpaceError
from nas_space.hub import ProxylessNAS
from nas_space.interop.nni import load_supernet, to_nni
from nas_space.interop.nni_expressions import Expressions
from nas_space.mutable import Categorical, MutableExpression, Numerical, label_scope
from nas_space.mutable.node import postorder
from nas_space.nn import (
    Cell,
    InputChoice,
    LayerChoice,
    MutableBatchNorm2d,
    MutableConv1d,
    MutableConv2d,
    MutableLinear,
    MutableLSTM,
    MutableModule,
    MutableMultiheadAttention,
    ParametrizedModule,
    Repeat,
    active,
    flattened,
)
from tests.interop.under_nni.spaces import SPACES, Elastic, complete, images, run
from tests.interop.under_nni.test_strategies import size_of
from tests.strategies import decoded, expressions, pools, symbols

# -- what stays -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_labels_domains_and_defaults_stay(name: str) -> None:
    space = SPACES[name]()
    nni_space = to_nni(space)
    assert isinstance(nni_space, NNIModelSpace)
    found = nni_space.simplify()
    assert set(found) == set(space.symbols())
    for label, symbol in space.symbols().items():
        assert list(found[label].values) == list(symbol.values)
        assert found[label].default({}) == symbol.default_choice()


@pytest.mark.parametrize("name", SPACES)
def test_it_runs_as_the_default_network_with_copies_of_the_weights(name: str) -> None:
    space = SPACES[name]().eval()
    nni_space = to_nni(space)
    x = images()
    with torch.no_grad():
        assert torch.equal(nni_space(x), space.freeze(complete(space, {}))(x))
        for parameter in nni_space.parameters():
            parameter.zero_()
        assert not torch.equal(nni_space(x), space.freeze(complete(space, {}))(x))


class Recurrent(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        size = Categorical([2, 3], label="size")
        self.rnn = MutableLSTM(4, size, bidirectional=True, num_layers=2)
        self.attention = MutableMultiheadAttention(size * 2, 1, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        y = self.rnn(x)[0]
        return self.attention(y, y, y)[0]


def test_the_parts_that_a_layer_keeps_go_with_it() -> None:
    space, x = Recurrent(), torch.randn(5, 1, 4)
    network = space.freeze({"size": 2})
    assert torch.equal(to_nni(space)(x), network(x))


def test_modes_go_with_it() -> None:
    nni_space = to_nni(Elastic().eval())
    assert not nni_space.training
    nni_space.train()
    assert all(module.training for module in nni_space.modules())

    class Tells(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice([nn.Identity(), nn.ReLU()], label="op")

        def forward(self, x: Tensor) -> Any:
            return self.op(x) * (2 if self.training else 1)

    tells = to_nni(Tells())
    one = torch.ones(1)
    assert (tells.train()(one).item(), tells.eval()(one).item()) == (2, 1)


def test_frozen_factory_and_freeze_give_networks_of_the_space() -> None:
    space = Elastic()
    nni_space = to_nni(space)
    arch = complete(space, space.sample(seed=0))
    frozen = nni_space.freeze(arch)
    built = type(nni_space).frozen_factory(arch)(space=space)
    for network in (frozen, built):
        assert type(network) is Elastic
        assert torch.equal(network(images()), space.freeze(arch)(images()))
    assert nni_space.contains(arch)
    assert not nni_space.contains(arch | {"user/width": 5})
    with pytest.raises(NNIValidationError, match="user/width"):
        nni_space.validate(arch | {"user/width": 5})


@settings(max_examples=150)
@given(data=st.data())
def test_expressions_compute_the_same(data: st.DataObject) -> None:
    pool = data.draw(pools())
    expression = data.draw(expressions(pool))
    sample = {s.name: data.draw(st.sampled_from(decoded(s))) for s in pool}
    theirs = Expressions()(expression)
    try:
        expected: Any = expression.evaluate(sample)
    except (ArithmeticError, LookupError, TypeError, ValueError, NasSpaceError):
        return
    try:
        found = theirs.evaluate(sample)
    except Exception:  # noqa: BLE001 - whatever a branch raises that should not be computed
        # NNI computes branches that are not taken as well.
        assert any(node.operator.lazy for node in postorder(expression) if node.operator)
        return
    assert (type(found), repr(found)) == (type(expected), repr(expected))


@settings(max_examples=100)
@given(symbol=symbols("x"))
def test_symbols_keep_their_domains(symbol: Any) -> None:
    there = Expressions()(symbol)
    assert there.label == "x"
    value = symbol.default_choice()
    assert there.contains({"x": value})
    if not isinstance(symbol, Numerical):
        assert list(there.grid()) == list(symbol.grid()) or isinstance(there, NNIMultiple)
        assert there.weights == pytest.approx(list(symbol.weights))


def test_one_label_is_one_symbol_and_scopes_around_do_not_matter() -> None:
    space = SPACES["mobilenetv3"]()
    with label_scope("around"):
        nni_space = to_nni(space)
    assert set(nni_space.simplify()) == set(space.symbols())


def test_a_cell_goes_with_it(tmp_path: Path) -> None:
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Cell([nn.Conv2d(3, 3, 1), nn.MaxPool2d(3, 1, 1)], 2, label="cell")

        def forward(self, x: Tensor) -> Any:
            return self.cell(x).mean((2, 3))

    space = Net()
    experiment = run(to_nni(space), FunctionalEvaluator(size_of), strategies.Random(), tmp_path)
    assert space.contains(experiment.export_top_models(formatter="dict")[0])
    assert strategies.DARTS().mutate_model(to_nni(space))(images()).shape == (2, 6)


# -- conditions -------------------------------------------------------------------------------


def narrow() -> Any:
    space = Elastic()
    symbols = space.symbols()
    return space.where(symbols["user/width"] * symbols["user/kernel"] <= 8)


def test_conditions_hold_in_strategies_over_trials(tmp_path: Path) -> None:
    tried: list[Any] = []

    def evaluate(network: Any) -> None:
        tried.append(network.architecture)
        size_of(network)

    small = narrow()
    run(to_nni(small), FunctionalEvaluator(evaluate), strategies.Random(), tmp_path, trials=8)
    assert len(tried) == 8
    assert all(small.contains(arch) for arch in tried)


def declared() -> Any:
    class Net(Elastic, label_prefix="user"):
        def __init__(self) -> None:
            super().__init__()
            symbols = self.symbols()
            self.require(symbols["user/width"] * symbols["user/kernel"] <= 8)

    return Net()


LIMIT = r"does not know constraints; the limit is NNI's"


@pytest.mark.parametrize("made", [narrow, declared])
def test_one_shot_strategies_refuse_conditions(made: Any) -> None:
    with pytest.raises(SpaceError, match=f"NNI's RandomOneShot {LIMIT}"):
        strategies.RandomOneShot().mutate_model(to_nni(made()))
    # These look at the labels first, and the error is theirs; what they have got says the rest.
    for strategy in (
        strategies.DARTS, strategies.GumbelDARTS, strategies.ENAS, strategies.Proxyless,
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"got the conditions of a space .*{LIMIT}"):
            strategy().mutate_model(to_nni(made()))


def test_tpe_refuses_conditions(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=f"NNI's TPE {LIMIT}"):
        run(to_nni(narrow()), FunctionalEvaluator(size_of), strategies.TPE(), tmp_path)


# -- what has no counterpart ------------------------------------------------------------------


class Scale(MutableModule):
    """Reads an expression in forward."""

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Any:
        return x * self.factor


class Reads(nn.Module):
    """As above, in a plain module."""

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Any:
        return x * active(self.factor)


class Power(ParametrizedModule):
    def __init__(self, exponent: int) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, x: Tensor) -> Tensor:
        return x**self.exponent


class Either(MutableModule):
    """A primitive that says itself what it freezes to."""

    def __init__(self, choice: Any) -> None:
        super().__init__()
        self.choice = choice

    def freeze_module(self, freezer: Any) -> nn.Module:
        return nn.ReLU() if freezer.values(self.expression("choice")) else nn.Tanh()


def space_of(*modules: nn.Module) -> ModelSpace:
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*modules)

        def forward(self, x: Tensor) -> Any:
            return self.body(x)

    return Net()


def width() -> Categorical[int]:
    return Categorical([4, 8], label="width")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: Scale(width()), r"label 'width' .path: body\.0.*expression"),
        (lambda: Reads(width()), r"label 'width' .path: body\.0.*expression"),
        (lambda: Power(cast(int, width())), r"'body\.0', a Power: .*LayerChoice"),
        (lambda: Either(width()), "'body.0', a Either: write it with LayerChoice"),
        (
            lambda: Cell([lambda *_: nn.ReLU()], 1, label="cell"),
            "'body.0.ops.0.0.0', a Switch",
        ),
        (lambda: Repeat(nn.ReLU(), 0), r"'body\.0', a Repeat: .*the limit is NNI's"),
        (lambda: LayerChoice({"names": nn.ReLU()}, label="op"), "'body.0', a LayerChoice"),
    ],
)
def test_what_nni_has_nothing_like_is_refused(module: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        to_nni(space_of(module()))


def test_an_expression_that_forward_reads_is_refused_where_it_is_read() -> None:
    both = space_of(MutableConv2d(3, width(), 1), Scale(width()))
    nni_space = to_nni(both)
    with pytest.raises(SpaceError, match=r"'body\.1\.factor', which is width"):
        nni_space(images())


def test_not_a_space_is_refused() -> None:
    with pytest.raises(SpaceError, match="a space is needed, but got Linear"):
        to_nni(nn.Linear(2, 2))


# -- where NNI's strategies cannot ------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "strategy", "message"),
    [
        (lambda: MutableConv2d(3, width(), 1), "Proxyless", "'body.0': it chooses between layers"),
        (lambda: MutableConv1d(3, width(), 1), "DARTS", "'body.0': only MutableLinear, Mut"),
        *[
            (
                lambda size=size, layer=layer: layer(size(width(), Categorical([2, 6], label="v"))),
                strategy,
                rf"'body\.0': it takes the first so many of {written}, wherever these come from",
            )
            for strategy in ("RandomOneShot", "ENAS", "DARTS", "GumbelDARTS")
            for size, layer, written in (
                (lambda w, v: w + v, lambda n: MutableConv2d(n, 4, 1), r"width \+ v"),
                (lambda w, v: w + v, lambda n: MutableLinear(3, n), r"width \+ v"),
                (
                    lambda w, v: 2 * (w + v),
                    lambda n: MutableConv2d(n, 4, 1),
                    r"2 \* \(width \+ v\)",
                ),
                (
                    lambda w, _: flattened(2, w),
                    MutableBatchNorm2d,
                    r"flattened\(2, width\)",
                ),
            )
        ],
        (lambda: MutableConv2d(2 * width(), 4, 1), "RandomOneShot", None),  # a prefix is theirs too
        (lambda: Repeat(nn.ReLU(), (0, 2), label="d"), "RandomOneShot", "leave out all blocks"),
        (lambda: InputChoice(2, None, label="i"), "ENAS", "a fixed number of inputs"),
        (lambda: InputChoice(2, reduction="concat", label="i"), "DARTS", "sum, mean"),
        (
            lambda: MutableBatchNorm2d(3, momentum=Categorical([0.1, 0.2], label="m")),
            "RandomOneShot",
            None,
        ),
        (
            lambda: MutableConv2d(4, 4, 1, bias=Categorical([True, False], label="b")),
            "RandomOneShot",
            "'body.0': Unsupported mutable argument",
        ),
        (
            lambda: MutableConv2d(8, 8, 1, groups=Categorical([1, 4], label="g")),
            "GumbelDARTS",
            None,
        ),
    ],
)
def test_limits_of_nni_are_named_as_such(module: Any, strategy: str, message: str | None) -> None:
    nni_space = to_nni(space_of(module()))
    made = getattr(strategies, strategy)()
    if message is None:
        made.mutate_model(nni_space)
        return
    with pytest.raises(SpaceError, match=message) as caught:
        made.mutate_model(nni_space)
    assert f"NNI's {strategy} cannot" in str(caught.value)
    assert "the limit is NNI's" in str(caught.value)


# -- weights back -----------------------------------------------------------------------------


def test_what_is_no_supernet_is_refused_and_changes_nothing() -> None:
    space = Elastic()
    nni_space = to_nni(space)
    for parameter in nni_space.parameters():
        parameter.data.zero_()
    before = {key: value.clone() for key, value in space.state_dict().items()}
    with pytest.raises(SpaceError, match=r"'stem\.weight' has the shape .* supernet"):
        load_supernet(space, nni_space)
    with pytest.raises(SpaceError, match=r"'stem\.weight' is missing"):
        load_supernet(space, nn.Linear(2, 2))
    assert all(torch.equal(value, before[key]) for key, value in space.state_dict().items())


@pytest.mark.parametrize("strategy", ["RandomOneShot", "DARTS", "Proxyless"])
def test_supernets_of_nnis_own_hub_come_here_too(strategy: str) -> None:
    small: dict[str, Any] = {"num_labels": 10, "width_mult": 0.1}
    space, theirs = ProxylessNAS(**small), TheirProxylessNAS(**small)
    getattr(strategies, strategy)().mutate_model(theirs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.uniform_()
    load_supernet(space, theirs)
    theirs_by_name = theirs.state_dict()
    modules: Any = space
    assert torch.equal(modules.stem[0].weight, theirs_by_name["stem.0.weight"])
    last = modules.blocks[1].blocks[3]["k7e6"][0].weight
    inside = ".1" if strategy == "Proxyless" else ""
    assert torch.equal(last, theirs_by_name[f"blocks.1.blocks.3{inside}.k7e6.0.weight"])


def test_min_and_max_are_pythons() -> None:
    a, b = Categorical([1, 2], label="a"), Categorical([1, 2], label="b")
    both = MutableExpression.max(a, b, 0) - MutableExpression.min(a, b, 3)
    assert Expressions()(both).evaluate({"a": 2, "b": 1}) == 1


def test_a_layer_with_its_eps_set_afterwards_keeps_it() -> None:
    space = SPACES["mobilenetv3"]()
    supernet = strategies.RandomOneShot().mutate_model(to_nni(space))
    norms: list[Any] = [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {norm.init_arguments["eps"] for norm in norms if hasattr(norm, "init_arguments")} == {
        1e-3
    }


def test_linear_layers_too() -> None:
    space: Any = space_of(MutableLinear(3, width()), MutableLinear(width(), 2))
    supernet: Any = strategies.DARTS().mutate_model(to_nni(space))
    assert torch.equal(supernet.body[0].weight, space.body[0].weight)

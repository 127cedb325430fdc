"""What every ``Mutable`` layer keeps to, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space.nn as mnn
from nas_space.errors import DomainError, ExpressionError, SpaceError
from nas_space.mutable import Categorical, MutableExpression, normal, uniform
from nas_space.nn import Activation, ElasticModule, MutableModule, ParametrizedModule
from nas_space.nn.construction import Slim, building_for
from nas_space.nn.generic_layers import WeightlessModule, layer_names

from .layer_cases import ELASTIC, EVERY, INSTANCES, LAZY, WEIGHTLESS, Case

PLAIN_STATE = frozenset(vars(nn.Module())) - {"training"}


def mutable_layer(name: str, case: Case, varied: dict[str, Any] | None = None) -> Any:
    """The layer with expressions for the arguments that vary; the arguments' names are labels."""
    given = case.varied if varied is None else varied
    expressions = {n: Categorical(values, label=n) for n, values in given.items()}
    first = {n: values[0] for n, values in case.varied.items()}
    return getattr(mnn, f"Mutable{name}")(**{**case.fixed, **first, **expressions})


def plain_layer(name: str, case: Case, values: dict[str, Any]) -> nn.Module | None:
    """The same by hand; ``None`` if torch refuses the arguments."""
    first = {n: values[0] for n, values in case.varied.items()}
    try:
        layer: nn.Module = getattr(nn, name)(**{**case.fixed, **first, **values})
    except (ValueError, AssertionError, RuntimeError):
        return None
    return layer


def run(layer: Any, case: Case, values: dict[str, Any]) -> list[Tensor] | None:
    """The tensors that come out, and the gradients that go in; ``None`` if torch refuses."""
    assert case.inputs is not None
    defaults = {n: values[0] for n, values in case.varied.items()}
    first, *others = case.inputs({**case.fixed, **defaults, **values})
    if first.is_floating_point():
        first.requires_grad_()
    torch.manual_seed(7)
    try:
        outputs = list(tensors_in(layer(first.clone(), *others)))  # a clone: some change it
        differentiable = [o for o in outputs if o.requires_grad]
        if not differentiable:
            return outputs
        layer.zero_grad()
        torch.stack([o.float().pow(2).sum() for o in differentiable]).sum().backward()
    except (RuntimeError, AssertionError, ValueError):
        return None
    return outputs if first.grad is None else [*outputs, first.grad]


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    """Bit for bit, except that one NaN is as good as another."""
    return len(left) == len(right) and all(
        a.shape == b.shape and torch.equal(a.nan_to_num(1e9), b.nan_to_num(1e9))
        for a, b in zip(left, right, strict=True)
    )


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def attributes(module: nn.Module) -> dict[str, Any]:
    return {
        f"{path}.{name}": value
        for path, each in module.named_modules()
        for name, value in vars(each).items()
        if name not in PLAIN_STATE and not name.startswith("_flat_weight")
    }


def assert_frozen_as_by_hand(
    layer: MutableModule, name: str, case: Case, values: dict[str, Any]
) -> bool:
    """Checks one combination of values; whether torch allows it."""
    plain = plain_layer(name, case, values)
    if plain is None:
        with pytest.raises(SpaceError, match=name):
            layer.freeze(values)
        return False
    frozen: nn.Module = layer.train().freeze(values)
    assert type(frozen) is type(plain)
    assert shapes(frozen) == shapes(plain)
    assert attributes(frozen) == attributes(plain)
    assert [type(m) for m in frozen.modules()] == [type(m) for m in plain.modules()]
    if case.inputs is None:
        return True
    allowed = True
    plain.load_state_dict(frozen.state_dict())
    for mode in (True, False):
        for each in (layer, frozen, plain):
            each.train(mode)
        by_hand = run(plain, case, values)
        with Activation(layer.read(values)):
            active = run(layer, case, values)
        if by_hand is None:  # what torch refuses only when it runs
            assert active is None
            allowed = False
            continue
        assert active is not None
        assert same(active, by_hand)
        result = run(frozen, case, values)
        assert result is not None
        assert same(result, by_hand)
        if isinstance(layer, ElasticModule) and layer.is_parametrized:
            assert_same_gradients(layer, plain, values)
    # Statistics that were updated on the way are the same, too.
    left, right = layer.freeze(values).state_dict(), plain.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)
    return allowed


def assert_same_gradients(layer: ElasticModule, plain: nn.Module, values: dict[str, Any]) -> None:
    """The part of each weight that was used has the gradient of the plain one, the rest none."""
    parts = layer.form(layer.read(values)).parts
    for name, its in plain.named_parameters():
        whole = layer.get_parameter(name).grad
        if its.grad is None:
            assert whole is None
            continue
        assert whole is not None
        prefix, _, leaf = name.rpartition(".")
        mine = parts[prefix].cuts[leaf](whole)
        assert mine is not None
        assert torch.equal(mine.nan_to_num(1e9), its.grad.nan_to_num(1e9)), name
        assert whole.count_nonzero() == mine.count_nonzero()


def test_every_layer_of_torch_has_a_case() -> None:
    assert {f"Mutable{name}" for name in EVERY} >= set(layer_names())


@pytest.mark.filterwarnings("ignore")  # torch's, about layers that it will change
@pytest.mark.parametrize(
    "name", sorted(({**ELASTIC, **WEIGHTLESS, **INSTANCES}).keys() & vars(nn).keys())
)
def test_all_arguments_may_be_expressions(name: str) -> None:
    case = EVERY[name]
    torch.manual_seed(0)
    layer = mutable_layer(name, case)
    seen = [assert_frozen_as_by_hand(layer, name, case, values) for values in case.some(24)]
    assert any(seen)


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, argument) for name, case in ELASTIC.items() for argument in case.varied],
)
def test_each_argument_may_be_an_expression_alone(name: str, argument: str) -> None:
    case = ELASTIC[name]
    torch.manual_seed(0)
    layer = mutable_layer(name, case, {argument: case.varied[argument]})
    for value in case.varied[argument]:
        assert_frozen_as_by_hand(layer, name, case, {argument: value})


@pytest.mark.parametrize("name", sorted(set(LAZY) & vars(nn).keys()))
def test_a_lazy_layer_is_its_plain_class_once_it_ran(name: str) -> None:
    case = LAZY[name]
    layer = mutable_layer(name, case)
    for values in case.combinations():
        with Activation(layer.read(values)):
            active = run(layer, case, values)
        frozen = layer.freeze(values)
        assert type(frozen).__name__ == name.removeprefix("Lazy")
        assert active is not None
        result = run(frozen, case, values)
        assert result is not None
        assert same(active, result)


@pytest.mark.parametrize("name", sorted(ELASTIC))
def test_built_for_one_architecture_the_weights_are_those_torch_draws(name: str) -> None:
    case = ELASTIC[name]
    for values in case.some(6):
        torch.manual_seed(3)
        plain = plain_layer(name, case, values)
        if plain is None:
            continue
        torch.manual_seed(3)
        with building_for(Slim(values)):
            built = mutable_layer(name, case).freeze(values)
        assert shapes(built) == shapes(plain)
        for key, tensor in plain.state_dict().items():
            assert torch.equal(built.state_dict()[key], tensor), key


@pytest.mark.parametrize("name", sorted(ELASTIC))
def test_a_formula_of_shapes_agrees_with_torch(name: str) -> None:
    case = ELASTIC[name]
    layer_class: type[ElasticModule] = getattr(mnn, f"Mutable{name}")
    for values in case.some(30):
        plain = plain_layer(name, case, values)
        if plain is None:
            continue
        layer = mutable_layer(name, case)
        formula = layer_class.shapes({**layer.args, **values})
        for tensor, shape in shapes(plain).items():
            if tensor != "num_batches_tracked":  # a counter has no shape
                assert formula[tensor] == shape


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d", "Conv3d", "BatchNorm2d"])
def test_the_memory_format_is_kept(name: str) -> None:
    case = ELASTIC[name]
    memory_format: Any = torch.channels_last_3d if name == "Conv3d" else torch.channels_last
    layer: Any = mutable_layer(name, case)
    layer.to(memory_format=memory_format)
    for values in case.some(40):
        plain = plain_layer(name, case, values)
        if plain is None:
            continue
        plain.to(memory_format=memory_format)  # type: ignore[call-overload]
        frozen = layer.freeze(values)
        for mine, its in zip(frozen.parameters(), plain.parameters(), strict=True):
            assert mine.is_contiguous(memory_format=memory_format) or mine.dim() < 4
            assert mine.stride() == its.stride() or mine.numel() == 1
        plain.load_state_dict(frozen.state_dict())
        with Activation(layer.read(values)):
            active = run(layer, case, values)
        by_hand = run(plain, case, values)
        if by_hand is not None:
            assert active is not None
            assert same(active, by_hand)


# -- what is particular to some -------------------------------------------------------------------


def test_channels_come_first_and_kernels_from_the_middle() -> None:
    conv = mnn.MutableConv2d(
        3, Categorical([4, 8], label="width"), Categorical([3, 5], label="kernel")
    )
    small = conv.freeze({"width": 4, "kernel": 3})
    assert torch.equal(small.weight, conv.weight[:4, :, 1:4, 1:4])
    assert conv.bias is not None
    assert torch.equal(small.bias, conv.bias[:4])


def test_a_depthwise_convolution_takes_its_groups_from_its_width() -> None:
    width = Categorical([4, 6, 8], label="width")
    conv = mnn.MutableConv2d(width, width, 3, groups=width)
    assert conv.weight.shape == (8, 1, 3, 3)
    for value in (4, 6, 8):
        frozen = conv.freeze({"width": value})
        assert frozen.groups == value
        assert torch.equal(frozen.weight, conv.weight[:value])


def test_expressions_may_stand_in_tuples() -> None:
    kernel = Categorical([1, 3], label="kernel")
    conv = mnn.MutableConv2d(2, 2, (kernel, 1), padding=(kernel // 2, 0))
    assert conv.weight.shape == (2, 2, 3, 1)
    frozen = conv.freeze({"kernel": 1})
    assert (frozen.kernel_size, frozen.padding) == ((1, 1), (0, 0))


def test_attention_of_unequal_widths_keeps_its_projections_apart() -> None:
    width, key = Categorical([8, 16], label="width"), Categorical([8, 4], label="key")
    layer = mnn.MutableMultiheadAttention(width, 2, kdim=key, vdim=8, batch_first=True)
    for values in ({"width": w, "key": k} for w in (8, 16) for k in (8, 4)):
        frozen = layer.freeze(values)
        assert frozen.in_proj_weight is None
        assert frozen.k_proj_weight.shape == (values["width"], values["key"])
        assert frozen.out_proj.in_features == values["width"]
        x, k, v = (
            torch.randn(2, 3, values["width"]),
            torch.randn(2, 5, values["key"]),
            torch.randn(2, 5, 8),
        )
        with Activation(layer.read(values)):
            active = layer(x, k, v)
        assert torch.equal(active[0], frozen(x, k, v)[0])


def test_attention_refuses_heads_that_do_not_divide_the_width() -> None:
    width, heads = Categorical([8, 12], label="width"), Categorical([2, 8], label="heads")
    with pytest.raises(SpaceError, match="attention of width 12 cannot have 8 heads"):
        mnn.MutableMultiheadAttention(width, heads)


def test_a_layer_that_no_default_fits_is_built_for_another_combination() -> None:
    # The defaults, 6 channels in 4 groups, are none that torch allows; others are.
    width, groups = Categorical([6, 8], label="width"), Categorical([4, 2], label="groups")
    conv = mnn.MutableConv2d(width, width, 1, groups=groups)
    assert conv.freeze({"width": 8, "groups": 4}).weight.shape == (8, 2, 1, 1)
    with pytest.raises(SpaceError, match=r"torch refuses Conv2d.*in_channels=6"):
        conv.freeze({"width": 6, "groups": 4})


def test_what_torch_never_takes_is_refused_when_it_is_built() -> None:
    with pytest.raises(SpaceError, match=r"torch refuses Conv2d\(.*groups=3"):
        mnn.MutableConv2d(8, Categorical([4, 8], label="width"), 1, groups=3)


def test_a_size_must_be_whole_and_finite() -> None:
    with pytest.raises(SpaceError, match=r"torch refuses Conv2d\(.*out_channels=6.0"):
        mnn.MutableConv2d(3, uniform("width", 4, 8), 1)
    with pytest.raises(DomainError, match=r"whole, finite sizes.*weight.*inf"):
        mnn.MutableConv2d(3, MutableExpression.to_int(normal("width", 8, 2)), 1)


def test_layers_without_weights_take_any_number_of_values() -> None:
    dropout = mnn.MutableDropout(uniform("rate", 0, 1))
    assert isinstance(dropout, WeightlessModule)
    assert dropout.freeze({"rate": 0.123}).p == 0.123
    assert (
        mnn.MutableMaxPool2d(Categorical(range(1, 200), label="k")).freeze({"k": 150}).kernel_size
        == 150
    )


def test_a_layer_with_plain_arguments_is_an_ordinary_one() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 8, 3)
    torch.manual_seed(0)
    layer = mnn.MutableConv2d(3, 8, 3)
    assert torch.equal(layer.weight, plain.weight)
    assert layer.simplify() == {}
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(layer(x), plain(x))
    assert type(layer.freeze({})) is nn.Conv2d


def test_a_layer_prints_its_expressions() -> None:
    conv = mnn.MutableConv2d(3, Categorical([4, 8], label="width"), 3, padding=1)
    shown = "in_channels=3, out_channels=width, kernel_size=3, padding=1"
    assert repr(conv) == f"MutableConv2d({shown})"
    with pytest.raises(SpaceError, match=r"MutableConv2d\(.*out_channels=width.*none is active"):
        conv(torch.zeros(1, 3, 4, 4))


def test_buffers_and_modules_that_are_set_to_none_are_none() -> None:
    norm = mnn.MutableBatchNorm1d(Categorical([4, 8], label="width"))
    norm.part = nn.Linear(2, 2)
    norm.running_mean = norm.part = None
    assert (norm._buffers["running_mean"], norm._modules["part"]) == (None, None)
    assert {"running_mean", "part.weight"}.isdisjoint(norm.state_dict())


def test_instances_are_one_for_each_distinct_tuple_up_to_a_limit() -> None:
    size = Categorical([4, 6, 8], label="size")
    cell = mnn.MutableLSTMCell(3, size, bias=size > 4)
    assert [each.hidden_size for each in cell.instances] == [4, 6, 8]
    assert cell.freeze({"size": 8}).bias
    with pytest.raises(DomainError, match=r"at most 64.*80 different"):
        mnn.MutableLSTMCell(3, Categorical(range(1, 81), label="size"))
    with pytest.raises(DomainError, match=r"infinitely many.*\['margin'\]"):
        mnn.MutableTripletMarginLoss(margin=uniform("margin", 0, 1))


def test_what_a_recurrent_layer_keeps_in_lists_is_its_own() -> None:
    rnn = mnn.MutableLSTM(3, Categorical([4, 6], label="size"))
    frozen = rnn.freeze({"size": 6})
    own = list(frozen.parameters())
    assert [id(p) for p in frozen._flat_weights] == [id(p) for p in own]
    assert all(a() is b for a, b in zip(frozen._flat_weight_refs, own, strict=True))


def test_an_unknown_layer_is_no_attribute_and_the_nearest_is_named() -> None:
    with pytest.raises(AttributeError, match="did you mean 'Conv2d'"):
        mnn.MutableConv2  # noqa: B018
    with pytest.raises(AttributeError, match="Sequential"):
        mnn.MutableSequential  # noqa: B018
    assert "MutableLSTM" in dir(mnn)


def test_a_layer_that_stands_for_another_cannot_be_extended() -> None:
    with pytest.raises(SpaceError, match="extend Conv2d instead"):

        class Twice(mnn.MutableConv2d):
            pass

    with pytest.raises(SpaceError, match="must also derive from Conv2d"):

        class Wrong(ParametrizedModule, wraps=nn.Conv2d):
            pass


def test_expressions_hidden_in_a_dictionary_are_refused() -> None:
    with pytest.raises(ExpressionError, match="hidden in a dict"):
        mnn.MutableTransformerEncoderLayer(8, 2, activation={"a": Categorical([1], label="x")})


class Scaled(nn.Module):
    """A plain layer: a matrix, a buffer as long, and a child of that size."""

    def __init__(self, width: int, rank: int = 2, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(width, rank, **made))
        self.register_buffer("shift", torch.zeros(width, **made))
        self.inner = nn.Linear(width, width, **made)


def _shapes_of(width: Any, rank: Any) -> dict[str, Any]:
    inner = {"inner.weight": (width, width), "inner.bias": (width,)}
    return {"weight": (width, rank), "shift": (width,), **inner}


def _every_form(layer: type[ElasticModule]) -> list[nn.Module]:
    made = layer(Categorical([2, 4], label="width"))
    return [made.freeze({"width": width}) for width in (2, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, _: found.pop("shift"), r"shift \(\d,\), but that has \(\d,\)"),
        (lambda found, _: found.pop("inner.bias"), r"inner.bias \(\d,\), but that has \(\d,\)"),
        (lambda found, w: found.update(weight=(w * 2, 2)), r"weight .*, but that has"),
        (lambda found, w: found.update(weight=(w,)), r"weight \(\d,\), but that has \(\d, 2\)"),
        (
            lambda found, _: found.update(weights=found.pop("weight")),
            r"says nothing of weight, which Scaled has",
        ),
        (lambda found, w: found.update(weight=w), r"a tuple of sizes for weight"),
        (
            lambda found, w: found.update(weight=(w if isinstance(w, int) else 2, 2)),
            r"weight \(4, 2\), but with expressions it said \(2, 2\) at most",
        ),
    ],
)
def test_shapes_that_are_not_those_of_the_plain_layer_are_refused_by_name(
    change: Any, message: str
) -> None:
    class MutableScaled(ElasticModule, Scaled, wraps=Scaled):
        @classmethod
        def shapes(cls, arguments: Any) -> dict[str, Any]:
            found = _shapes_of(arguments["width"], arguments["rank"])
            change(found, arguments["width"])
            return found

    with pytest.raises(SpaceError, match=rf"shapes\(\) of MutableScaled .*{message}"):
        _every_form(MutableScaled)


def test_shapes_of_the_plain_layer_are_all_that_a_class_has_to_say() -> None:
    class MutableScaled(ElasticModule, Scaled, wraps=Scaled):
        @classmethod
        def shapes(cls, arguments: Any) -> dict[str, Any]:
            return _shapes_of(arguments["width"], arguments["rank"])

    for width, layer in zip((2, 4), _every_form(MutableScaled), strict=True):
        frozen = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
        assert frozen == {n: tuple(t.shape) for n, t in Scaled(width).state_dict().items()}

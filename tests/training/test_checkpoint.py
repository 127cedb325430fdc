from __future__ import annotations

import json
import math
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from safetensors.torch import load_model, save_file, save_model
from torch import nn

from nas_space.errors import CheckpointError, UsageError
from nas_space.training import (
    checkpoint,
    load_state,
    load_weights,
    read_weights,
    save_state,
    save_weights,
)

from . import small

# ---------------------------------------------------------------------------- round trips

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8,
    torch.int16, torch.int64, torch.bool, torch.complex64, torch.complex128, torch.float8_e5m2,
]  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    tensor = torch.randint(0, 2**31, [*shape], generator=generator) - 2**30
    return tensor.to(draw(st.sampled_from(DTYPES)))


ARRAYS = stn.arrays(
    st.one_of(
        stn.boolean_dtypes(),
        stn.integer_dtypes(),
        stn.floating_dtypes(sizes=(16, 32, 64)),
        stn.complex_number_dtypes(sizes=(64, 128)),
        stn.unicode_string_dtypes(),
        stn.byte_string_dtypes(),
        stn.datetime64_dtypes(),
    ),
    stn.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**6000), 10**6000), st.floats(),
    st.text(), st.text(st.characters(codec=None)), st.binary(),
)  # fmt: skip
KEYS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False)),
    lambda keys: st.tuples(keys, keys),
    max_leaves=3,
)
TREES = st.recursive(
    st.one_of(
        SCALARS, tensors(), ARRAYS, ARRAYS.filter(lambda a: a.ndim == 0).map(lambda a: a[()])
    ),
    lambda nodes: st.one_of(
        st.lists(nodes, max_size=4),
        st.lists(nodes, max_size=4).map(tuple),
        st.dictionaries(KEYS, nodes, max_size=4),
    ),
    max_leaves=10,
)


def equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        as_bytes = [x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b) if x.numel()]
        same = not as_bytes or torch.equal(*as_bytes)
        return a.dtype == b.dtype and a.shape == b.shape and same
    if isinstance(a, np.ndarray | np.generic):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return [*a] == [*b] and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or a.hex() == b.hex()
    return bool(a == b)


@given(tree=TREES)
@example(tree={"a": ["dict", ["tensor", "0"]], "tuple": ("int", "0x1")})
@example(tree=[-0.0, math.inf, -math.inf, math.nan, 2**63, -(2**63), 2**63 - 1])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_tree_comes_back_as_it_was(tmp_path: Path, tree: Any) -> None:
    file = tmp_path / "state"
    save_state(file, tree)
    assert equal(load_state(file), tree)


def test_random_states_of_python_numpy_and_torch_come_back(tmp_path: Path) -> None:
    file = tmp_path / "state"
    generator = np.random.default_rng(3)
    states = {
        "python": random.Random(1).getstate(),
        "pcg": generator.bit_generator.state,
        "mt": np.random.RandomState(1).get_state(),
        "torch": torch.get_rng_state(),
    }
    save_state(file, states)
    loaded = load_state(file)
    assert equal(loaded, states)
    again = np.random.default_rng()
    again.bit_generator.state = loaded["pcg"]
    assert again.random() == generator.random()


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path: Path) -> None:
    file = tmp_path / "state"
    weight = torch.randn(1000)
    save_state(file, {"a": weight, "b": [weight.view(1000)], "c": weight.clone()})
    assert file.stat().st_size < 2.5 * 4000
    loaded = load_state(file)
    assert loaded["a"] is loaded["b"][0]
    assert loaded["a"] is not loaded["c"]
    assert torch.equal(loaded["c"], weight)


def test_views_of_one_memory_come_back_with_their_own_values(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    tree = {
        "whole": whole,
        "part": whole[2:7],
        "other form": whole.view(3, 4),
        "transposed": whole.view(3, 4).T,
        "square": whole[:9].view(3, 3),
        "square transposed": whole[:9].view(3, 3).T,
        "expanded": whole[:1].expand(5),
        "conjugate": torch.tensor([1j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
    }
    save_state(tmp_path / "state", tree)
    loaded = load_state(tmp_path / "state")
    assert all(torch.equal(loaded[name], tree[name]) for name in tree)


def test_what_is_loaded_is_independent_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "state"
    save_state(file, [torch.ones(3), np.ones(3)])
    tensor, array = load_state(file)
    with file.open("r+b") as stream:  # in place, as whoever shares the memory would see
        stream.write(b"\0" * file.stat().st_size)
        stream.flush()
        os.fsync(stream.fileno())
    array += 1
    assert tensor.tolist() == [1, 1, 1]
    assert array.tolist() == [2, 2, 2]


def test_a_subclass_of_dict_comes_back_as_a_dict(tmp_path: Path) -> None:
    save_state(tmp_path / "state", OrderedDict(b=1, a=2))
    loaded = load_state(tmp_path / "state")
    assert type(loaded) is dict
    assert list(loaded) == ["b", "a"]


# -------------------------------------------------------------------------------- refusal


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("proof",)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"a": [Evil()]}, r"state\['a'\]\[0\] is a Evil"),
        ({1: {2, 3}}, r"state\[1\] is a set"),
        ({Evil: 1}, "a key of state is a type"),
        ([np.array([Evil()])], r"state\[0\] is a ndarray"),
        (np.zeros(1, [("x", "f8")]), "state is a ndarray"),
        (torch.zeros(2).to_sparse(), "sparse"),
        (torch.zeros(2, device="meta"), "meta"),
        (lambda: 0, "state is a function"),
    ],
)
def test_what_cannot_be_saved_is_named_and_the_file_stays(
    tmp_path: Path, tree: Any, said: str
) -> None:
    file = tmp_path / "state"
    save_state(file, "before")
    with pytest.raises(CheckpointError, match=said):
        save_state(file, tree)
    assert load_state(file) == "before"
    assert os.listdir(tmp_path) == ["state"]  # noqa: PTH208


def test_a_tree_within_itself_is_refused(tmp_path: Path) -> None:
    tree: list[Any] = []
    tree.append(tree)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        save_state(tmp_path / "state", tree)


def test_a_crash_while_writing_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    save_state(file, "old")

    def crash(tensors: Any, path: Path, metadata: Any) -> None:
        save_file(tensors, path, metadata)
        path.write_bytes(path.read_bytes()[:-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        save_state(file, torch.ones(100))
    assert load_state(file) == "old"
    assert os.listdir(tmp_path) == ["state"]  # noqa: PTH208


def test_files_may_be_read_by_whoever_may_read_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    save_state(tmp_path / "state", 1)
    assert (tmp_path / "state").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_folders_are_made(tmp_path: Path) -> None:
    save_state(tmp_path / "a" / "b" / "state", 1)
    assert load_state(tmp_path / "a" / "b" / "state") == 1


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("good") / "state"
    save_state(file, TREE)
    return file.read_bytes()


TREE = {"step": 3, "weights": [torch.arange(5.0), np.arange(4)], "none": (None, "text", 10**40)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_byte_is_noticed_wherever_it_is(
    tmp_path: Path, good: bytes, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(good) - 1))
    bits = data.draw(st.integers(1, 255))
    damaged = bytearray(good)
    damaged[position] ^= bits
    file = tmp_path / "state"
    file.write_bytes(damaged)
    try:
        loaded = load_state(file)
    except CheckpointError as error:
        assert str(file) in str(error)  # noqa: PT017
    else:  # such as another kind of white space after the header
        assert equal(loaded, TREE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_file_cut_short_or_too_long_is_refused(
    tmp_path: Path, good: bytes, data: st.DataObject
) -> None:
    file = tmp_path / "state"
    cut = data.draw(st.integers(0, len(good) - 1))
    for content in (good[:cut], good + b"\0" * (cut + 1)):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged, cut short, or no safetensors file"):
            load_state(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*missing"):
        load_state(tmp_path / "missing")
    with pytest.raises(CheckpointError):
        load_state(tmp_path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    save_file({"weight": torch.ones(1)}, file)
    with pytest.raises(CheckpointError, match="not a state written by save_state"):
        load_state(file)
    torch.save({"weight": torch.ones(1)}, file)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_state(file)


@pytest.mark.parametrize(
    "structure",
    [
        ["pickle", "gASVAAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOULg=="],
        ["tensor", "nowhere"],
        ["tensor"],
        ["dict", [["list"], 1]],
        ["dict", [1]],
        ["int", "xyz"],
        ["float", "__import__"],
        ["bytes", "zz"],
        ["array", "0", "|O", [1]],
        ["array", "0", "f8,f8", [1]],
        ["array", "0", "<f8", [10**9]],
        ["array", "0", "<U0", [-5]],
        ["complex", ["tensor", "0"]],
        ["complex", 1],
        [[]],
        [],
        {"a": 1},
    ],
)
def test_a_malicious_structure_with_a_right_checksum_is_refused(
    tmp_path: Path, structure: Any
) -> None:
    file = tmp_path / "state"
    _forge(file, json.dumps(structure))
    with pytest.raises(CheckpointError, match="describes no state"):
        load_state(file)


def test_structures_that_are_no_json_or_too_deep_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "state"
    for structure in ("", "[", "[" * 100_000, '["list",' * 5000 + "1" + "]" * 5000, "9" * 5000):
        _forge(file, structure)
        with pytest.raises(CheckpointError, match="describes no state"):
            load_state(file)


def _forge(file: Path, structure: str) -> None:
    tensors = {"0": torch.zeros(3)}
    digest = checkpoint._digest(structure, tensors)
    metadata = {"format": "nas_space.state/1", "structure": structure, "sha256": digest}
    save_file(tensors, file, metadata)


# -------------------------------------------------------------------------------- weights


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 3)
        self.decoder = nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight
        self.norm = nn.BatchNorm1d(3)


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pt"])
def test_weights_come_back_and_ties_stay(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"weights{ending}"
    network, other = Tied(), Tied()
    save_weights(network, file)
    load_weights(other, file)
    assert small.same(network, other)
    assert other.encoder.weight is other.decoder.weight
    assert set(read_weights(file)) == set(network.state_dict())


def test_files_are_exchanged_with_safetensors_itself(tmp_path: Path) -> None:
    network = Tied()
    save_weights(network, tmp_path / "ours.safetensors")
    save_model(network, str(tmp_path / "theirs.safetensors"))
    theirs, ours = Tied(), Tied()
    load_model(theirs, tmp_path / "ours.safetensors")
    load_weights(ours, tmp_path / "theirs.safetensors")
    assert small.same(theirs, network)
    assert small.same(ours, network)


def test_weights_go_to_the_type_of_the_network(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_weights(nn.Linear(2, 2), file)
    network = nn.Linear(2, 2).bfloat16()
    load_weights(network, file)
    assert network.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_weights_that_do_not_fit_change_nothing(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"weights{ending}"
    save_weights(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3)}), file)
    network = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 4), "c": nn.Linear(1, 1)})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for strict in (True, False):
        with pytest.raises(CheckpointError) as caught:
            load_weights(network, file, strict=strict)
        assert str(file) in str(caught.value)
        assert "b.weight is (3, 2) there, (4, 2) here" in str(caught.value)
        assert ("c.weight is missing there" in str(caught.value)) == strict
        assert all(torch.equal(network.state_dict()[n], before[n]) for n in before)


def test_names_are_matched_where_they_can_be_unless_strict(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    one = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 3)})
    other = nn.ModuleDict({"a": nn.Linear(2, 2), "c": nn.Linear(1, 1)})
    save_weights(one, file)
    with pytest.raises(
        CheckpointError, match=r"c.weight is missing there.*b.weight is unknown here"
    ):
        load_weights(other, file)
    load_weights(other, file, strict=False)
    assert small.same(one["a"], other["a"])


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "zip.pth")
    torch.save({"weight": Evil()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"weight": Evil()}, protocol=2))
    for name in ("zip.pth", "old.pth", "bare.pth"):
        with pytest.raises(CheckpointError, match=f"{name} is refused"):
            load_weights(nn.Linear(1, 1), tmp_path / name)
    assert not (tmp_path / "proof").exists()
    with pytest.raises(FileExistsError):  # whereas unrestricted loading runs it, once and again
        [torch.load(tmp_path / "zip.pth", weights_only=False) for _ in range(2)]


def test_damaged_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    for ending in (".safetensors", ".pth"):
        file = tmp_path / f"weights{ending}"
        save_weights(network, file)
        content = file.read_bytes()
        for cut in (0, 1, 8, len(content) // 2, len(content) - 1):
            file.write_bytes(content[:cut])
            with pytest.raises(CheckpointError, match=str(file)):
                load_weights(network, file)
        with pytest.raises(CheckpointError, match="there is no file"):
            load_weights(network, tmp_path / f"missing{ending}")


def test_pickles_of_something_else_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(CheckpointError, match=r"other\.pth is (refused|damaged)"):
        read_weights(tmp_path / "other.pth")
    for content in ([torch.ones(1)], {"a": 1}, {1: torch.ones(1)}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match="not a dict of tensors by name"):
            read_weights(tmp_path / "other.pth")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end in \.safetensors, \.pth or \.pt"):
        save_weights(nn.Linear(1, 1), tmp_path / "weights.bin")
    with pytest.raises(UsageError, match=r"end in \.safetensors, \.pth or \.pt"):
        load_weights(nn.Linear(1, 1), tmp_path / "weights")


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"calls": 3}

    with pytest.raises(CheckpointError, match="'_extra_state' of the network is a dict"):
        save_weights(Extra(1, 1), tmp_path / "weights.pth")
    assert not (tmp_path / "weights.pth").exists()

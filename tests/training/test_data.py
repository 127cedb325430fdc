from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from nas_space.errors import DataError, UsageError
from nas_space.training import Jitter, Splits, Task, load_data, split_by_class
from nas_space.training.scoring import STANDARD_ERROR, evaluate_with_error

SPLITS = ("train", "validation", "test")
Write = Callable[..., Path]


def arrays(splits: Splits, name: str) -> tuple[Tensor, Tensor]:
    dataset = getattr(splits, name)
    assert isinstance(dataset, TensorDataset)
    x, y = dataset.tensors
    return x, y


# --------------------------------------------------------------------------------- splits


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_a_split_shares_nothing_and_takes_a_fifth_of_each_class(
    counts: list[int], seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = split_by_class(labels, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for part in parts[1:]:
        assert [*np.bincount(labels[part], minlength=len(counts))] == [c // 5 for c in counts]


def test_a_split_is_that_of_every_release() -> None:
    # A changed split would change all results that are on record.
    parts = split_by_class(np.zeros(10, int), 0)
    assert [part.tolist() for part in parts] == [[0, 1, 3, 4, 7, 9], [2, 5], [6, 8]]


# --------------------------------------------------------------------------------- digits


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_data("digits", seed=0)


def test_digits_are_all_there_once_and_splits_have_none_in_common(digits: Splits) -> None:
    seen = [image.numpy().tobytes() for name in SPLITS for image in arrays(digits, name)[0]]
    assert len(seen) == len(set(seen)) == 1087 + 4 * (355 + 355)
    assert (digits.num_classes, digits.input_shape) == (10, (3, 32, 32))
    for name in SPLITS:
        x, y = arrays(digits, name)
        assert x.shape == (len(y), 3, 32, 32)
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert len(y.unique()) == 10


def test_digits_are_those_of_scikit_learn_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found again by their pixels, and with the right labels, where nothing changes them."""
    monkeypatch.setattr("nas_space.training.data.Jitter", lambda **_: lambda images, _: images)
    digits = load_data("digits", seed=0)
    found: list[int] = []
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None]
    large = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False).flatten(1)
    large = (large - large.mean(1, keepdim=True)) / large.std(1, keepdim=True)
    for name in SPLITS:
        x, y = arrays(digits, name)
        assert torch.equal(x[:, 0], x[:, 1])
        assert torch.equal(x[:, 0], x[:, 2])
        plain = x[:, 0].flatten(1)
        plain = (plain - plain.mean(1, keepdim=True)) / plain.std(1, keepdim=True)
        nearest = (plain @ large.T).argmax(1)
        assert np.array_equal(bunch.target[nearest], y.numpy())
        copies = 1 if name == "train" else 4
        assert len(y) == copies * len(nearest.unique())
        found += nearest.unique().tolist()
    assert sorted(found) == list(range(1797))


def test_digits_to_score_on_are_changed_as_those_to_train_but_stay(digits: Splits) -> None:
    again = load_data("digits", seed=0)
    for name in ("validation", "test"):
        x, y = arrays(digits, name)
        assert torch.equal(x, arrays(again, name)[0])
        assert torch.equal(y[:355], y[355:710])
        copies = x.unflatten(0, (4, 355))
        assert all((copies[i] - copies[j]).abs().mean() > 0.3 for i in range(4) for j in range(i))


def test_digits_are_normalised_by_the_training_images_alone(digits: Splits) -> None:
    train, test = arrays(digits, "train")[0], arrays(digits, "test")[0]
    assert abs(float(train.mean())) < 1e-4
    assert abs(float(train.std(correction=0)) - 1) < 1e-4
    assert abs(float(test.mean())) > 1e-3  # were it normalised by itself, this would be zero


def test_digits_differ_in_their_split_by_the_seed(digits: Splits) -> None:
    again, other = load_data("digits", 0), load_data("digits", 1)
    assert torch.equal(arrays(again, "test")[0], arrays(digits, "test")[0])
    assert not torch.equal(arrays(other, "test")[1], arrays(digits, "test")[1])


def test_what_comes_in_from_the_border_of_a_digit_is_black(digits: Splits) -> None:
    images = arrays(digits, "train")[0]
    assert isinstance(digits.augment, Jitter)
    assert abs(digits.augment.fill - float(images.min())) < 1e-5


# --------------------------------------------------------------------------- augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("what", [{"shift": 0.2}, {"degrees": 20}, {"noise": 0.3}])
def test_augmentation_changes_each_image_in_its_own_way_as_the_generator_says(
    what: dict[str, float],
) -> None:
    image = torch.rand(1, 1, 16, 16, generator=generator()).repeat(6, 3, 1, 1)
    before = image.clone()
    jitter = Jitter(**what)
    state = torch.get_rng_state()
    out = jitter(image, generator(1))
    assert torch.equal(out, jitter(image, generator(1)))
    assert not torch.equal(out, jitter(image, generator(2)))
    for i in range(6):
        assert not torch.allclose(out[i], image[i], atol=1e-2)
        assert all(not torch.allclose(out[i], out[j], atol=1e-2) for j in range(i))
    assert torch.equal(image, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_augmentation_is_the_identity() -> None:
    image = torch.rand(2, 3, 9, 7)
    assert torch.equal(Jitter()(image, generator()), image)


def test_a_shift_moves_and_fills_from_beyond_the_border() -> None:
    """A shift by whole pixels against the same by slicing."""
    image = torch.rand(1, 2, 10, 20, generator=generator())
    jitter = Jitter(shift=0.1, fill=7.0)
    grid = jitter._grid(torch.tensor([0.0, 1.0, -1.0]).reshape(3, 1, 1, 1), 10, 20)
    moved = F.grid_sample(image - 7.0, grid, align_corners=False) + 7.0
    expected = torch.full_like(image, 7.0)
    expected[:, :, 1:, :-2] = image[:, :, :-1, 2:]  # up to a tenth of each side
    assert torch.allclose(moved, expected, atol=1e-5)


def test_an_image_of_nothing_but_the_filling_stays_so() -> None:
    image = torch.full((4, 1, 8, 8), -3.0)
    out = Jitter(shift=0.4, degrees=90, fill=-3.0)(image, generator())
    assert torch.allclose(out, image)


def test_a_rotation_keeps_the_form_of_what_is_in_an_oblong_image() -> None:
    image = torch.rand(1, 1, 9, 9, generator=generator())
    oblong = F.pad(image, (6, 6))
    grid = Jitter(degrees=90)._grid(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1, 1), 9, 21)
    turned = F.grid_sample(oblong, grid, align_corners=False)
    assert torch.allclose(turned, F.pad(image.rot90(1, (2, 3)), (6, 6)), atol=1e-4)


def test_shifts_stay_within_their_bounds_and_reach_them() -> None:
    point = torch.zeros(500, 1, 21, 21)
    point[:, :, 10, 10] = 1
    moved = Jitter(shift=4 / 21)(point, generator())
    weights = moved / moved.sum((2, 3), keepdim=True)
    position = (weights.sum(2) * torch.arange(21.0)).sum(-1) - 10
    assert 3.8 < float(position.max()) <= 4.001
    assert -4.001 <= float(position.min()) < -3.8


def test_noise_has_the_deviation_asked_for_and_is_the_same_in_all_channels() -> None:
    out = Jitter(noise=0.5)(torch.zeros(64, 3, 16, 16), generator())
    assert abs(float(out[:, 0].std()) - 0.5) < 0.02
    assert torch.equal(out[:, 0], out[:, 2])


def test_negative_amounts_are_refused() -> None:
    with pytest.raises(UsageError, match="noise must not be negative, but is -1"):
        Jitter(noise=-1)


# ------------------------------------------------------------------------------- archives


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(**content: Any) -> Path:
        path = tmp_path / "images.npz"
        np.savez(path, **content)
        return path

    return write


def images(*shape: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


LABELS = np.arange(30) % 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((30, 3, 6, 8), (3, 6, 8)),
        ((30, 6, 8, 3), (3, 6, 8)),
        ((30, 1, 6, 8), (3, 6, 8)),
        ((30, 6, 8, 1), (3, 6, 8)),
        ((30, 6, 8), (3, 6, 8)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, np.bool_])
def test_archives_of_all_layouts_and_types(
    write: Write, shape: tuple[int, ...], expected: tuple[int, ...], dtype: Any
) -> None:
    data = load_data(write(x=images(*shape, dtype=dtype), y=LABELS.astype(np.uint8)))
    assert (data.name, data.num_classes, data.input_shape) == ("images", 3, expected)
    assert [len(arrays(data, name)[1]) for name in SPLITS] == [18, 6, 6]
    x = arrays(data, "train")[0]
    assert x.dtype == torch.float32
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4)


def test_layouts_of_the_same_images_give_the_same_data(write: Write) -> None:
    x = images(30, 3, 6, 8)
    first = arrays(load_data(write(x=x, y=LABELS)), "test")[0]
    last = arrays(load_data(write(x=x.transpose(0, 2, 3, 1), y=LABELS)), "test")[0]
    assert torch.equal(first, last)


def test_labels_stay_with_their_images(write: Write) -> None:
    x = np.broadcast_to(LABELS[:, None, None], (30, 4, 4)).astype(np.uint8)
    data = load_data(write(x=x, y=LABELS))
    for name in SPLITS:
        x_, y = arrays(data, name)
        assert torch.allclose(x_[:, 0, 0, 0], (y - 1) / (2 / 3) ** 0.5)


def test_a_channel_that_is_constant_becomes_zero(write: Write) -> None:
    x = images(30, 3, 4, 4)
    x[:, 1] = 9
    x_ = arrays(load_data(write(x=x, y=LABELS)), "train")[0]
    assert bool((x_[:, 1] == 0).all())
    assert bool(x_.isfinite().all())


GOOD = images(30, 6, 8)
NOT_FINITE = GOOD.astype(float)
NOT_FINITE[3, 2, 1:3] = [np.nan, np.inf]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x": GOOD}, "no array y, only x"),
        ({"images": GOOD}, "no array x and no array y, only images"),
        ({"x": GOOD, "y": LABELS[:29]}, "30 images in x but 29 labels in y"),
        ({"x": images(30, 6), "y": LABELS}, r"shape \(30, 6\); images are"),
        ({"x": images(30, 2, 6, 8), "y": LABELS}, "with 1 or 3 channels"),
        ({"x": images(30, 3, 6, 3), "y": LABELS}, "could be either"),
        ({"x": images(30, 3, 0, 8), "y": LABELS}, r"shape \(30, 3, 0, 8\)"),
        ({"x": images(0, 6, 8), "y": LABELS[:0]}, r"shape \(0, 1, 6, 8\)"),
        ({"x": GOOD.astype(complex), "y": LABELS}, "x holds complex128"),
        ({"x": GOOD.astype("U3"), "y": LABELS}, "x holds <U3"),
        ({"x": GOOD.astype(object), "y": LABELS}, "no archive of plain arrays"),
        ({"x": NOT_FINITE, "y": LABELS}, "2 of the numbers in x are not finite"),
        ({"x": GOOD * 1e300, "y": LABELS}, "not finite"),
        ({"x": GOOD, "y": LABELS[:, None]}, r"y has the shape \(30, 1\)"),
        ({"x": GOOD, "y": LABELS.astype(float)}, "y holds float64; labels are integers"),
        ({"x": GOOD, "y": LABELS.astype(str)}, "y holds <U21"),
        ({"x": GOOD, "y": LABELS + 1}, "labels in y are 1, 2, 3; two classes or more"),
        ({"x": GOOD, "y": LABELS * 2}, "labels in y are 0, 2, 4;"),
        ({"x": GOOD, "y": LABELS - 1}, "labels in y are -1, 0, 1;"),
        ({"x": GOOD, "y": LABELS * 0}, "labels in y are 0;"),
        (
            {"x": GOOD, "y": np.r_[0, 0, 0, 0, [1] * 26]},
            "class 0 has 4 images; each needs at least 5",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_archives_of_another_form_are_refused(
    write: Write, content: dict[str, Any], said: str
) -> None:
    path = write(**content)
    with pytest.raises(DataError, match=said) as caught:
        load_data(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_archive_are_refused(tmp_path: Path, write: Write) -> None:
    path = write(x=GOOD, y=LABELS)
    content = path.read_bytes()
    middle = bytearray(content)
    middle[len(content) // 2] ^= 1
    array = tmp_path / "array.npy"
    np.save(array, GOOD)
    for damaged in (b"", b"PK", content[:-30], bytes(middle), array.read_bytes(), b"x" * 99):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged, or no archive"):
            load_data(path)
    with pytest.raises(DataError, match="there is no file"):
        load_data(tmp_path / "missing.npz")


# ------------------------------------------------------------------------------ functions

MODULE = """
import torch
from torch.utils.data import Dataset, TensorDataset
from nas_space.training import Splits

def part(n):
    return TensorDataset(torch.rand(n, 3, 4, 5), torch.arange(n) % 2)

def three():
    return part(10), part(4), part(4)

def named():
    return {"test": part(3), "train": part(10), "validation": part(4)}

def splits(seed):
    return Splits(name=f"seed {seed}", train=part(9), validation=part(9), test=part(9),
                  num_classes=7, input_shape=(3, 4, 5))

class Slow(Dataset):
    targets = [0, 1, 4]
    def __len__(self): return 3
    def __getitem__(self, i): return torch.zeros(3, 8, 8), self.targets[i]

class Mute(Dataset):
    def __len__(self): return 3
    def __getitem__(self, i): return torch.zeros(3, 8, 8), 0

def slow(): return Slow(), Slow(), Slow()
def mute(): return Mute(), Mute(), Mute()
def two(): return part(1), part(1)
def none(): return None
def wrong(): return part(3), 5, part(3)
def raises(): raise RuntimeError("no network")
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "data_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "data_of_mine", raising=False)
    return "data_of_mine"


def test_functions_of_ones_own(module: str) -> None:
    three = load_data(f"{module}:three")
    assert (three.num_classes, three.input_shape, three.augment) == (2, (3, 4, 5), None)
    assert [len(arrays(three, name)[1]) for name in SPLITS] == [10, 4, 4]
    named = load_data(f"{module}:named")
    assert [len(arrays(named, name)[1]) for name in SPLITS] == [10, 4, 3]
    assert load_data(f"{module}:splits", seed=8).name == "seed 8"
    slow = load_data(f"{module}:slow")
    assert (slow.num_classes, slow.input_shape) == (5, (3, 8, 8))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("thre", r"has no 'thre' \(did you mean 'three'"),
        ("number", "'number' .* is no function"),
        ("two", "returned a tuple; it may return"),
        ("none", "returned a NoneType; it may return"),
        ("wrong", "validation data is a int"),
        ("raises", "raised RuntimeError: no network"),
        ("mute", "do not tell the number of classes"),
    ],
)
def test_functions_that_fail_or_return_something_else(
    module: str, function: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        load_data(f"{module}:{function}")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("digit", "did you mean 'digits'"),
        ("", "give 'digits', a file that ends in .npz"),
        ("images.npy", "no data 'images.npy'"),
        ("module:", "no data 'module:'"),
        ("no_such_module:f", "'no_such_module' cannot be imported"),
    ],
)
def test_what_is_no_data(spec: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_data(spec)


# --------------------------------------------------------------------------------- import


def test_importing_training_leaves_lightning_and_scikit_learn_alone() -> None:
    program = (
        "import sys, nas_space.training; print(*{m.split('.')[0] for m in sys.modules}"
        " & {'lightning_fabric', 'sklearn', 'scipy', 'optuna', 'matplotlib'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_copies_of_an_example_make_a_score_no_surer() -> None:
    torch.manual_seed(0)
    x = torch.randn(190, 3)
    once = TensorDataset(x, torch.randint(3, (190,)))
    often = TensorDataset(x.repeat(4, 1), once.tensors[1].repeat(4))

    def error(data: TensorDataset) -> float:
        task = Task.classification(data, validation=data)
        return evaluate_with_error(nn.Identity(), task)[STANDARD_ERROR]

    assert error(often) < 0.6 * error(once)  # taken for 760 examples
    vars(often)["clusters"] = torch.arange(190).repeat(4)
    assert error(often) == pytest.approx(error(once), rel=1e-6)
    vars(often)["clusters"] = torch.arange(190)
    with pytest.raises(DataError, match="says of 190 examples which belong together, and has 760"):
        error(often)


def test_the_digits_say_which_are_copies_of_one() -> None:
    validation: Any = load_data("digits", seed=0).validation
    clusters, labels = validation.clusters, validation.tensors[1]
    assert len(clusters.unique()) * 4 == len(validation)
    for number in clusters.unique().tolist():
        assert len(labels[clusters == number].unique()) == 1

"""Images to train on: the handwritten digits, an archive of arrays, or a function of one's own."""

from __future__ import annotations

import inspect
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from ..errors import DataError, suggest
from ..lazy import installed, look_here_too, named
from ..randomness import generator_of, seed_of
from .augmentation import Jitter
from .batches import Source, check_source

__all__ = ["Splits", "load_data", "split_by_class"]

_COPIES = 4
"""How often a digit occurs among those to validate, or to test."""

_SPECS = "'digits', a file that ends in .npz (with arrays x and y), or 'module:function'"
_SPLITS = ("train", "validation", "test")

_INFLATED = 2_000_000_000
"""Bytes that an archive may hold, however it is packed."""

_RATIO = 100
"""How many times its size a larger one may hold; images are packed two times or three."""


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Three data sets of images and labels that have no example in common.

    Attributes
    ----------
    name : str
        What to call the data.
    train, validation, test : Dataset
        Of pairs (image, label): a normalised float tensor of ``input_shape``, and an integer.
    num_classes : int
        Labels run from 0 to one less.
    input_shape : tuple of int
        Channels, height, width.
    augment : callable or None
        Changes a batch of training images, ``augment(images, generator)``.
    """

    name: str
    train: Source
    validation: Source
    test: Source
    num_classes: int
    input_shape: tuple[int, ...]
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None


def load_data(spec: str | Path, seed: int = 0) -> Splits:
    """Load the images that a short name stands for.

    Parameters
    ----------
    spec
        One of

        - ``'digits'``: the 1,797 handwritten digits that scikit-learn ships, 8×8, enlarged to
          32×32, with three equal channels. In training they are shifted, rotated and noised,
          anew each time; those to validate and to test are, too, each in four ways that stay.
        - a path ending in ``.npz``: arrays ``x``, images of shape (N, C, H, W), (N, H, W, C) or
          (N, H, W), of numbers; and ``y``, N integers that count classes from 0. In training they
          are shifted.
        - ``'module:function'``: what the function returns, called with ``seed=`` if it takes that:
          :class:`Splits`, or the three data sets in this order or by name (then the labels of the
          training data are looked at to count classes).
    seed
        Which examples are for validation and for testing (a fifth of each class, each). Does not
        matter for 'module:function', unless the function heeds it.

    Returns
    -------
    Splits
        Images of one channel are repeated to three; all are normalised by mean and deviation of
        the training images.

    Raises
    ------
    DataError
        There are no such data, or they do not have this form.

    Examples
    --------
    >>> digits = load_data("digits", seed=0)
    >>> digits.num_classes, digits.input_shape
    (10, (3, 32, 32))
    >>> len(digits.train), len(digits.validation), len(digits.test)
    (1087, 1420, 1420)
    """
    text = str(spec)
    if text == "digits":
        return _digits(seed)
    if text.endswith(".npz"):
        return _archive(Path(text), seed)
    module, colon, function = text.partition(":")
    if colon and module and function:
        return _from_function(module, function, seed)
    raise DataError(f"there are no data {text!r}; give {_SPECS}{suggest(text, ['digits'])}")


def split_by_class(labels: npt.NDArray[Any], seed: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Share examples out at random: a fifth of each class for validation, a fifth for testing.

    Parameters
    ----------
    labels
        The class of each example.
    seed
        The same seed gives the same split, on every platform.

    Returns
    -------
    tuple of array
        The positions, in ascending order, of the examples to train, to validate, to test.

    Examples
    --------
    >>> train, validation, test = split_by_class(np.array([0] * 5 + [1] * 10), seed=0)
    >>> len(train), len(validation), len(test)
    (9, 3, 3)
    """
    # Raw bits, whose sequence numpy guarantees, unlike that of its permutations.
    keys = np.random.PCG64(seed_of(seed, "data/split", 0)).random_raw(len(labels))
    parts: tuple[list[Any], ...] = ([], [], [])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(keys[members], kind="stable")]
        fifth = len(members) // 5
        for part, share in zip(
            parts, np.split(members, [len(members) - 2 * fifth, len(members) - fifth]), strict=True
        ):
            part.append(share)
    return tuple(np.sort(np.concatenate(part)) for part in parts)


def _digits(seed: int) -> Splits:
    bunch = installed("sklearn.datasets", "demo").load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None]
    images = F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    parts = split_by_class(bunch.target, seed)
    images, background = _normalised(images, parts[0])
    jitter = Jitter(shift=0.15, degrees=20, noise=0.7, fill=background)
    splits = _splits("digits", images, bunch.target, parts, jitter)
    # As they are, a nearest neighbour knows 98 in 100 of them, and so does any network.
    return replace(
        splits,
        validation=_jittered(splits.validation, jitter, seed, "validation"),
        test=_jittered(splits.test, jitter, seed, "test"),
    )


def _jittered(split: Any, jitter: Jitter, seed: int, name: str) -> TensorDataset:
    """Return copies of each example that are changed at random, in the same way each time."""
    images, labels = split.tensors
    copies = [
        jitter(images, generator_of(seed, f"data/digits/{name}", copy)) for copy in range(_COPIES)
    ]
    changed = TensorDataset(torch.cat(copies), labels.repeat(_COPIES))
    # Four copies of a digit are no four digits: for who says how sure a score is.
    vars(changed)["clusters"] = torch.arange(len(labels)).repeat(_COPIES)
    return changed


def _archive(path: Path, seed: int) -> Splits:
    arrays = _read_archive(path)
    images, labels = _images(arrays["x"], str(path)), _labels(arrays["y"], str(path))
    if len(images) != len(labels):
        raise DataError(
            f"{path}: there are {len(images)} images in x but {len(labels)} labels in y; "
            "give one label for each image"
        )
    parts = split_by_class(labels, seed)
    images, _ = _normalised(images, parts[0])
    return _splits(path.stem, images, labels, parts, Jitter(shift=0.1))


def _read_archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        # Without pickles, which could run code.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = {"x", "y"}.difference(archive)
            if missing:
                there = ", ".join(archive) or "nothing"
                raise DataError(
                    f"{path}: there is no array {' and no array '.join(sorted(missing))}, only "
                    f"{there}; save it by numpy.savez(path, x=images, y=labels)"
                )
            _check_size(path)
            return {"x": archive["x"], "y": archive["y"]}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except DataError:
        raise
    except (
        AttributeError,  # a single array, saved by numpy.save, is no context
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,  # a kind of compression that is not known
        OSError,
        OverflowError,
        RuntimeError,
        SyntaxError,  # a header that is no Python literal
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is damaged, or no archive of plain arrays as numpy.savez writes it: {error}"
        ) from error


def _check_size(path: Path) -> None:
    """Refuse an archive of which little becomes very much."""
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > max(_INFLATED, _RATIO * path.stat().st_size):
        raise DataError(
            f"{path} would take {size / 1e9:.1f} GB of memory, {size / path.stat().st_size:,.0f} "
            f"times its size: more than {_INFLATED / 1e9:g} GB must not be packed more than "
            f"{_RATIO} times; save it by numpy.savez, without compression"
        )


def _images(x: npt.NDArray[Any], source: str) -> Tensor:
    """Check images and bring them to the shape (N, C, H, W)."""
    if x.dtype.kind not in "biuf":
        raise DataError(
            f"{source}: x holds {x.dtype}; images are integers or floating-point numbers"
        )
    if x.ndim == 3:
        x = x[:, None]
    first, last = (x.ndim == 4 and x.shape[axis] in {1, 3} for axis in (1, -1))
    if first == last or 0 in x.shape:
        raise DataError(
            f"{source}: x has the shape {x.shape}"
            + (", which could be either of (N, C, H, W) and (N, H, W, C)" if first else "")
            + "; images are (N, C, H, W), (N, H, W, C) or (N, H, W), with 1 or 3 channels C"
        )
    images = torch.from_numpy(x.astype(np.float32))
    broken = int((~images.isfinite()).sum())
    if broken:
        raise DataError(
            f"{source}: {broken} of the numbers in x are not finite; remove or replace them"
        )
    return images if first else images.permute(0, 3, 1, 2)


def _labels(y: npt.NDArray[Any], source: str) -> npt.NDArray[np.int64]:
    if y.ndim != 1:
        raise DataError(
            f"{source}: y has the shape {y.shape}; labels are one integer for each image"
        )
    if y.dtype.kind not in "iu":
        raise DataError(f"{source}: y holds {y.dtype}; labels are integers, from 0")
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
        found = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
        raise DataError(
            f"{source}: the labels in y are {found or 'none'}; two classes or more must be counted "
            "from 0 without a gap"
        )
    if counts.min() < 5:
        raise DataError(
            f"{source}: class {counts.argmin()} has {counts.min()} images; each needs at least 5, "
            "of which one is for validation and one for testing"
        )
    return y.astype(np.int64)


def _normalised(images: Tensor, train: npt.NDArray[np.intp]) -> tuple[Tensor, float]:
    """Normalise by the training images, and say what black has become."""
    deviation, mean = torch.std_mean(images[train], dim=(0, 2, 3), correction=0, keepdim=True)
    deviation[deviation == 0] = 1  # of a channel that is all the same
    images = (images - mean) / deviation
    if images.shape[1] == 1:
        images = images.repeat(1, 3, 1, 1)
    return images, float(-mean[0, 0] / deviation[0, 0])


def _splits(
    name: str,
    images: Tensor,
    labels: npt.NDArray[Any],
    parts: Sequence[npt.NDArray[np.intp]],
    jitter: Jitter,
) -> Splits:
    targets = torch.from_numpy(labels.astype(np.int64))
    train, validation, test = (TensorDataset(images[part], targets[part]) for part in parts)
    return Splits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        num_classes=int(labels.max()) + 1,
        input_shape=tuple(images.shape[1:]),
        augment=jitter,
    )


def _from_function(module: str, name: str, seed: int) -> Splits:
    source = f"{module}:{name}"
    function = _find(module, name)
    try:
        takes_seed = "seed" in inspect.signature(function).parameters
        result = function(seed=seed) if takes_seed else function()
    except (Exception, SystemExit) as error:
        raise DataError(f"{source} raised {type(error).__name__}: {error}") from error
    if isinstance(result, Splits):
        return result
    if isinstance(result, Mapping) and set(result) == set(_SPLITS):
        result = [result[split] for split in _SPLITS]
    if not isinstance(result, Sequence) or len(result) != 3:
        raise DataError(
            f"{source} returned a {type(result).__name__}; it may return Splits, or three data "
            "sets (train, validation, test), or a dict of the three by these names"
        )
    for split, part in zip(_SPLITS, result, strict=True):
        check_source(part, f"{source} {split}")
    train, validation, test = result
    image, labels = _look_at(train, source)
    return Splits(
        name=source,
        train=train,
        validation=validation,
        test=test,
        num_classes=int(labels.max()) + 1,
        input_shape=tuple(image.shape),
    )


def _find(module: str, name: str) -> Callable[..., Any]:
    look_here_too()
    function = named(f"{module}:{name}", "a data set", DataError)
    if not callable(function):
        raise DataError(f"{name!r} of module {module!r} is no function")
    return function  # type: ignore[no-any-return]


def _look_at(train: Any, source: str) -> tuple[Tensor, Tensor]:
    """Return the first image, and all labels, without loading all images."""
    labels = (
        train.tensors[1] if isinstance(train, TensorDataset) else getattr(train, "targets", None)
    )
    try:
        image, _ = train[0]
        return image, torch.as_tensor(labels)
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"{source} returned training data that do not tell the number of classes and the shape "
            "of an image; return nas_space.training.Splits, or a TensorDataset of images and "
            "labels, or data sets of pairs (image, label) with an attribute 'targets'"
        ) from error

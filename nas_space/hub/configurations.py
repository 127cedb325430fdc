"""Configurations of networks as once-for-all and ProxylessNAS publish them, as architectures.

Both publish a network as nested JSON: one entry for each layer, with its sizes.  Reading finds
the space of the hub that has the network, the arguments of its constructor, and the architecture.
Back again: :func:`~nas_space.hub.write_configuration`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, NasSpaceError, UsageError
from ..mutable import make_divisible
from ..nn import ModelSpace
from .ofa import RESNET_DEPTHS, RESNET_WIDTHS, OFAMobileNetV3Space, OFAResNetSpace
from .proxylessnas import ProxylessNAS

__all__ = ["Configuration", "read_configuration"]


@dataclass(frozen=True)
class Configuration:
    """A network as a space of the hub has it.

    Attributes
    ----------
    space
        The class of the space.
    arguments
        Of its constructor, where they differ from the defaults.
    architecture
        Label to value.
    """

    space: type[ModelSpace]
    arguments: Mapping[str, Any]
    architecture: Mapping[str, Any]

    def network(self, weights: Mapping[str, torch.Tensor] | None = None) -> Any:
        """Return the network.

        Parameters
        ----------
        weights
            The ``state_dict`` of the published network.  Its layers have other names there, but
            come in the same order; every shape is compared.

        Raises
        ------
        CheckpointError
            If these are no weights of such a network.
        """
        # By their order, since names are those of other classes: both list convolutions and norms
        # in the order of the forward. Shapes of two layers may agree by chance, but not all of
        # them.
        network = self.space.frozen_factory(self.architecture)(**self.arguments)
        if weights is None:
            return network
        own = network.state_dict()
        differs = [
            f"{mine} {tuple(tensor.shape)} and {theirs} {tuple(weights[theirs].shape)}"
            for (mine, tensor), theirs in zip(own.items(), weights, strict=False)
            if tensor.shape != weights[theirs].shape
        ]
        if len(own) != len(weights) or differs:
            raise CheckpointError(
                f"these are no weights of this network, which has {len(own)} tensors: there are "
                f"{len(weights)}" + (f", and {differs[0]} differ" if differs else "")
            )
        network.load_state_dict(dict(zip(own, weights.values(), strict=True)))
        return network


def read_configuration(config: Mapping[str, Any] | str | Path) -> Configuration:
    """Return the space and the architecture of a published configuration.

    Parameters
    ----------
    config
        The nested dictionary, or the path of a JSON file that has it.  Its ``name`` is
        ``ProxylessNASNets``, ``MobileNetV3`` or ``ResNets``.

    Raises
    ------
    UsageError
        If it is no such configuration, or one of a network that the space does not have: it
        names the layer, and what the space has there.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS, write_configuration
    >>> network = ProxylessNAS.load_searched_model("proxyless-gpu")
    >>> found = read_configuration(write_configuration(network))
    >>> found.architecture["s2_depth"], found.architecture["s2_i0"]
    (1, 'k5e3')
    >>> found.arguments["base_widths"]
    (40, 24, 32, 56, 112, 128, 256, 432, 1728)
    """
    given: Any = config
    if isinstance(config, (str, Path)):
        try:
            given = json.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"cannot read the configuration {config}: {error}") from error
    name = given.get("name") if isinstance(given, Mapping) else given
    read = _READERS.get(name) if isinstance(name, str) else None
    if read is None:
        raise UsageError(
            f"a configuration is a dictionary with a name of {list(_READERS)}, but this is {name!r}"
        )
    try:
        found = read(given)
        found.network()  # refuses what is not in the space
    except NasSpaceError:
        raise
    except Exception as error:  # whatever stands in the place of a size meets torch in the end
        raise UsageError(
            f"this is not what a configuration of {name} looks like: "
            f"{type(error).__name__}: {error}"
        ) from error
    return found


# -- inverted residuals: ProxylessNAS and MobileNetV3 ---------------------------------------------


@dataclass(frozen=True)
class _MobileBlock:
    """An inverted residual, as configurations say it."""

    place: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    ratio: float
    act: str
    excites: bool
    skips: bool

    @classmethod
    def of(cls, place: int, entry: Mapping[str, Any]) -> _MobileBlock | None:
        conv = entry["conv"] if "conv" in entry else entry["mobile_inverted_conv"]
        shortcut = entry["shortcut"]
        if conv is None or conv["name"] == "ZeroLayer":
            return None  # a block that the search left out
        inputs, ratio, hidden = conv["in_channels"], conv["expand_ratio"], conv.get("mid_channels")
        # Configurations may give the hidden width itself, which need not be what the ratio says:
        # then it counts, and the ratio is what it comes to.
        if hidden is not None and hidden != make_divisible(round(inputs * ratio), 8):
            ratio = hidden / inputs
        if conv.get("groups") not in (None, hidden):
            raise UsageError(f"block {place} has groups={conv['groups']}: it must be depthwise")
        return cls(
            place,
            inputs,
            conv["out_channels"],
            conv["kernel_size"],
            conv["stride"],
            ratio,
            conv.get("act_func", "relu6"),
            bool(conv.get("use_se")),
            shortcut is not None and shortcut["name"] != "ZeroLayer",
        )

    def expect(self, what: str, found: Any, wanted: Any) -> None:
        """Raise unless a property is as the space has it."""
        if found != wanted:
            raise UsageError(
                f"block {self.place} has {what} {found!r}, where this space has {wanted!r}"
            )


def _stages(
    config: Mapping[str, Any], strides: Sequence[int], act: Sequence[str], excites: Sequence[bool]
) -> Iterator[list[_MobileBlock]]:
    """Yield the blocks of each stage but the first, checked against what a space has there."""
    blocks = [_MobileBlock.of(place, entry) for place, entry in enumerate(config["blocks"])]
    used = [block for block in blocks if block is not None]
    for before, after in pairwise(used):
        after.expect("in_channels", after.inputs, before.outputs)
    first, *others = used
    first.expect("expand_ratio and kernel", (first.ratio, first.kernel), (1, 3))
    first.expect("stride", first.stride, strides[0])
    # A configuration lists blocks and says nothing of stages: one begins wherever the size of the
    # image or the width changes.
    stages: list[list[_MobileBlock]] = []
    for block in others:
        if block.stride != 1 or block.inputs != block.outputs:
            stages.append([])
        elif not stages:
            block.expect("stride", block.stride, strides[1])
        stages[-1].append(block)
    if len(stages) != len(strides) - 1:
        raise UsageError(
            f"there are {len(stages)} stages after the first block, where this space has "
            f"{len(strides) - 1}"
        )
    checked = zip([[first], *stages], strides, act, excites, strict=True)
    for index, (stage, stride, activation, excite) in enumerate(checked):
        for place, block in enumerate(stage):
            block.expect("stride", block.stride, stride if place == 0 else 1)
            block.expect("act_func", block.act, activation)
            block.expect("use_se", block.excites, excite)
            residual = block.stride == 1 and block.inputs == block.outputs
            block.expect("shortcut", block.skips, residual)
        if index:
            yield stage


def _widths(
    config: Mapping[str, Any], stages: Sequence[Sequence[_MobileBlock]], *last: str
) -> tuple[int, ...]:
    """Return the widths of the first layer, of all stages, and of the last layers, by name."""
    before, *after = (config[name]["out_channels"] for name in ("first_conv", *last))
    return (before, stages[0][0].inputs, *(blocks[0].outputs for blocks in stages), *after)


def _norms(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says of batch norms and of the classifier, as arguments."""
    norm, last = config.get("bn") or {}, config["classifier"]
    return {
        "num_labels": last["out_features"],
        "dropout_rate": float(last.get("dropout_rate") or 0),
        "bn_momentum": float(norm.get("momentum", 0.1)),
        "bn_eps": float(norm.get("eps", 1e-3 if config["name"] == "ProxylessNASNets" else 1e-5)),
    }


def _read_proxyless(config: Mapping[str, Any]) -> Configuration:
    stages = list(_stages(config, (1, 2, 2, 2, 1, 2, 1), ("relu6",) * 7, (False,) * 7))
    architecture: dict[str, Any] = {}
    for stage, blocks in enumerate(stages, start=2):
        if stage < 7:
            architecture[f"s{stage}_depth"] = len(blocks)
        else:
            blocks[-1].expect("so many blocks in the last stage:", len(blocks), 1)
        for index, block in enumerate(blocks):
            architecture[f"s{stage}_i{index}"] = f"k{block.kernel}e{block.ratio:g}"
    widths = _widths(config, stages, "feature_mix_layer")
    return Configuration(ProxylessNAS, {"base_widths": widths, **_norms(config)}, architecture)


_MOBILENET = (
    (1, 2, 2, 2, 1, 2),
    ("relu", "relu", "relu", "h_swish", "h_swish", "h_swish"),
    (False, False, True, False, True, True),
)
"""Strides, activations and excitations of the stages of once-for-all's MobileNetV3."""


def _read_mobilenet(config: Mapping[str, Any]) -> Configuration:
    stages = list(_stages(config, *_MOBILENET))
    architecture: dict[str, Any] = {}
    for stage, blocks in enumerate(stages, start=1):
        architecture[f"s{stage}_depth"] = len(blocks)
        for index, block in enumerate(blocks):
            architecture[f"s{stage}_i{index}_ks"] = block.kernel
            architecture[f"s{stage}_i{index}_exp"] = block.ratio
    used = [block for blocks in stages for block in blocks]
    depths = [2, 4, *map(len, stages)]
    arguments = {
        "base_widths": _widths(config, stages, "final_expand_layer", "feature_mix_layer"),
        "expand_ratios": tuple(sorted({3, 4, 6} | {block.ratio for block in used})),
        "depths": (min(depths), max(depths)),
    }
    return Configuration(OFAMobileNetV3Space, arguments | _norms(config), architecture)


# -- bottlenecks: ResNet-50 D ---------------------------------------------------------------------


def _read_resnet(config: Mapping[str, Any]) -> Configuration:
    space = OFAResNetSpace
    stem = config["input_stem"]
    if len(stem) not in (2, 3):
        raise UsageError(f"the stem of a ResNet-50 D has 2 or 3 layers, but this has {len(stem)}")
    factors = (0.65, 0.8, 1.0)

    def factor(what: str, width: int, base: int, narrowed: Callable[[int], int] = int) -> float:
        for found in factors:
            if narrowed(make_divisible(base * found, 8)) == width:
                return found
        raise UsageError(
            f"{what} is {width} wide, which is none of {factors} times {base}, rounded to 8"
        )

    # Widths are published as numbers, and chosen as factors on those of the full network; the first
    # layer of the stem has half of the width that its factor gives, rounded once more.
    middle, outer = stem[0]["out_channels"], stem[-1]["out_channels"]
    architecture: dict[str, Any] = {
        "stem_depth": len(stem) - 2,
        "stem_width": factor("the stem", middle, 64, lambda w: make_divisible(w // 2, 8)),
        "stem_out_width": factor("the stem's last layer", outer, 64),
    }
    stages: list[list[Mapping[str, Any]]] = []
    for block in config["blocks"]:
        if not stages or block["stride"] != 1:
            stages.append([])
        stages[-1].append(block)
    if len(stages) != len(RESNET_DEPTHS):
        raise UsageError(f"a ResNet-50 D has 4 stages, but this has {len(stages)}")
    for stage, (blocks, width) in enumerate(zip(stages, RESNET_WIDTHS, strict=True), start=1):
        architecture[f"s{stage}_depth"] = len(blocks)
        outputs = blocks[0]["out_channels"]
        architecture[f"s{stage}_width"] = factor(f"stage {stage}", outputs, width)
        for index, block in enumerate(blocks):
            wanted = {"kernel_size": 3, "groups": 1, "downsample_mode": "avgpool_conv"}
            for key, value in {**wanted, "act_func": "relu", "out_channels": outputs}.items():
                if block.get(key, value) != value:
                    raise UsageError(
                        f"block {index} of stage {stage} has {key}={block[key]!r}, where this "
                        f"space has {value!r}"
                    )
            architecture[f"s{stage}_i{index}_exp"] = block["expand_ratio"]
    return Configuration(space, _norms(config), architecture)


_READERS: dict[str, Callable[[Mapping[str, Any]], Configuration]] = {
    "ProxylessNASNets": _read_proxyless,
    "MobileNetV3": _read_mobilenet,
    "ResNets": _read_resnet,
}

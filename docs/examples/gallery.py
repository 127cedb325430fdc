"""The pictures of the gallery: architectures and spaces of several kinds, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.hub import AutoformerSpace, MobileNetV3Space, ProxylessNAS
from nas_space.report import architecture_picture, space_picture
from nas_space.report.histograms import costs_picture
from nas_space.runs.demo import minilm


class UNet(ns.ModelSpace):
    """From an image to a mask, with a way around for each resolution."""

    def __init__(self) -> None:
        super().__init__()
        widths = [ns.Categorical([8, 16, 24], label=f"width{level}") for level in range(3)]
        self.down = nn.ModuleList()
        channels: Any = 3
        for level, width in enumerate(widths):
            self.down.append(self._block(channels, width, f"down{level}"))
            channels = width
        self.up = nn.ModuleList()
        for level in (1, 0):
            self.up.append(self._block(channels + widths[level], widths[level], f"up{level}"))
            channels = widths[level]
        self.head = mnn.MutableConv2d(channels, 1, 1)

    @staticmethod
    def _block(before: Any, after: Any, label: str) -> nn.Module:
        return mnn.LayerChoice(
            {
                f"conv{k}": lambda k=k: mnn.MutableConv2d(before, after, k, padding=k // 2)
                for k in (1, 3, 5)
            },
            label=label,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for block in self.down[:-1]:
            x = torch.relu(block(x))
            kept.append(x)
            x = torch.max_pool2d(x, 2)
        x = torch.relu(self.down[-1](x))
        for block, skip in zip(self.up, reversed(kept), strict=True):
            x = nn.functional.interpolate(x, scale_factor=2)
            x = torch.relu(block(torch.cat([x, skip], 1)))
        out: torch.Tensor = self.head(x)
        return out


def made_elastic() -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the space of what a pretrained encoder of sentences could be, and what it is given."""
    network = minilm()
    tokens = torch.ones(1, 32, dtype=torch.long)
    inputs = {"input_ids": tokens, "attention_mask": tokens}
    return ns.elastic(network, inputs), inputs


def costs(path: Path, drawn: int = 2000) -> None:
    """Draw what architectures of the hub's ProxylessNAS cost, beside published ones."""
    space = ProxylessNAS()
    macs, params = ns.profiler.macs(space, (3, 224, 224)), ns.profiler.params(space)
    sampled = space.sample(drawn, over="architectures", seed=0)
    named = {
        name: {"macs": macs.evaluate(arch), "params": params.evaluate(arch)}
        for name, arch in (
            (f"proxyless-{kind}", ProxylessNAS.published[f"proxyless-{kind}"].architecture)
            for kind in ("cpu", "gpu", "mobile")
        )
    }
    values = {"macs": macs.evaluate(sampled), "params": params.evaluate(sampled)}
    costs_picture(values, named, {"macs": 400e6}, path)


def main(out: str = "gallery") -> list[Path]:
    """Draw all of them into a folder."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    image, small = (3, 224, 224), (3, 64, 64)
    unet, (elastic, texts) = UNet(), made_elastic()
    proxyless, former = ProxylessNAS(), AutoformerSpace(**AutoformerSpace.preset("tiny"))
    mobile = MobileNetV3Space()
    drawings: dict[str, Callable[[Path], None]] = {
        "proxylessnas": lambda file: architecture_picture(
            proxyless, proxyless.sample(seed=1), image, file, "A network of ProxylessNAS"
        ),
        "mobilenetv3": lambda file: architecture_picture(
            mobile, mobile.sample(seed=0), image, file, "A network of MobileNetV3Space"
        ),
        "transformer": lambda file: architecture_picture(
            former, former.sample(seed=0), image, file, "A transformer for images"
        ),
        "unet": lambda file: architecture_picture(
            unet, unet.sample(seed=0), small, file, "A UNet for masks"
        ),
        "elastic": lambda file: architecture_picture(
            elastic, elastic.sample(seed=2), None, file, "Made smaller: MiniLM", inputs=texts
        ),
        "space": lambda file: space_picture(proxyless, image, file),
        "costs": costs,
    }
    files = []
    for name, draw in drawings.items():
        files.append(folder / f"{name}.png")
        draw(files[-1])
    return files


if __name__ == "__main__":
    main()

"""Random shifts, rotations and noise for batches of images, on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError

__all__ = ["Jitter"]


@dataclass(frozen=True)
class Jitter:
    """Shift, rotate and add noise to images, each in its own way.

    Parameters
    ----------
    shift
        The largest shift to each side, as a share of the image's height and width.
    degrees
        The largest rotation to each side.
    noise
        The standard deviation of the Gaussian noise, which is the same in all channels.
    fill
        What comes in from beyond the border.

    Raises
    ------
    UsageError
        A negative number.

    Examples
    --------
    >>> images = torch.rand(8, 3, 32, 32)
    >>> Jitter(shift=0.1)(images, torch.Generator().manual_seed(0)).shape
    torch.Size([8, 3, 32, 32])
    """

    shift: float = 0.0
    degrees: float = 0.0
    noise: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "degrees", "noise"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, but is {getattr(self, name)}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch of images, of shape (N, C, H, W), drawing from the generator alone."""
        n, _, height, width = images.shape
        device = images.device
        if self.shift or self.degrees:
            grid = self._grid(
                torch.rand(3, n, 1, 1, generator=generator, device=device) * 2 - 1, height, width
            )
            # Beyond the border there is zero, so what is to be there must be zero.
            moved = F.grid_sample(images - self.fill, grid.to(images.dtype), align_corners=False)
            images = moved.add_(self.fill)
        if self.noise:
            # One channel of noise for all: drawing it is most of the work.
            noise = torch.randn(n, 1, height, width, generator=generator, device=device)
            images = images + noise.mul_(self.noise).to(images.dtype)
        return images

    def _grid(self, draw: Tensor, height: int, width: int) -> Tensor:
        """Where each pixel comes from, given three numbers from -1 to 1 for each image."""
        # A rotation is one of pixels, and the coordinates of grid_sample are shares of the height
        # and the width: so its mixed terms are scaled by their ratio.  Each pixel asks where it
        # comes from, so what is drawn is the inverse of the move; it is as random.
        angle = draw[0] * math.radians(self.degrees)
        # Both axes run from -1 to 1, the borders of the outermost pixels, whose centres are half a
        # pixel inside.
        x = torch.linspace(1 / width - 1, 1 - 1 / width, width, device=draw.device)
        y = torch.linspace(1 / height - 1, 1 - 1 / height, height, device=draw.device)[:, None]
        cosine, sine = angle.cos(), angle.sin()
        from_x = cosine * x - sine * (height / width) * y + 2 * self.shift * draw[1]
        from_y = sine * (width / height) * x + cosine * y + 2 * self.shift * draw[2]
        return torch.stack((from_x, from_y), dim=-1)

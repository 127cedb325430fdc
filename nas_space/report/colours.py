"""The colours of every picture and page, so that they look like one another."""

from __future__ import annotations

__all__ = ["CHOSEN", "COLOURS", "FAINT", "FREE", "INK", "MUTED", "SHARE"]

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#F0E442", "#999933")

INK = "#1F2328"
"""Of text."""

MUTED = "#656D76"
"""Of text that is less important; still 4.5 to 1 on white."""

FAINT = "#B4BAC2"
"""Of lines."""

FREE = "#F3F5F7"
"""Of a value that was not chosen."""

CHOSEN = "#0067A3"
"""Of a value that was chosen."""

SHARE = "#E69F00"
"""Of shares of a cost."""

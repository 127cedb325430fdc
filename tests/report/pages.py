"""What a report has in it for its script to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["data_of"]


def data_of(file: Path) -> dict[str, Any]:
    """Return the data of a page."""
    text = file.read_text().partition('id="data">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found

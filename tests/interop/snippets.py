"""The snippets of the page on migrating, by what stands above each of them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "migrating-from-nni.md"
MARKED = re.compile(r"<!-- (\w+): (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)
SNIPPETS = {(kind, name): text for kind, name, text in MARKED.findall(PAGE.read_text("utf-8"))}


def of_kind(kind: str) -> dict[str, str]:
    """Name to text."""
    return {name: text for (each, name), text in SNIPPETS.items() if each == kind}

"""Pictures of searches and of what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .architecture import architecture_picture, space_picture
    from .explanation import ExplainedModule, Explanation, explain
    from .scatter import SearchPoint, search_picture

__all__ = [
    "ExplainedModule",
    "Explanation",
    "SearchPoint",
    "architecture_picture",
    "explain",
    "search_picture",
    "space_picture",
]

__getattr__, __dir__ = lazily(__name__)

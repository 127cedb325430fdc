"""Pictures of searches and of what they found."""

from .architecture import architecture_picture
from .explanation import ExplainedModule, Explanation, explain
from .scatter import SearchPoint, search_picture

__all__ = [
    "ExplainedModule",
    "Explanation",
    "SearchPoint",
    "architecture_picture",
    "explain",
    "search_picture",
]

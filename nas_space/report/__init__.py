"""Pictures of searches and of what they found."""

from nas_space.report.architecture import architecture_picture
from nas_space.report.search import SearchPoint, search_picture

__all__ = ["SearchPoint", "architecture_picture", "search_picture"]

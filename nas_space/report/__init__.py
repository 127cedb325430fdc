"""Pictures of searches and of what they found."""

from .architecture import architecture_picture
from .scatter import SearchPoint, search_picture

__all__ = ["SearchPoint", "architecture_picture", "search_picture"]

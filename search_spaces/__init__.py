"""The language of search spaces, and the ready-made ones (one file each)."""

from search_spaces.parameters import Choice, Float, Int
from search_spaces.space import SearchSpace

__all__ = ["Choice", "Float", "Int", "SearchSpace"]

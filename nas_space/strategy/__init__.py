"""Strategies: who proposes the next architecture."""

from nas_space.strategy.base import Evaluated, Round, Searchable, Strategy
from nas_space.strategy.evolution import RegularizedEvolution
from nas_space.strategy.random import Random

__all__ = ["Evaluated", "Random", "RegularizedEvolution", "Round", "Searchable", "Strategy"]

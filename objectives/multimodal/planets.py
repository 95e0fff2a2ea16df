"""Synthetic planets: a class, and three noisy views of it. No torch.

A planet has three hidden coordinates: wet or dry, oxygenic or anoxic, warm or cold. Only
four of the eight combinations occur, those with an even number of second words: the corners
of a tetrahedron. The text tells the first coordinate, the metabolic network the second, the
climate the third. So one modality leaves two classes open, and any two are enough; each view
is noisy, so that three are better than two.

With a view's noise alone, sigma = ``NOISE``, the best possible accuracy of one modality is
Phi(1 / sigma) / 2 = 0.48, and of all three about 1 - 3 Phi(-sqrt(2) / sigma) = 0.97.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSES = {
    "reef": (1, 1, 1),  # wet, oxygenic, warm
    "ice_ocean": (1, -1, -1),
    "tundra": (-1, 1, -1),
    "desert": (-1, -1, 1),
}
NOISE = 0.6
NODE_FEATURES = 8

_WET = ("ocean", "lagoon", "river", "delta", "rain", "marsh", "estuary", "lake", "tide", "mist")
_DRY = ("dune", "canyon", "dust", "crater", "plateau", "gravel", "salt", "mesa", "scree", "crust")
_BETWEEN = ("valley", "ridge", "coast", "plain", "basin", "cliff", "cloud", "snow", "rock", "island")
_OPENINGS = ("we saw", "the probe mapped", "images show", "the survey notes", "radar finds")
_ADJECTIVES = ("wide", "narrow", "bright", "dark", "northern", "southern", "old", "young", "broken", "smooth")
_SEEN = 10  # things in a description


@dataclass(frozen=True)
class Graph:
    """Features of its nodes (n, ``NODE_FEATURES``) float32 and directed edges (e, 2) int32, source to target."""

    nodes: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class Observation:
    """The three views of a planet; of ``cube`` (variables, levels, lat, lon) float32."""

    text: str
    graph: Graph
    cube: np.ndarray


def coordinates(label: str, rng: np.random.Generator) -> np.ndarray:
    """What is hidden of a planet of this class, (3,): its corner of the tetrahedron, with the views' noise."""
    return np.array(CLASSES[label]) + NOISE * rng.standard_normal(3)


def observe(hidden: np.ndarray, cube: tuple[int, int, int, int], nodes: int, rng: np.random.Generator) -> Observation:
    """Look at a planet once; its ``cube`` has that shape, its graph at most so many ``nodes`` (8 or more)."""
    wet, oxygenic, warm = hidden
    return Observation(describe(wet, rng), network(oxygenic, nodes, rng), climate(warm, cube, rng))


def describe(wet: float, rng: np.random.Generator) -> str:
    """What a surveyor writes: the wetter, the more water words among those of the dry and of any world."""
    share = 1 / (1 + np.exp(-3 * wet))
    phrases = []
    for _ in range(_SEEN):
        telling = _WET if rng.random() < share else _DRY
        noun = rng.choice(telling if rng.random() < 0.7 else _BETWEEN)
        phrases.append(f"a {rng.choice(_ADJECTIVES)} {noun}")
    return f"{rng.choice(_OPENINGS)} {', '.join(phrases[:-1])} and {phrases[-1]}."


def network(oxygenic: float, most: int, rng: np.random.Generator) -> Graph:
    """A metabolic network: with oxygen metabolites gather around few hubs, without they form chains.

    Each new metabolite is made from an earlier one: by preferential attachment (Barabasi and
    Albert 1999) with a probability that rises with ``oxygenic``, else from one of the last two.
    A third of them take part in a second reaction. Features: one of six families, how much of
    it is made, which rises with its reactions, and a measured amount of no meaning.
    """
    count = int(rng.integers(max(8, most // 2), most + 1))
    share = 1 / (1 + np.exp(-3 * oxygenic))
    degree = np.zeros(count)
    edges = []
    for node in range(1, count):
        for _ in range(1 + (rng.random() < 1 / 3)):
            if rng.random() < share:
                source = int(rng.choice(node, p=(degree[:node] + 1) / (degree[:node] + 1).sum()))
            else:
                source = node - 1 - int(rng.integers(0, min(node, 2)))
            edges.append((source, node))
            degree[[source, node]] += 1
    families = np.eye(6)[rng.integers(0, 6, count)]
    amounts = np.stack([np.log1p(degree), np.zeros(count)], axis=1) + rng.normal(0, [0.3, 1], (count, 2))
    features = np.concatenate([families, amounts], axis=1).astype(np.float32)
    return Graph(features, np.array(sorted(set(edges)), dtype=np.int32))


def climate(warm: float, shape: tuple[int, int, int, int], rng: np.random.Generator) -> np.ndarray:
    """A cube (variables, levels, lat, lon) float32 whose planetary waves lean with height.

    Each variable falls from the equator to the poles and with height; on top is a wave
    around the planet, whose phase moves east with height on warm planets and west on cold
    ones. Its first phase, wave number and strength are anybody's guess.
    """
    variables, levels, lats, lons = shape
    height = np.arange(levels)[:, None, None] / levels
    lat = np.linspace(-np.pi / 2, np.pi / 2, lats)[None, :, None]
    lon = np.linspace(0, 2 * np.pi, lons, endpoint=False)[None, None, :]
    fields = []
    for _ in range(variables):
        number, phase, strength = rng.integers(1, 4), rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.2)
        mean = rng.normal(0, 0.5) + 0.15 * warm + np.cos(lat) - 1.5 * height
        wave = strength * np.cos(lat) * np.sin(number * lon - phase - 1.5 * warm * height)
        fields.append(mean + wave + 0.3 * rng.standard_normal((levels, lats, lons)))
    return np.stack(fields).astype(np.float32)


def vocabulary() -> list[str]:
    """Every word and sign that a description may hold, sorted."""
    words = {word for opening in _OPENINGS for word in opening.split()}
    return sorted({*_WET, *_DRY, *_BETWEEN, *_ADJECTIVES, *words, "a", "and", ",", "."})

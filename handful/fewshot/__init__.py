"""Few-shot learning: episodes, and prototypical networks (Snell et al. 2017)."""

from handful.fewshot.episodes import EpisodeSampler, split_classes
from handful.fewshot.prototypes import (
    Embedding,
    QueryScores,
    SupportScores,
    contrast,
    episode_scores,
    prototype_scores,
)

__all__ = [
    "Embedding",
    "EpisodeSampler",
    "QueryScores",
    "SupportScores",
    "contrast",
    "episode_scores",
    "prototype_scores",
    "split_classes",
]

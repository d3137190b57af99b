"""Prototypical networks (Snell et al. 2017): classes are the means of a few embedded images."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from handful.networks import backbone as backbones


class Embedding(nn.Module):
    """A backbone whose maps become one vector.

    Args:
        backbone: images `(B, 3, H, W)` → maps `(B, F, h, w)`.
        pooling: `mean` over space gives `F` numbers; `flatten` keeps the positions, `F · h · w` numbers (usual for
            Conv-4: 1600 of an 84×84 image).

    Example:
        >>> from handful.networks.build import build_backbone
        >>> backbone = build_backbone({"backbone": "conv4", "options": {"width": 4}})
        >>> Embedding(backbone, "flatten")(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 16])
    """

    def __init__(self, backbone: nn.Module, pooling: Literal["mean", "flatten"] = "mean") -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling

    def feature_maps(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → maps `(B, F, h, w)`."""
        return backbones.feature_maps(self.backbone, images)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → embeddings `(B, D)`."""
        maps = self.feature_maps(images)
        return maps.mean((2, 3)) if self.pooling == "mean" else maps.flatten(1)


def prototypes(support: Tensor) -> Tensor:
    """Class means: embedded support images `(way, shot, D)` → `(way, D)`."""
    return support.mean(1)


def prototype_scores(queries: Tensor, means: Tensor) -> Tensor:
    """Scores of the classes, minus the squared Euclidean distance: `(Q, D)`, `(way, D)` → `(Q, way)`.

    In float32 whatever the embeddings' type: distances are small differences of large numbers.

    Example:
        >>> prototype_scores(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [1.0, 0.0]])).tolist()
        [[-25.0, -1.0]]
    """
    return -(queries.float()[:, None] - means.float()[None]).square().sum(-1)


def episode_scores(embeddings: Tensor, shot: int) -> tuple[Tensor, Tensor]:
    """Scores and labels of an episode's queries.

    Args:
        embeddings: `(way, shot + query, D)`, each class's support images first.
        shot: support images per class.

    Returns:
        scores `(way · query, way)` and labels `(way · query,)`, class by class.

    Example:
        >>> scores, labels = episode_scores(torch.tensor([[[0.0], [1.0]], [[9.0], [8.0]]]), shot=1)
        >>> scores.argmax(dim=1).tolist(), labels.tolist()
        ([0, 1], [0, 1])
    """
    way, images, _ = embeddings.shape
    queries = embeddings[:, shot:].flatten(0, 1)
    labels = torch.arange(way, device=embeddings.device).repeat_interleave(images - shot)
    return prototype_scores(queries, prototypes(embeddings[:, :shot])), labels


class QueryScores(nn.Module):
    """An episode as a classifier of query images, for any attribution method: fixed prototypes, class scores.

    Args:
        embedding: images → embeddings.
        means: prototypes `(way, D)`.

    Example:
        >>> QueryScores(nn.Flatten(), torch.zeros(2, 12))(torch.ones(1, 3, 2, 2)).tolist()
        [[-12.0, -12.0]]
    """

    means: Tensor

    def __init__(self, embedding: nn.Module, means: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("means", means.detach())

    def forward(self, images: Tensor) -> Tensor:
        """Query images `(B, 3, H, W)` → scores `(B, way)`."""
        return prototype_scores(self.embedding(images), self.means)


class SupportScores(nn.Module):
    """How one class's support image moves a fixed query's scores, for any attribution method.

    Args:
        embedding: images → embeddings.
        query: embedded query `(D,)`.
        support: embedded support images `(way, shot, D)`.
        way: the class whose image is looked at.
        place: which of its support images.

    Example:
        >>> scores = SupportScores(nn.Flatten(), torch.zeros(12), torch.zeros(2, 1, 12), way=0)
        >>> scores(torch.ones(1, 3, 2, 2)).abs().tolist()
        [[12.0, 0.0]]
    """

    query: Tensor
    support: Tensor

    def __init__(self, embedding: nn.Module, query: Tensor, support: Tensor, way: int, place: int = 0) -> None:
        super().__init__()
        self.embedding = embedding
        self.register_buffer("query", query.detach())
        self.register_buffer("support", support.detach())
        self.way = way
        self.place = place

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` instead of the support image → the query's scores `(B, way)`."""
        support = self.support.expand(len(images), *self.support.shape).clone()
        support[:, self.way, self.place] = self.embedding(images)
        means = support.mean(2)
        return -(self.query.float() - means.float()).square().sum(-1)


def contrast(winner: int, runner_up: int) -> Callable[[Tensor], Tensor]:
    """Target function for attribution: the winner's score less the runner-up's.

    Squared distances share the query's norm, which says nothing about the classes; it cancels here.

    Example:
        >>> contrast(0, 1)(torch.tensor([[5.0, 2.0]])).tolist()
        [3.0]
    """

    def score(scores: Tensor) -> Tensor:
        return scores[:, winner] - scores[:, runner_up]

    return score

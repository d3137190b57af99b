"""Prototypical networks: classes distinguished by one or five images each."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from handful.errors import UserError
from handful.fewshot.episodes import EpisodeSampler
from handful.fewshot.prototypes import Embedding, episode_scores
from handful.metrics.episodes import EpisodeAccuracy
from handful.networks import Classifier, NetworkConfig, build_classifier, load_weights
from handful.networks.build import build_backbone
from handful.networks.weights import name_of_weights
from handful.ranks import interleave, share
from lightning_modules.published import take_published
from lightning_modules.schedules import Interval, check_optimizer, configured
from lightning_modules.trained_module import TrainedModule

#: Test episodes are of another seed than training ones, and the same for every run.
_EVALUATION_SEED = 7_000_000


def adam(params: Any) -> torch.optim.Optimizer:
    """Adam with a learning rate of 0.001, as in few-shot learning throughout."""
    return torch.optim.Adam(params, lr=1e-3)


class EpisodeTester:
    """Embeds every image once and tells the accuracy over many episodes, exactly over ranks.

    Args:
        way: classes an episode.
        query: query images per class.
        episodes: number of episodes.
        seed: of the episodes.
    """

    def __init__(self, way: int, query: int, episodes: int, seed: int = _EVALUATION_SEED) -> None:
        self.way, self.query, self.episodes, self.seed = way, query, episodes, seed
        self._kept: list[tuple[Tensor, Tensor]] = []

    def add(self, embeddings: Tensor, labels: Tensor) -> None:
        """Keep a batch of this rank's embeddings `(B, D)` and labels `(B,)`."""
        self._kept.append((embeddings.detach().float().cpu(), labels.cpu()))

    def accuracy(self, shots: Sequence[int], device: torch.device) -> dict[int, tuple[float, float]]:
        """Accuracy and half its 95 % interval in per cent, by number of support images; all ranks must ask.

        Classes with too few images for an episode are left out.

        Raises:
            UserError: too few classes are left.
        """
        embeddings, labels = _in_order(self._kept)
        self._kept = []
        rank, world = (
            (torch.distributed.get_rank(), torch.distributed.get_world_size())
            if torch.distributed.is_available() and torch.distributed.is_initialized()
            else (0, 1)
        )
        results = {}
        for shot in shots:
            sampler = EpisodeSampler(
                labels, way=self.way, shot=shot, query=self.query, episodes=self.episodes, seed=self.seed
            )
            metric = EpisodeAccuracy().to(device)
            for episode in share(self.episodes, rank, world):
                chosen = embeddings[sampler.draw(episode)].view(self.way, shot + self.query, -1)
                metric.update(*(value.to(device) for value in episode_scores(chosen, shot)))
            found = metric.compute()
            results[shot] = (float(found["accuracy"]), float(found["interval"]))
        return results


def _in_order(kept: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All ranks' embeddings and labels, in the order of the data set."""
    own = (torch.cat([e for e, _ in kept]), torch.cat([y for _, y in kept])) if kept else None
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        if own is None:
            raise UserError("there are no images to make episodes of")
        return own
    world = torch.distributed.get_world_size()
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, own)
    present = [part for part in parts if part is not None]
    if not present:
        raise UserError("there are no images to make episodes of")
    nothing = (present[0][0][:0], present[0][1][:0])
    complete = [nothing if part is None else part for part in parts]
    size = sum(len(labels) for _, labels in present)
    return interleave([e for e, _ in complete], size), interleave([y for _, y in complete], size)


class Prototypical(TrainedModule):
    """A prototypical network on any backbone, trained on episodes; needs the data module `Episodes`.

    Args:
        network: the network in plain values.
        temperature: scores are divided by it in training; distances of long embeddings are large, and a short training
            gets on faster with them smaller. Which class is nearest does not change.
        pooling: `flatten` keeps the places of the last maps (usual for Conv-4), `mean` averages over them.
        way: classes of an episode; the data's.
        shot: support images per class; the data's.
        query: query images per class in evaluation.
        val_episodes: validation episodes after each epoch.
        test_episodes: test episodes.
        test_shots: support images per class in the test.
        init_from: a file of weights to start from.
        optimizer: factory of the optimizer.
        lr_scheduler: factory of the schedule.
        lr_scheduler_interval: `epoch` or `step`; None follows the schedule.

    Source: Snell et al. 2017 (arXiv 1703.05175), with squared Euclidean distances.
    """

    shared = frozenset({"network", "init_from"})
    leaves = frozenset({"a network"})
    tested_after_training = True

    def __init__(
        self,
        network: dict[str, Any] | NetworkConfig,
        pooling: Literal["mean", "flatten"] = "flatten",
        temperature: float = 1.0,
        way: int = 5,
        shot: int = 1,
        query: int = 15,
        val_episodes: int = 200,
        test_episodes: int = 600,
        test_shots: Sequence[int] = (1, 5),
        init_from: str | None = None,
        optimizer: OptimizerCallable = adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Interval | None = None,
    ) -> None:
        super().__init__()
        self.network = NetworkConfig.of(network)
        self.save_hyperparameters(
            {
                "network": self.network.plain(),
                "pooling": pooling,
                "temperature": temperature,
                "way": way,
                "shot": shot,
                "query": query,
                "val_episodes": val_episodes,
                "test_episodes": test_episodes,
                "test_shots": list(test_shots),
            },
            logger=False,
        )
        self.way, self.shot, self.test_shots = way, shot, list(test_shots)
        self.init_from = init_from
        self.optimizer_factory = optimizer
        self.scheduler_factory = lr_scheduler
        self.scheduler_interval = lr_scheduler_interval
        self.model = Embedding(build_backbone(self.network), pooling)
        self.val_episodes = EpisodeTester(way, query, val_episodes, _EVALUATION_SEED + 1)
        self.test_episodes = EpisodeTester(way, query, test_episodes)
        self.results: dict[str, float] = {}

    def check(self, classifier: Classifier) -> None:
        """Anything with a spatial map will do, with an optimizer and a schedule that can be built."""
        check_optimizer(self.optimizer_factory, self.scheduler_factory, self.scheduler_interval)

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Start from `init_from`, else from pretrained weights, else fresh; from neither where training resumes."""
        if self.resumed_from is not None:
            return
        file = self.init_from or (self.network.pretrained if isinstance(self.network.pretrained, str) else None)
        if file is not None:
            self.started_from = name_of_weights(file)
            holder = build_classifier(self.network, 2)
            load_weights(holder, file, head=False)
            self.model.backbone.load_state_dict(holder.backbone.state_dict())
        elif self.network.pretrained:
            take_published(self, self.model.backbone, self.network)

    @property
    def measures(self) -> Collection[str]:
        """Of the training's episodes and of those of validation."""
        return {"train/loss", "train/accuracy", "val/accuracy", "val/interval"}

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → embeddings `(B, D)`."""
        return self.model(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of an episode's queries."""
        scores, labels = scores_of_episode(self.model(batch[0]), self.way, self.shot)
        loss = functional.cross_entropy(scores / self.hparams["temperature"], labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=1)
        self.log("train/accuracy", 100 * (scores.argmax(1) == labels).float().mean(), prog_bar=True, batch_size=1)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Embed images of validation classes."""
        self.val_episodes.add(self.model(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        """Accuracy over the validation episodes."""
        accuracy, interval = self.val_episodes.accuracy([self.shot], self.device)[self.shot]
        self.log("val/accuracy", accuracy, prog_bar=True)
        self.log("val/interval", interval)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Embed images of novel classes."""
        self.test_episodes.add(self.model(batch[0]), batch[1])

    def on_test_epoch_end(self) -> None:
        """Accuracy over the test episodes for every number of support images."""
        self.results = {}
        for shot, (accuracy, interval) in self.test_episodes.accuracy(self.test_shots, self.device).items():
            self.results |= {f"accuracy_{shot}_shot": accuracy, f"interval_{shot}_shot": interval}
        for name, value in self.results.items():
            self.log(f"test/{name}", value)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """All parameters."""
        parameters = self.model.parameters()
        return configured(self, parameters, self.optimizer_factory, self.scheduler_factory, self.scheduler_interval)


def scores_of_episode(embeddings: Tensor, way: int, shot: int) -> tuple[Tensor, Tensor]:
    """Scores `(Q, way)` and labels `(Q,)` of the queries of an episode batch, embedded `(way · (shot + query), D)`.

    Raises:
        UserError: the batch is not an episode.
    """
    if len(embeddings) % way or len(embeddings) // way <= shot:
        raise UserError(f"a batch of {len(embeddings)} images is no {way}-way {shot}-shot episode; use data Episodes")
    return episode_scores(embeddings.view(way, len(embeddings) // way, -1), shot)

"""Few-shot episodes, and which classes they are drawn from."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from handful.conversions import as_labels
from handful.errors import UserError


class EpisodeSampler:
    """Draw episodes: `way` classes, and of each `shot + query` images.

    Episode e of an epoch depends on `seed + epoch` and e alone, and process r of w takes the episodes r, r + w and
    so on: the same episodes for any number of processes. An episode is class by class, support images first.
    Iterating, all processes get equally many (training needs it; what is left over is dropped).

    Args:
        labels: `(N,)`, class of every image.
        way: classes per episode.
        shot: support images per class.
        query: query images per class.
        episodes: episodes per epoch, over all processes.
        seed: of the first epoch.
        rank: number of this process.
        world_size: number of processes.

    Raises:
        UserError: too few classes with enough images.

    Example:
        >>> sampler = EpisodeSampler([0, 0, 1, 1, 2, 2], way=2, shot=1, query=1, episodes=3)
        >>> [len(images) for images in sampler]
        [4, 4, 4]
    """

    def __init__(
        self,
        labels: Sequence[int] | Tensor,
        *,
        way: int = 5,
        shot: int = 1,
        query: int = 15,
        episodes: int = 600,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        classes = as_labels(labels)
        needed = shot + query
        groups = [torch.nonzero(classes == label)[:, 0] for label in classes.unique(sorted=True)]
        self.groups = [group for group in groups if len(group) >= needed]
        if len(self.groups) < way:
            raise UserError(
                f"an episode of {way} classes with {shot} + {query} images each cannot be drawn: "
                f"{len(self.groups)} classes have {needed} images; lower way, shot or query"
            )
        self.way, self.shot, self.query = way, shot, query
        self.episodes = episodes
        self.seed = seed
        self.epoch = 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose episodes are drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Episodes per epoch of this process."""
        return self.episodes // self.world_size

    def __iter__(self) -> Iterator[list[int]]:
        for turn in range(len(self)):
            yield self.draw(turn * self.world_size + self.rank)

    def draw(self, episode: int) -> list[int]:
        """Images of one episode, `way · (shot + query)` indices."""
        generator = torch.Generator().manual_seed((self.seed + self.epoch) * 1_000_003 + episode)
        chosen = torch.randperm(len(self.groups), generator=generator)[: self.way]
        images: list[int] = []
        for group in chosen.tolist():
            members = self.groups[group]
            picks = torch.randperm(len(members), generator=generator)[: self.shot + self.query]
            images += members[picks].tolist()
        return images


def split_classes(
    names: Sequence[str], seed: int = 0, fractions: tuple[float, float, float] = (0.64, 0.16, 0.2)
) -> dict[str, list[int]]:
    """Which classes are for training (`base`), for choosing (`val`) and for testing (`novel`); disjoint.

    All 200 classes of CUB, in the order of their numbers, follow the field's rule (Chen et al. 2019): every second
    class is base, the rest alternate between val and novel. Any other data set is shuffled by the seed.

    Args:
        names: class names.
        seed: of the shuffle.
        fractions: shares of base, val and novel; novel gets what rounding leaves.

    Raises:
        UserError: fewer than three classes.

    Example:
        >>> {part: len(classes) for part, classes in split_classes([f"bird {i}" for i in range(10)]).items()}
        {'base': 6, 'val': 2, 'novel': 2}
    """
    count = len(names)
    if count < 3:
        raise UserError(f"base, val and novel classes need at least three classes; the data has {count}")
    numbered = [name.split(".")[0] for name in names]
    if count == 200 and numbered == [f"{number:03d}" for number in range(1, 201)]:
        classes = range(200)
        return {
            "base": [i for i in classes if i % 2 == 0],
            "val": [i for i in classes if i % 4 == 1],
            "novel": [i for i in classes if i % 4 == 3],
        }
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    base = max(1, round(fractions[0] * count))
    val = max(1, round(fractions[1] * count))
    base = min(base, count - val - 1)
    return {
        "base": sorted(order[:base]),
        "val": sorted(order[base : base + val]),
        "novel": sorted(order[base + val :]),
    }

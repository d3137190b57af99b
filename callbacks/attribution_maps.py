"""Attribution maps of the same images after every epoch, on any number of processes; training is not affected."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from lightning.pytorch.utilities.types import STEP_OUTPUT
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from callbacks.ranks import gather_objects
from callbacks.records import epoch_file, log_image, save_file
from handful.attribution import Attribution, Contributions, attribute, contributions, get
from handful.attribution.targets import Targets
from handful.errors import UserError
from handful.networks import Classifier
from handful.ranks import dataset_indices
from handful.report.attribution_sheets import features_sheet, method_sheet
from handful.report.log_and_skip import attempt
from handful.report.overlays import denormalise
from lightning_modules.trainer_data import LabelledImages, TrainerData, labels_of, loaded_images, names_of_classes

#: Images that are explained together. Fixed, so that an image's neighbours, and with them the last bits of its maps,
#: do not depend on the number of processes.
GROUP = 4

#: Name under which the features of the predicted class are drawn.
FEATURES = "features"


@dataclass(frozen=True)
class _Group:
    """The results of one group of images: an attribution or an error, by method."""

    maps: Mapping[str, Attribution | str]
    features: Contributions | str | None


class AttributionMaps(pl.Callback):
    """Draw what the model looks at, for the same images after every epoch.

    Writes `attribution/epoch_NNN.npz` with the raw maps (`<method>/raw`, float32, and `targets`, `scores`,
    `probabilities`, `completeness`) and one picture per method, `attribution/<method>/epoch_NNN.png`, which also goes
    to every logger that takes pictures. With `"cam"` and a head that weighs few features, the features of the
    predicted class are drawn as well, each with its contribution to the logit. Logs `attribution/seconds`.

    Runs at the end of validation and test loops on the loop's own data set; where there are no validation images, after
    every epoch of training on the training images, not augmented. Where several stages are tested, each has a folder of
    its own, `attribution_test/<stage>`. Training is not affected: parameters, buffers, `.grad`, `training` flags, hooks
    and random states stay as they are, and a run ends with the same weights, bit for bit, as without the callback. Each
    process explains its share of the images; the arrays do not depend on the number of processes.

    Args:
        methods: names of `handful.attribution.names()`.
        images: how many, or their dataset indices.
        choose: where a number is given: `"classes"` takes the first images of every class in turn, `"worst"` those
            with the highest loss in the first validation epoch.
        target: `"pred"`, `"label"` or a class number; see `handful.attribution.attribute`.
        every_n_epochs: epochs between two drawings in training; the last epoch is drawn in any case, also where
            training ends before `max_epochs`.
        options: by method, further arguments of `attribute`: `{"gradcam": {"layer": "backbone.layer2"}}`.
        features: how many features of the predicted class are drawn at most.
        strict: whether a failing map ends training; otherwise it is logged and skipped.
        seed: of the methods that draw random numbers.

    Raises:
        UserError: an unknown method or target, a number out of range, an image or a class that does not exist; where
            `strict`, a map that fails.
    """

    def __init__(
        self,
        methods: Sequence[str] = ("gradient", "gradcam"),
        images: int | list[int] = 16,
        choose: Literal["classes", "worst"] = "classes",
        target: str | int = "pred",
        every_n_epochs: int = 1,
        options: dict[str, dict[str, Any]] | None = None,
        features: int = 5,
        strict: bool = False,
        seed: int = 0,
    ) -> None:
        Targets(target, 1, torch.zeros(1, dtype=torch.int64))
        for name in (*methods, *(options or {})):
            get(name)
        if not methods:
            raise UserError("AttributionMaps.methods: name at least one method")
        if every_n_epochs < 1 or features < 1 or images == [] or (isinstance(images, int) and images < 1):
            raise UserError("AttributionMaps: images, features and every_n_epochs must be at least 1")
        if choose not in ("classes", "worst"):
            raise UserError(f"AttributionMaps.choose: give classes or worst, not {choose!r}")
        self.methods = list(methods)
        self.images = images
        self.choose = choose
        self.target = target
        self.every_n_epochs = every_n_epochs
        self.options = options or {}
        self.features = features
        self.strict = strict
        self.seed = seed
        self.places: dict[str, list[int]] = {}
        self._losses: list[tuple[float, int]] = []
        self._seen = 0
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}
        self._drawn = -1

    def state_dict(self) -> dict[str, Any]:
        """Return the chosen images, so that a resumed run draws the same ones, and the epoch drawn last."""
        return {"places": self.places, "drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the chosen images and the epoch drawn last."""
        self.places = dict(state_dict["places"])
        self._drawn = state_dict.get("drawn", -1)

    # Which images

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse images and classes that do not exist before anything is trained."""
        data = TrainerData(trainer)
        classes = data.num_classes
        if isinstance(self.target, int) and classes is not None and not 0 <= self.target < classes:
            raise UserError(f"AttributionMaps.target: no class {self.target}; they are 0 to {classes - 1}")
        if isinstance(self.images, list) and data.watched is not None:
            self._choose(trainer, data.watched)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discard the losses of the previous loop."""
        self._losses, self._seen = [], 0

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discard the losses of the previous loop."""
        self._losses, self._seen = [], 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the losses while the worst images are still to be chosen."""
        if "attribution" not in self.places and dataloader_idx == 0:
            self._collect_losses(trainer, outputs)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the losses while the worst images are still to be chosen."""
        if _test_folder(pl_module) not in self.places and dataloader_idx == 0:
            self._collect_losses(trainer, outputs)

    def _collect_losses(self, trainer: pl.Trainer, outputs: STEP_OUTPUT) -> None:
        if self.choose != "worst" or not isinstance(self.images, int):
            return
        if isinstance(outputs, Mapping) and "logits" in outputs and "labels" in outputs:
            losses = functional.cross_entropy(outputs["logits"].float(), outputs["labels"], reduction="none").tolist()
            indices = dataset_indices(self._seen, len(losses), trainer.global_rank, trainer.world_size)
            self._losses = sorted([*self._losses, *zip(losses, indices, strict=True)], key=_worst)[: self.images]
            self._seen += len(losses)

    def _choose(self, trainer: pl.Trainer, dataset: LabelledImages) -> list[int]:
        size = len(dataset)
        if isinstance(self.images, list):
            missing = [place for place in self.images if not 0 <= place < size]
            if missing:
                raise UserError(f"AttributionMaps.images: no image {missing[0]}; they are 0 to {size - 1}")
            return list(self.images)
        if self.choose == "worst":
            every = sorted(set().union(*gather_objects(trainer, self._losses)), key=_worst)
            if every:
                return [place for _, place in every[: self.images]]
        labels = labels_of(dataset)
        if labels is None:
            return [place * size // min(self.images, size) for place in range(min(self.images, size))]
        return _by_class(labels, self.images)

    # When

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw training images where there are no validation images."""
        data = TrainerData(trainer)
        if not data.validates and self._is_due(trainer):
            self._draw(trainer, pl_module, "attribution", data.watched)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw; in training, every n-th epoch and the last."""
        if not trainer.sanity_checking and (trainer.state.fn != "fit" or self._is_due(trainer)):
            self._draw(trainer, pl_module, "attribution", loaded_images(trainer.val_dataloaders))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the last epoch of a training that ended before its time, as by `EarlyStopping` or `max_steps`."""
        data, last = TrainerData(trainer), trainer.current_epoch - 1  # which is counted by now
        if last < 0 or last == self._drawn or trainer.sanity_checking:
            return
        dataset = loaded_images(trainer.val_dataloaders) if data.validates else data.watched
        progress = trainer.fit_loop.epoch_progress.current
        progress.completed = last
        try:
            with _averaged(trainer, pl_module) if data.validates else nullcontext():
                self._draw(trainer, pl_module, "attribution", dataset, logs=False)
        finally:
            progress.completed = last + 1

    def _is_due(self, trainer: pl.Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        return epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw."""
        self._draw(trainer, pl_module, _test_folder(pl_module), loaded_images(trainer.test_dataloaders))

    # What

    def _draw(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        folder: str,
        dataset: LabelledImages | None,
        logs: bool = True,
    ) -> None:
        started = time.perf_counter()
        if trainer.state.fn == "fit":
            self._drawn = trainer.current_epoch
        if dataset is None:
            rank_zero_warn("AttributionMaps: the loader has no data set to take images from, so nothing is drawn")
            return
        with isolate_rng():
            if folder not in self.places:
                self.places[folder] = self._choose(trainer, dataset)
            try:
                mine = self._explain(trainer, pl_module, self.places[folder], *self._items(folder, dataset))
            except Exception as error:
                mine = {-1 - trainer.global_rank: _Group(dict.fromkeys(self.methods, _sentence(error)), None)}
            groups: dict[int, _Group] = {}
            for share in gather_objects(trainer, mine):
                groups |= share
            self._report_failures(groups)
            failure = ""
            if trainer.is_global_zero and min(groups) == 0:
                failure = self._write(
                    trainer, folder, [groups[number] for number in sorted(groups)], *self._items(folder, dataset)
                )
            # all processes stop, or none does
            if self.strict and (failures := "".join(gather_objects(trainer, failure))):
                raise UserError(failures)
        if logs:
            pl_module.log("attribution/seconds", time.perf_counter() - started, sync_dist=False)

    def _items(self, folder: str, dataset: LabelledImages) -> tuple[Tensor, Tensor]:
        """Return the images and labels, which are fetched once."""
        if folder not in self._kept:
            items = [dataset[place] for place in self.places[folder]]
            images, labels = torch.stack([item[0] for item in items]), [int(item[1]) for item in items]
            self._kept[folder] = images, torch.tensor(labels)
        return self._kept[folder]

    def _explain(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, places: list[int], images: Tensor, labels: Tensor
    ) -> dict[int, _Group]:
        """Explain this process's share of the groups."""
        inner = getattr(pl_module, "model", None)
        model = inner if isinstance(inner, nn.Module) else pl_module
        normalisation = TrainerData(trainer).statistics
        result = {}
        for number in range(trainer.global_rank, -(-len(images) // GROUP), trainer.world_size):
            part = slice(number * GROUP, (number + 1) * GROUP)
            batch, truth = images[part].to(pl_module.device), labels[part].to(pl_module.device)
            maps: dict[str, Attribution | str] = {}
            for method in self.methods:
                request = {"normalisation": normalisation, **self.options.get(method, {})}
                try:
                    maps[method] = attribute(
                        model, batch, self.target, method=method, labels=truth, seed=self.seed,
                        image_ids=places[part], **request,
                    ).cpu()  # fmt: skip
                except Exception as error:
                    maps[method] = _sentence(error)
            features: Contributions | str | None = None
            if "cam" in self.methods and _is_sparse(model):
                try:
                    features = contributions(model, batch).cpu()
                except Exception as error:
                    features = _sentence(error)
            result[number] = _Group(maps, features)
        return result

    def _report_failures(self, groups: Mapping[int, _Group]) -> None:
        """Warn of maps that failed, or raise where `strict`; all processes do the same."""
        failed = {
            name: found
            for group in groups.values()
            for name, found in (*group.maps.items(), (FEATURES, group.features))
            if isinstance(found, str)
        }
        if failed and self.strict:
            raise UserError("; ".join(f"attribution by {name} failed: {why}" for name, why in failed.items()))
        for name, why in failed.items():
            rank_zero_warn(f"AttributionMaps: {name} failed and is skipped in this epoch: {why}")

    def _write(
        self, trainer: pl.Trainer, folder: str, groups: Sequence[_Group], images: Tensor, labels: Tensor
    ) -> str:
        """Write files and log, on rank zero; one thing that fails costs no other.

        Returns:
            The files that could not be written, in one sentence; empty where all were.
        """
        places = self.places[folder]
        names = _class_names(trainer, int(labels.max()) + 1, groups)
        mean, std = TrainerData(trainer).statistics or (None, None)
        seen = denormalise(images, mean, std)
        sheets: dict[str, Callable[[], Image.Image]] = {}
        titles = [f"{place}: {names[label]}" for place, label in zip(places, labels.tolist(), strict=True)]
        arrays: dict[str, Any] = {"places": np.array(places), "labels": labels.numpy()}
        for method in self.methods:
            parts = [group.maps[method] for group in groups]
            whole = [part for part in parts if isinstance(part, Attribution)]
            if len(whole) < len(parts):
                continue
            found = Attribution.concat(whole)
            arrays |= _arrays(method, found)
            if found.raw.ndim - (found.reduction != "none") == 3:  # several targets per image are kept, not drawn
                sheets[method] = partial(method_sheet, seen, found, names, titles)
        features = [group.features for group in groups if isinstance(group.features, Contributions)]
        if features and len(features) == len(groups):
            joined = Contributions.concat(features)
            arrays |= {f"{FEATURES}/classes": joined.classes.numpy(), f"{FEATURES}/values": joined.values.numpy()}
            sheets[FEATURES] = partial(features_sheet, seen, joined, names, titles, self.features)
        failed = []
        path = epoch_file(trainer, folder, ".npz")
        if save_file(trainer, path, lambda file: np.savez(file, **arrays)) is None:
            failed.append(path.name)
        for name, draw in sheets.items():
            drawn = attempt(trainer, f"AttributionMaps: the picture of {name}", draw)
            if drawn is None or log_image(trainer, f"{folder}/{name}", drawn) is None:
                failed.append(name)
        return f"AttributionMaps: could not be written: {', '.join(failed)}; the warnings say why" if failed else ""


@contextmanager
def _averaged(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
    """Within, the model has the averaged weights that validation sees, where weights are averaged."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    averages = [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
    for average in averages:
        average.on_validation_epoch_start(trainer, pl_module)
    try:
        yield
    finally:
        for average in reversed(averages):
            average.on_validation_epoch_end(trainer, pl_module)


def _arrays(method: str, found: Attribution) -> dict[str, Any]:
    kept = {
        "raw": found.raw,
        "targets": found.targets,
        "scores": found.scores,
        "probabilities": found.probabilities,
        "completeness": found.completeness,
    }
    return {f"{method}/{name}": value.numpy() for name, value in kept.items() if value is not None}


def _worst(pair: tuple[float, int]) -> tuple[float, int]:
    return -pair[0], pair[1]


def _by_class(labels: Tensor, count: int) -> list[int]:
    """The first image of every class, then the second of every class, … until there are `count`."""
    turns: dict[int, int] = {}
    keyed = []
    for place, label in enumerate(labels.tolist()):
        keyed.append((turns.get(label, 0), label, place))
        turns[label] = turns.get(label, 0) + 1
    return [place for _, _, place in sorted(keyed)[:count]]


def _test_folder(pl_module: pl.LightningModule) -> str:
    stage = getattr(pl_module, "stage", "")
    return f"attribution_test/{stage}" if stage else "attribution_test"


def _class_names(trainer: pl.Trainer, at_least: int, groups: Sequence[_Group]) -> list[str]:
    """Names of the data's classes, and numbers for further outputs of the model, as an embedding has them."""
    outputs = [found.logits.shape[1] for g in groups for found in g.maps.values() if isinstance(found, Attribution)]
    count = max([at_least, *outputs])
    names = names_of_classes(trainer, count)
    return [*names, *(f"output {number}" for number in range(len(names), count))]


def _is_sparse(model: nn.Module) -> bool:
    """Whether the classes weigh only some of the features."""
    if not isinstance(model, Classifier):
        return False
    return model.head.features_per_class < model.num_features


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]

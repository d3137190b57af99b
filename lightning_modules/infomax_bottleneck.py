"""The InfoMax / information-bottleneck plug-in as a phase after any trained network."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional

from handful.bottleneck import InfoMaxBottleneck, InformedClassifier, NoiseBottleneck, Terms, Weights
from handful.bottleneck.infomax import Estimator
from handful.bottleneck.infomax_bottleneck import HeadKind
from handful.bottleneck.noise import NoiseKind
from handful.bottleneck.noise_bottleneck import BITS
from handful.errors import UserError
from handful.metrics import Mean
from handful.metrics.localisation import area_above_half
from handful.networks import Classifier
from handful.ranks import dataset_indices, share
from lightning_modules.checkpoints import load_module
from lightning_modules.prototypical import EpisodeTester, Prototypical, scores_of_episode
from lightning_modules.schedules import Interval, check_optimizer, configured
from lightning_modules.trained_module import Input, TrainedModule, folder_of

#: Layers that are stages of a backbone, by name.
_STAGE = re.compile(r"(^|\.)(layer|stages\.|features\.denseblock)\d+$")


def adam(params: Any) -> torch.optim.Optimizer:
    """Adam with a learning rate of 0.001."""
    return torch.optim.Adam(params, lr=1e-3)


class InfoMaxPlugin(TrainedModule):
    """Train the plug-in on the network of an earlier phase: a classifier or a prototypical network's embedding.

    The base stays bit-identical unless `finetune`. Before training, one pass over (un-augmented) training images
    gathers the features' statistics and the reference bank, over all ranks. After it, the test images are measured;
    results and the checkpoint hold everything: the checkpoint alone draws the maps.

    Choose `best.ckpt` by `val/loss`, the objective with full pressure: by accuracy the first epoch wins, before
    noise has come in.

    Args:
        source: name of the phase whose network is looked into.
        source_checkpoint: which of its checkpoints; `epoch_NNN.ckpt` of the callback `KeepCheckpoints`, for instance.
        objective: `plugin`, or `readout` for the readout variant of IBA on the same parts: task loss and capacity,
            one noise share a channel.
        local_layer: layer whose features are the local representation; the first stage if None.
        readout_layers: layers the infer network reads; all stages if None.
        global_layer: layer whose spatial mean is the global representation; the network's output if None.
        head: `categorical` for class logits, `gaussian` for embeddings; None takes the one that fits.
        beta1: weight of InfoMax.
        beta2: weight of the information of noised features; 1 for class logits and 0.01 for embeddings if None.
        beta3: weight of the capacity; 0 is the patent's literal objective.
        explain: the task is to keep the clean `prediction` or to find the `label`.
        noise: `matched` to the features' statistics or `standard` normal.
        statistics: per `channel` or per `neuron`.
        share_per_channel: one noise share an element instead of one a place.
        smoothing: Gaussian blur of the noise logits, in cells.
        estimator: objective of the InfoMax critic.
        learnt_prior: fit the prior r(y); otherwise uniform or standard normal.
        units: length of the critic's encodings.
        hidden: hidden units of the bottleneck head.
        components: principal components that the Gaussian head predicts.
        places: places an image that InfoMax and the head see in a step.
        bank_size: locals in the reference bank.
        statistics_images: training images that statistics and bank are gathered from.
        warmup: share of the training in which the pressure of beta2 and beta3 grows to its full weight.
        samples: draws of noise averaged in maps and tests.
        seed: of the noise in maps and of the choice of images.
        image_size: side of the images; matters for statistics per neuron.
        finetune: train the network too.
        infer_lr: learning rate of the infer network, where it differs from the optimizer's.
        base: what the network was: filled in by the hand-over, so that the checkpoint alone rebuilds it.
        optimizer: factory of the optimizer.
        lr_scheduler: factory of the schedule.
        lr_scheduler_interval: `epoch` or `step`; None follows the schedule.
    """

    shared: ClassVar[frozenset[str]] = frozenset()
    leaves = frozenset({"a plug-in"})
    tested_after_training = True

    model: InformedClassifier | NoiseBottleneck
    depends_on_length: ClassVar[str] = "lets the pressure grow over a share of all epochs"

    def __init__(
        self,
        source: str = "dense",
        source_checkpoint: str = "best.ckpt",
        objective: Literal["plugin", "readout"] = "plugin",
        local_layer: str | None = None,
        readout_layers: list[str] | None = None,
        global_layer: str | None = None,
        head: HeadKind | None = None,
        beta1: float = 1.0,
        beta2: float | None = None,
        beta3: float = 0.1,
        explain: Literal["prediction", "label"] = "prediction",
        noise: NoiseKind = "matched",
        statistics: Literal["channel", "neuron"] = "channel",
        share_per_channel: bool = False,
        smoothing: float = 0.0,
        estimator: Estimator = "infonce",
        learnt_prior: bool = True,
        units: int = 256,
        hidden: int = 128,
        components: int = 32,
        places: int = 64,
        bank_size: int = 4096,
        statistics_images: int = 10_000,
        warmup: float = 0.5,
        samples: int = 8,
        seed: int = 0,
        image_size: int = 64,
        finetune: bool = False,
        infer_lr: float | None = None,
        base: dict[str, Any] | None = None,
        optimizer: OptimizerCallable = adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Interval | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler", "lr_scheduler_interval"], logger=False)
        self.optimizer_factory = optimizer
        self.scheduler_factory = lr_scheduler
        self.scheduler_interval = lr_scheduler_interval
        self.results: dict[str, float] = {}
        self._episode: tuple[int, int, float] | None = None
        self._testers: dict[str, EpisodeTester] = {}
        self._measured = nn.ModuleDict()
        self._seen = 0
        if base is not None:
            self.build(TrainedModule.registered[base["module"]](**base["hyper_parameters"]))

    # -- the network looked into ----------------------------------------------------------------------------------

    def check(self, classifier: Classifier) -> None:
        """The layers must exist; where the source is not a classifier, that shows later."""
        rates = (self.hparams["infer_lr"], None)
        check_optimizer(self.optimizer_factory, self.scheduler_factory, self.scheduler_interval, rates)
        layers = [*([self.hparams["local_layer"]] if self.hparams["local_layer"] else [])]
        layers += self.hparams["readout_layers"] or []
        names = dict(classifier.named_modules())
        for layer in layers:
            if layer not in names:
                raise UserError(f"no layer '{layer}' in the network; its stages are {', '.join(stages(classifier))}")

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The phase whose network is looked into."""
        return (Input(self.hparams["source"], "a network"),)

    def take(self, earlier: Mapping[str, Path]) -> None:
        """Take the network of the `source` phase."""
        path = folder_of(earlier, self.hparams["source"]) / self.hparams["source_checkpoint"]
        module = load_module(path)
        if not isinstance(getattr(module, "model", None), nn.Module):
            raise UserError(f"{path}: holds no network to look into, but {type(module).__name__}")
        self.build(module)

    def build(self, module: TrainedModule) -> None:
        """Put the plug-in into a module's network."""
        h = self.hparams
        self.save_hyperparameters(
            {"base": {"module": type(module).__name__, "hyper_parameters": dict(module.hparams)}}, logger=False
        )
        network: nn.Module = module.model  # type: ignore[assignment]
        found = stages(network)
        if not found and (h["local_layer"] is None or h["readout_layers"] is None):
            raise UserError("the network's stages are not known by name; give local_layer and readout_layers")
        options: dict[str, Any] = {
            "local_layer": h["local_layer"] or found[0],
            "readout_layers": h["readout_layers"] or found,
            "image_size": h["image_size"],
            "global_layer": h["global_layer"],
            "share_per_channel": h["share_per_channel"] or h["objective"] == "readout",
            "noise": h["noise"],
            "statistics": h["statistics"],
            "smoothing": h["smoothing"],
            "finetune": h["finetune"],
        }
        if isinstance(module, Prototypical):
            self._episode = (module.way, module.shot, module.hparams["temperature"])
            for name in ("accuracy", "clean_accuracy"):
                self._testers[name] = EpisodeTester(
                    module.way, module.hparams["query"], module.hparams["test_episodes"]
                )
        if h["objective"] == "readout":
            plugin = NoiseBottleneck(network, **options)
        else:
            plugin = InfoMaxBottleneck(
                network,
                head=self.head,
                units=h["units"],
                hidden=h["hidden"],
                components=h["components"],
                places=h["places"],
                bank_size=h["bank_size"],
                estimator=h["estimator"],
                learnt_prior=h["learnt_prior"],
                **options,
            )
        self.model = InformedClassifier(plugin) if isinstance(network, Classifier) else plugin
        names = ["moved"] if self._episode else ["accuracy", "clean_accuracy"]
        if isinstance(plugin, InfoMaxBottleneck):
            names += ["general", "general_head", "sufficient", "redundant"]
            names += [f"{name}_area" for name in ("general", "general_head", "sufficient")]
        names += ["capacity", "keep", "loss"]
        # made at once and on every rank, also on one without images
        self._measured = nn.ModuleDict({name: Mean() for name in names})

    @property
    def plugin(self) -> NoiseBottleneck:
        """The plug-in; `model` is the classifier with it, or itself where the network is not a classifier."""
        return self.model.plugin if isinstance(self.model, InformedClassifier) else self.model

    @property
    def measures(self) -> Collection[str]:
        """The loss of training, and what any kind of plug-in measures in validation."""
        names = {*_MEASURED.values(), "accuracy", "clean_accuracy", "loss", "moved"}
        intervals = {"accuracy_interval", "clean_accuracy_interval"}
        return {"train/loss", *(f"val/{name}" for name in names | intervals)}

    @property
    def head(self) -> HeadKind:
        """Kind of the bottleneck head."""
        chosen: HeadKind | None = self.hparams["head"]
        return chosen or ("gaussian" if self._episode else "categorical")

    @property
    def weights(self) -> Weights:
        """Weights of the objective."""
        beta2 = self.hparams["beta2"]
        if beta2 is None:
            beta2 = 1.0 if self.head == "categorical" else 0.01
        return Weights(self.hparams["beta1"], beta2, self.hparams["beta3"])

    # -- training -------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Gather the features' statistics and the reference bank, unless a resumed checkpoint has them."""
        if self.plugin.local_statistics.ready:
            return
        dataset = self.trainer.datamodule.plain_train_dataset  # type: ignore[attr-defined]
        generator = torch.Generator().manual_seed(self.hparams["seed"])
        count = min(self.hparams["statistics_images"], len(dataset))
        ids = torch.randperm(len(dataset), generator=generator)[:count].sort().values
        mine = [int(ids[i]) for i in share(count, self.trainer.global_rank, self.trainer.world_size)]
        rank_zero_info(f"features' statistics from {count} training images")
        with torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(mine), 64):
                chosen = mine[start : start + 64]
                images = torch.stack([dataset[i][0] for i in chosen]).to(self.device)
                self.plugin.observe(images, chosen)
        self.plugin.finish_statistics()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Both passes, all terms."""
        images, labels = batch
        terms = self.plugin.terms(images, lambda noised, clean: self.task_loss(noised, clean, labels))
        total = self.hparams["warmup"] * float(self.trainer.estimated_stepping_batches)
        loss = self.plugin.objective(terms, self.weights, min(1.0, self.global_step / max(total, 1.0)))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        for name, value in _readable(terms).items():
            self.log(f"train/{name}", value, batch_size=len(images))
        return loss

    def task_loss(self, noised: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the noised pass with the label or the clean prediction; of an episode, with its queries."""
        if self._episode is not None:
            way, shot, temperature = self._episode
            scores, targets = scores_of_episode(noised, way, shot)
            if self.hparams["explain"] == "prediction":
                targets = scores_of_episode(clean, way, shot)[0].detach().argmax(1)
            return functional.cross_entropy(scores / temperature, targets)
        targets = labels if self.hparams["explain"] == "label" else clean.detach().argmax(1)
        return functional.cross_entropy(noised.float(), targets)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """All trainable parameters; those of the infer network in a group of their own where `infer_lr` is given."""
        infer = list(self.plugin.infer.parameters())
        known = {id(p) for p in infer}
        rest = [p for p in self.plugin.parameters() if p.requires_grad and id(p) not in known]
        rate = self.hparams["infer_lr"]
        groups: list[dict[str, Any]] = [{"params": infer} if rate is None else {"params": infer, "lr": rate}]
        if rest:
            groups.append({"params": rest})
        return configured(self, groups, self.optimizer_factory, self.scheduler_factory, self.scheduler_interval)

    # -- measuring ------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Start from nothing."""
        self._restart()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Objective with full pressure, and what the maps say on average."""
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Log, exact over ranks."""
        for name, value in self._row().items():
            self.log(f"val/{name}", value, prog_bar=name in ("accuracy", "loss"))

    def on_test_epoch_start(self) -> None:
        """Start from nothing."""
        self._restart()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """As in validation."""
        self._measure(batch)

    def on_test_epoch_end(self) -> None:
        """Log, exact over ranks; kept for `results.json`."""
        self.results = self._row()
        for name, value in self.results.items():
            self.log(f"test/{name}", value)

    def _restart(self) -> None:
        for metric in self._measured.values():
            metric.reset()  # type: ignore[operator]
        self._seen = 0

    def _row(self) -> dict[str, float]:
        """What was measured since the start; information in bits. All ranks must ask."""
        row = {}
        for name, tester in self._testers.items():
            row[name], row[f"{name}_interval"] = tester.accuracy([self._episode[1]], self.device)[self._episode[1]]  # type: ignore[index]
        measured = {_MEASURED.get(name, name): metric for name, metric in self._measured.items()}
        return row | {name: float(metric.compute()) for name, metric in measured.items()}  # type: ignore[operator]

    @torch.no_grad()
    def _measure(self, batch: tuple[Tensor, Tensor]) -> None:
        """Means over images, none of which depends on the batch, its size or the ranks."""
        images, labels = batch
        ids = dataset_indices(self._seen, len(images), self.trainer.global_rank, self.trainer.world_size)
        self._seen += len(images)
        samples, seed = self.hparams["samples"], self.hparams["seed"]
        with torch.autocast(self.device.type, enabled=False):
            reading = self.plugin.read(images.float())
            noised, clean = self.plugin.noised_outputs(reading, ids, samples=samples, seed=seed)
            maps = self.plugin.maps(reading, ids, samples=samples, seed=seed, resize=False)
        values = {name: value.mean((1, 2)) for name, value in maps.items()}
        if self._episode is None:
            targets = labels if self.hparams["explain"] == "label" else clean.argmax(1)
            losses = torch.stack([functional.cross_entropy(n, targets, reduction="none") for n in noised]).mean(0)
            values["accuracy"] = 100.0 * (noised.argmax(-1) == labels).float().mean(0)
            values["clean_accuracy"] = 100.0 * (clean.argmax(1) == labels).float()
        else:
            # outside an episode: how far noise moves the embedding, against the spread of embeddings
            losses = ((noised - clean) / self.plugin.global_statistics.std.to(clean)).square().mean((0, 2))
            values["moved"] = losses
            self._testers["accuracy"].add(noised[0], labels)
            self._testers["clean_accuracy"].add(clean, labels)
        pressure = self.weights.beta3 * values["capacity"] / BITS / self.plugin.local_features
        if "sufficient" in maps:
            pressure = pressure + self.weights.beta2 * values["sufficient"] / BITS
            for name in ("general", "general_head", "sufficient"):
                values[f"{name}_area"] = area_above_half(maps[name])
        values["loss"] = losses + pressure
        for name, metric in self._measured.items():
            metric.update(values[name])  # type: ignore[operator]


#: What measures are called in results where it differs from the map's name: means are in bits.
_MEASURED = {
    "keep": "kept_share",
    **{name: f"{name}_bits" for name in ("capacity", "general", "general_head", "sufficient", "redundant")},
    **{f"{name}_area": f"{name}_area_above_half" for name in ("general", "general_head", "sufficient")},
}


def stages(network: nn.Module) -> list[str]:
    """Names of a network's stages (`layer1`, `stages.0`, `features.denseblock1`, …), in order."""
    return [name for name, _ in network.named_modules() if _STAGE.search(name)]


def _readable(terms: Terms) -> dict[str, Tensor]:
    """Terms for the dashboard, information in bits."""
    values = {"task": terms.task, "capacity_bits": terms.capacity * BITS, "noise_share": terms.share}
    for name, value in (("infomax_bits", terms.infomax), ("sufficient_bits", terms.compression)):
        if value is not None:
            values[name] = value * BITS
    if terms.fit is not None:
        values["head_misfit"] = terms.fit
    return {name: value.detach() for name, value in values.items()}

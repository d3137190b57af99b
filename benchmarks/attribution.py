"""What attribution costs: against the fewest passes that could do it, against Captum and pytorch-grad-cam.

    python -m benchmarks.attribution [--cifar10 FOLDER]

All that is compared takes turns in one run on one thread; times are processor time, ratios medians over the turns
with their quartiles. `--cifar10`, a folder with `cifar10.zip`, adds what the callback costs in training (or set
HANDFUL_DATA).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum.attr
import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from benchmarks.tensor_memory import peak_tensor_bytes
from callbacks import AttributionMaps
from handful.attribution import attribute
from handful.attribution.methods.averaged_gradients import quadrature
from handful.networks import build_classifier
from pipelines.peak_memory import peak_memory_mib, reset_peak_memory

Work = Callable[[], object]

TITLE = "Attribution (`python -m benchmarks.attribution`)"
CLASSES = 10
CHUNK = 32


def measured(works: dict[str, Work], turns: int) -> dict[str, list[float]]:
    """Processor seconds of each, taking turns; the first turn warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            if turn:
                found[name].append(time.process_time() - started)
    return found


def ratio(some: list[float], of: list[float]) -> str:
    """Median and quartiles of the turns' ratios."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(some, of, strict=True)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def line(name: str, limit: str, works: dict[str, Work], turns: int) -> str:
    """A row of the table: milliseconds at the limit, and what the others take of it."""
    times = measured(works, turns)
    cells = [ratio(times[who], times["limit"]) if who in times else "–" for who in ("ours", "captum", "grad-cam")]
    text = f"| {name} | {limit} | {1000 * statistics.median(times['limit']):.0f} | " + " | ".join(cells) + " |"
    print(text, flush=True)
    return text


class Limits:
    """The fewest passes each method can do with, written out by hand on a frozen model in evaluation mode."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model, images

    def backward(self, batch: Tensor) -> Tensor:
        """Forward and backward to the batch."""
        batch = batch.detach().requires_grad_()
        return torch.autograd.grad(self.model(batch)[:, 0].sum(), batch)[0]

    def forward(self, batch: Tensor) -> Tensor:
        """Forward alone."""
        with torch.no_grad():
            return self.model(batch)

    def copies(self, count: int, work: Callable[[Tensor], Tensor]) -> None:
        """The work on `count` copies of every image, in chunks."""
        units = self.images.repeat_interleave(count, dim=0)
        for part in units.split(CHUNK):
            work(part)

    def smooth(self, count: int) -> None:
        """Gradients of noisy copies."""
        self.copies(count, lambda part: self.backward(part + torch.randn_like(part)))

    def integrated(self, steps: int) -> None:
        """Gradients between black and the image, weighted and summed."""
        alphas, weights = quadrature(steps)
        units = torch.arange(len(self.images) * steps)
        total = torch.zeros_like(self.images)
        for part in units.split(CHUNK):
            a = alphas[part % steps].float().reshape(-1, 1, 1, 1)
            found = self.backward(a * self.images[part // steps])
            total.index_add_(0, part // steps, found * weights[part % steps].float().reshape(-1, 1, 1, 1))

    def masked(self, count: int) -> None:
        """Forward passes of masked copies."""
        for part in self.images.repeat_interleave(count, dim=0).split(CHUNK):
            self.forward(part * (torch.rand(len(part), 1, 1, 1) < 0.5))

    def cut(self, targets: int) -> None:
        """Five backward passes of the part above layer3, one forward pass in all."""
        model: Any = self.model
        net = model.backbone.net
        with torch.no_grad():
            x = net.layer3(net.layer2(net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(self.images)))))))
        maps = x.detach().requires_grad_()
        logits = model.head(model.pool(net.layer4(maps.clone())))
        for target in range(targets):
            alpha = torch.autograd.grad(logits[:, target].sum(), maps, retain_graph=target < targets - 1)[0]
            (alpha.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(1).relu()


def methods(turns: int) -> list[str]:
    """Every method on ResNet-18, frozen, in evaluation mode."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    model = build_classifier({"backbone": "resnet18"}, CLASSES).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    net: Any = model.backbone.net
    four, eight = torch.randn(4, 3, 64, 64), torch.randn(8, 3, 96, 96)
    small, large = Limits(model, four), Limits(model, eight)
    label = 0

    def ours(images: Tensor, method: str, target: Any = label, **options: Any) -> Work:
        return lambda: attribute(model, images, target, method=method, chunk=CHUNK, **options)

    def grad_cam() -> None:  # needs parameters with gradients, or it fails
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        with GradCAM(model=model, target_layers=[net.layer4]) as cam:
            cam(input_tensor=eight, targets=[ClassifierOutputTarget(label)] * len(eight))
        for parameter in model.parameters():
            parameter.requires_grad_(False)

    def captum_five() -> None:
        layer = captum.attr.LayerGradCam(model, net.layer3)
        for target in range(5):
            layer.attribute(four, target, relu_attributions=True)

    def captum_lime() -> None:
        captum.attr.Lime(model).attribute(
            four, target=label, n_samples=64, perturbations_per_eval=CHUNK,
            feature_mask=torch.arange(16).reshape(4, 4).repeat_interleave(16, 0).repeat_interleave(16, 1)[None, None],
        )  # fmt: skip

    windows = 49
    occlusion = {"window": 16, "stride": 8}
    noise = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    rows = [
        line("gradient, 8 × 96 px", "1F + 1B", {
            "limit": lambda: large.backward(eight), "ours": ours(eight, "gradient"),
            "captum": lambda: captum.attr.Saliency(model).attribute(eight, label, abs=False),
        }, turns),
        line("guided backprop, 8 × 96 px", "1F + 1B", {
            "limit": lambda: large.backward(eight), "ours": ours(eight, "guided_backprop"),
        }, turns),
        line("SmoothGrad, 4 × 64 px, 32 samples", "32 (F + B)", {
            "limit": lambda: small.smooth(32), "ours": ours(four, "smoothgrad", samples=32),
            "captum": lambda: noise.attribute(
                four, nt_samples=32, nt_samples_batch_size=CHUNK // 4, stdevs=0.6, target=label, abs=False
            ),
        }, turns),
        line("integrated gradients, 4 × 64 px, 32 steps", "32 (F + B)", {
            "limit": lambda: small.integrated(32), "ours": ours(four, "integrated_gradients", steps=32),
            "captum": lambda: captum.attr.IntegratedGradients(model).attribute(
                four, target=label, n_steps=32, internal_batch_size=CHUNK
            ),
        }, turns),
        line("CAM, 8 × 96 px", "1F", {
            "limit": lambda: large.forward(eight), "ours": ours(eight, "cam"),
        }, turns),
        line("Grad-CAM, last maps, 8 × 96 px", "1F", {
            "limit": lambda: large.forward(eight), "ours": ours(eight, "gradcam"),
            "captum": lambda: captum.attr.LayerGradCam(model, net.layer4).attribute(eight, label),
            "grad-cam": grad_cam,
        }, turns),
        line("Grad-CAM, layer3, five targets, 4 × 64 px", "1F + 5b", {
            "limit": lambda: small.cut(5),
            "ours": ours(four, "gradcam", torch.arange(5).expand(4, 5), layer="backbone.net.layer3"),
            "captum": captum_five,
        }, turns),
        line(f"occlusion, 4 × 64 px, {windows} windows", f"{windows + 1}F", {
            "limit": lambda: small.masked(windows + 1), "ours": ours(four, "occlusion", **occlusion),
            "captum": lambda: captum.attr.Occlusion(model).attribute(four, (3, 16, 16), (3, 8, 8), target=label),
        }, turns),
        line("the same, Captum with several windows a pass", f"{windows + 1}F", {
            "limit": lambda: small.masked(windows + 1), "ours": ours(four, "occlusion", **occlusion),
            "captum": lambda: captum.attr.Occlusion(model).attribute(
                four, (3, 16, 16), (3, 8, 8), target=label, perturbations_per_eval=CHUNK // 4
            ),
        }, turns),
        line("LIME, 4 × 64 px, 64 samples of 16 squares", "64F", {
            "limit": lambda: small.masked(64),
            "ours": ours(four, "lime", samples=64, segments="grid", n_segments=16), "captum": captum_lime,
        }, turns),
        line("meaningful perturbation, 4 × 64 px, 20 steps", "20 (F + B)", {
            "limit": lambda: [small.backward(four) for _ in range(20)],
            "ours": ours(four, "meaningful_perturbation", iterations=20),
        }, turns),
        line("LRP (zennit), 8 × 96 px", "1F + 1B", {
            "limit": lambda: large.backward(eight), "ours": ours(eight, "lrp"),
        }, turns),
    ]  # fmt: skip
    return [
        f"ResNet-18, parameters frozen, forward passes of at most {CHUNK} images. The limit is the fewest forward (F) "
        "and backward (B; b: of the layers above the maps) passes, written out by hand.",
        "",
        "| case | passes a target | limit, ms | ours / limit | Captum / limit | pytorch-grad-cam / limit |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


#: Makes glibc hand freed blocks back at once; by default it keeps more of them after the first pass than in it.
HAND_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}

#: How integrated gradients are computed; `loop` is the bare passes, written out by hand.
WAYS = ("loop", "ours", "captum")


def in_a_process(what: str, who: str, steps: int, images: int, environment: dict[str, str]) -> float:
    """MiB that integrated gradients need in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.attribution", "--peak", what, who, str(steps), str(images)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return float(found.stdout.split()[-1])


def peak(what: str, who: str, steps: int, count: int) -> None:
    """Print the peak of the tensors' memory (`tensors`) or of the process's resident memory (`resident`)."""
    torch.set_num_threads(1)
    model = build_classifier({"backbone": "resnet18"}, CLASSES).eval()
    images = torch.randn(count, 3, 64, 64)
    with torch.no_grad():
        model(images[:1])

    def loop() -> None:
        Limits(model.requires_grad_(False), images).integrated(steps)

    def ours() -> None:
        attribute(model, images, 0, method="integrated_gradients", steps=steps)

    def other() -> None:
        captum.attr.IntegratedGradients(model).attribute(images, target=0, n_steps=steps)

    work = {"loop": loop, "ours": ours, "captum": other}[who]
    if what == "tensors":
        print(peak_tensor_bytes(work) / 2**20)
        return
    reset_peak_memory()
    before = peak_memory_mib(torch.device("cpu"))
    work()
    print(peak_memory_mib(torch.device("cpu")) - before)


def memory(turns: int) -> list[str]:
    """Peak memory with 8 and with 50 steps."""
    lines = [
        "Integrated gradients, ResNet-18, 64 px, default chunk (32), MiB; `loop`: the same forward and backward passes "
        "written out by hand. Resident memory is also what the C library keeps of freed blocks; `handed back` makes it "
        "return them (" + ", ".join(f"{k}={v}" for k, v in HAND_BACK.items()) + ").",
        "",
        "| measured | images | who | 8 steps | 50 steps | ratio |",
        "|---|---|---|---|---|---|",
    ]
    measures = {
        "tensors": ("tensors", {}),
        "resident, handed back": ("resident", HAND_BACK),
        "resident": ("resident", {}),
    }
    for title, (what, environment) in measures.items():
        for count in (4, 16):
            for who in WAYS:
                found = {s: [in_a_process(what, who, s, count, environment) for _ in range(turns)] for s in (8, 50)}
                few, many = (statistics.median(found[steps]) for steps in (8, 50))
                lines.append(f"| {title} | {count} | {who} | {few:.1f} | {many:.1f} | {many / few:.3f} |")
                print(lines[-1], flush=True)
    return lines


class _Seconds(pl.Callback):
    """Notes how long each epoch of training takes, validation and all."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.epochs: list[float] = []
        self.maps: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.starts.append(time.perf_counter())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append(time.perf_counter() - self.starts[-1])
        self.maps.append(float(trainer.callback_metrics["attribution/seconds"]))


def callback_cost(folder: Path) -> list[str]:
    """Two epochs of CIFAR-10 with ResNet-20; gradient and Grad-CAM of 16 images after each."""
    from datamodules.image_folder import ImageFolder
    from lightning_modules import Dense

    pl.seed_everything(0, verbose=False)
    data = ImageFolder(str(folder / "cifar10.zip"), image_size=32, batch_size=128)
    module = Dense({"backbone": "cifar_resnet20"}, data.num_classes, beta=0.0)
    seconds = _Seconds()
    with tempfile.TemporaryDirectory() as out:
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=2, callbacks=[AttributionMaps(["gradient", "gradcam"], 16), seconds],
            logger=False, enable_checkpointing=False, enable_model_summary=False, num_sanity_val_steps=0,
            use_distributed_sampler=False, default_root_dir=out, enable_progress_bar=False,
        )  # fmt: skip
        trainer.fit(module, data)
    lines = ["| CIFAR-10, ResNet-20 | epoch, s | gradient and Grad-CAM of 16 images, s | share |"]
    lines.append("|---|---|---|---|")
    for number, (epoch, maps) in enumerate(zip(seconds.epochs, seconds.maps, strict=True)):
        lines.append(f"| epoch {number} | {epoch:.1f} | {maps:.2f} | {100 * maps / (epoch - maps):.2f} % |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--cifar10", type=Path, default=os.environ.get("HANDFUL_DATA"))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--peak", nargs=4, metavar=("WHAT", "WHO", "STEPS", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(*options.peak[:2], *map(int, options.peak[2:]))
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    write_section(f"{TITLE}: passes", methods(options.turns))
    write_section(f"{TITLE}: memory", memory(3))
    if options.cifar10:
        torch.set_num_threads(threads)
        write_section(f"{TITLE}: the callback", callback_cost(Path(options.cifar10)))


if __name__ == "__main__":
    main()

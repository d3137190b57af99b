"""Pixel flipping, sensitivity-n and ROAD side by side with Quantus, on the same model, images and maps.

    python -m benchmarks.faithfulness [--turns 5]        # needs `pip install quantus`

Both take turns in one run on one thread; times are processor time, ratios medians over the turns with their quartiles.
The values of both are compared in the same run.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.arguments import argument_parser
from benchmarks.results import write_section
from handful.attribution import attribute
from handful.metrics.faithfulness import perturbation_curve
from handful.metrics.road import PERCENTAGES, road_curve
from handful.metrics.sensitivity_n import correlation
from handful.networks import build_classifier

Model = Callable[[], nn.Module]

TITLE = "Faithfulness beside Quantus (`python -m benchmarks.faithfulness`)"


def one_convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10))


def resnet20() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 1), build_classifier({"backbone": "cifar_resnet20"}, 10))


#: Title, model, side in pixels, images, and pixels that go at each step of pixel flipping and sensitivity-n.
CASES: tuple[tuple[str, Model, int, int, int], ...] = (
    ("one convolution", one_convolution, 24, 1, 1),
    ("one convolution", one_convolution, 24, 16, 1),
    ("ResNet-20", resnet20, 32, 1, 8),
    ("ResNet-20", resnet20, 32, 16, 32),
    ("ResNet-20", resnet20, 96, 2, 288),
)


def quantus_values(model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, step: int) -> dict[str, Any]:
    """Quantus's metrics as functions; they take numpy arrays, batch size 64."""
    import quantus

    given = {
        "model": model, "x_batch": images.numpy(), "y_batch": classes.numpy(), "a_batch": maps[:, None].numpy(),
        "device": "cpu", "batch_size": 64,
    }  # fmt: skip
    common = {"disable_warnings": True, "normalise": False}
    black = {"perturb_baseline": 0.0}  # the value, not the image's smallest
    flipping = quantus.PixelFlipping(features_in_step=step, **black, **common)
    sensitivity = quantus.SensitivityN(features_in_step=step, return_aggregate=False, **black, **common)
    road = quantus.ROAD(percentages=[int(p) for p in PERCENTAGES], noise=1e-12, **common)
    return {
        "pixel flipping": lambda: flipping(softmax=True, **given),
        "sensitivity-n": lambda: sensitivity(softmax=False, **given),
        "ROAD": lambda: list(road(softmax=True, **given).values()),
    }


def own_values(model: nn.Module, images: Tensor, maps: Tensor, classes: Tensor, step: int) -> dict[str, Any]:
    """The same numbers from `handful.metrics`."""
    pixels = maps[0].numel()
    steps = pixels // step

    def flipping() -> Any:  # Quantus leaves the whole image out
        return perturbation_curve(model, images, maps, classes, steps=steps)[:, 1:]

    def sensitivity() -> list[float]:
        # as Quantus defines it, which is not what Ancona et al. do: falls of the score as pixels go in the map's order,
        # against the sum of each step's pixels alone, correlated over the images for each step
        scores = perturbation_curve(model, images, maps, classes, steps=steps, reading="score").double()
        falls = scores[:, :1] - scores[:, 1:]
        ordered = maps.flatten(1).sort(dim=1, descending=True).values.double()
        sums = ordered.reshape(len(maps), steps, step).sum(dim=2)
        kept = int(0.8 * pixels // step)
        return correlation(sums[:, :kept].T, falls[:, :kept].T).tolist()

    def road() -> list[float]:
        return road_curve(model, images, maps, classes, reading="decision", noise=0.0).double().mean(dim=0).tolist()

    return {"pixel flipping": flipping, "sensitivity-n": sensitivity, "ROAD": road}


def case(make: Model, side: int, count: int, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A model with random weights, random images of one channel, maps without equal values, predicted classes.

    One channel, because with three Quantus's ROAD takes positions in later channels for rows below the image.
    """
    torch.manual_seed(seed)
    model = make().eval()
    images = torch.randn(count, 1, side, side)
    maps = attribute(model, images, method="smoothgrad", samples=4).map()
    with torch.no_grad():
        return model, images, maps, model(images).argmax(1)


def passes_of(model: nn.Module, work: Callable[[], Any]) -> int:
    """How many images go through the model."""
    seen: list[int] = []
    handle = model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    work()
    handle.remove()
    return sum(seen)


def bare_pass(model: nn.Module, images: Tensor, passes: int = 1024) -> float:
    """Processor seconds of a forward pass of one image, without gradients, in batches: the least of three."""
    size = max(8, min(64, 2**17 // images[0, 0].numel()))  # as many as fit the processor's cache
    batch = images[torch.arange(size) % len(images)]
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            started = time.process_time()
            for _ in range(-(-passes // size)):
                model(batch)
            seconds.append((time.process_time() - started) / (-(-passes // size) * size))
    return min(seconds[1:])


def row(title: str, make: Model, side: int, count: int, step: int, turns: int) -> list[str]:
    """One line of the table for each measure."""
    model, images, maps, classes = case(make, side, count)
    theirs, own = (f(model, images, maps, classes, step) for f in (quantus_values, own_values))
    one_pass = bare_pass(model, images, 1024 if side < 64 else 256)
    lines = []
    for name in theirs:
        if name == "sensitivity-n" and count < 3:
            continue  # it correlates over images
        times: dict[str, list[float]] = {"own": [], "theirs": []}
        for turn in range(turns + 1):  # the first warms up
            values = {}
            for who, work in (("own", own[name]), ("theirs", theirs[name])):
                started = time.process_time()
                values[who] = np.asarray(work(), dtype=float)
                if turn:
                    times[who].append(time.process_time() - started)
        apart = float(np.nanmax(np.abs(values["own"] - values["theirs"]) / np.maximum(1, np.abs(values["theirs"]))))
        low, middle, high = statistics.quantiles([t / o for o, t in zip(*times.values(), strict=True)], n=4)
        own_ms, their_ms = (1000 * statistics.median(seconds) for seconds in times.values())
        passes = [passes_of(model, work[name]) for work in (own, theirs)]
        bare = [1000 * one_pass * number for number in passes]
        lines.append(
            f"| {title}, {side} px | {count} | {name} | {passes[0]:,} / {passes[1]:,} | {bare[0]:.0f} | {own_ms:.0f} | "
            f"{their_ms:.0f} | {middle:.1f} ({low:.1f} to {high:.1f}) | {their_ms / bare[0]:.1f} | {apart:.1e} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    try:
        import quantus
    except ImportError:
        print("left out: there is no Quantus to compare with (pip install quantus)")
        return
    lines = [
        f"Quantus {quantus.__version__}; processor time in ms, on one thread, random weights and images. Pixel "
        "flipping: the curve of the probability. Sensitivity-n as Quantus defines it, not as Ancona et al. do (falls "
        "of pixels so far against the sum of the last step's, over images). ROAD: accuracy at 10, 20 … 90 %. Passes: "
        "of single images through the network, own / Quantus's; bare: what the own passes cost alone, in batches."
        " Where both take as many passes, no ratio can exceed Quantus / bare (at most). Apart: largest relative "
        "difference of the values.",
        "",
        "| model | images | measure | passes | bare, ms | own, ms | Quantus, ms | Quantus / own (quartiles) | "
        "at most | apart |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in CASES:
        lines += row(*one, options.turns)
    ratios = [float(line.split("|")[8].split()[0]) for line in lines[4:]]
    lines += ["", f"{sum(ratio >= 10 for ratio in ratios)} of {len(ratios)} rows reach ten times."]
    write_section(TITLE, lines)


if __name__ == "__main__":
    main()

"""What a GPU gains: the sparse layer, attribution, and training steps, on the CPU and on the GPU.

    python -m benchmarks.gpu [--out gpu.json] [--seconds 60]

Images per second are medians of a few repetitions after first ones (of a single one on a CPU); the seconds of the
sparse layer, the assignment and `glm_saga` are of one call. The device is waited for. The peak of memory is that of
all precisions. Parts that come after the time is over are left out and named.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.arguments import argument_parser
from handful.assignment import Search, qpm_problem, solve
from handful.attribution import attribute
from handful.bottleneck import InfoMaxBottleneck, Weights
from handful.losses import feature_diversity_loss
from handful.networks import build_classifier
from handful.sparse import elastic_net_path, select_features

#: Name of a part → what it measured.
Found = dict[str, Any]


def timed(work: Callable[[], object], repeats: int = 3, warm_up: int = 1) -> float:
    """Median seconds of a call; the GPU has finished."""
    seconds = []
    for number in range(warm_up + repeats):
        _wait()
        began = time.perf_counter()
        work()
        _wait()
        if number >= warm_up:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def planted(rows: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Features like those of a trained network: non-negative, correlated, some of which tell the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % classes
    centres = torch.randn(classes, 64, generator=generator)
    hidden = centres[labels] + torch.randn(rows, 64, generator=generator)
    mixed = hidden @ torch.randn(64, width, generator=generator) / 8
    return (mixed + torch.randn(rows, width, generator=generator) / 2).relu(), labels


def sparse_layer(device: str) -> Found:
    """The path on 50 features of 3,000 images and 100 classes, and the choice of 10 features of 2,048."""
    features, labels = planted(3000, 2048, 100)
    features, labels = features.to(device), labels.to(device)
    chosen = features[:, :50].contiguous()
    common: dict[str, Any] = {"n_lambdas": 50, "stop_density": 10.0}
    found: Found = {"exact_seconds": timed(lambda: elastic_net_path(chosen, labels, **common), 1, int(device != "cpu"))}
    found["greedy_10_seconds"] = timed(lambda: select_features(features, labels, 10), 1, 0)
    return found


def glm_saga(device: str) -> Found:
    """The published solver on 1,000 of the rows and 5 values of λ."""
    features, labels = planted(1000, 50, 20)
    features, labels = features.to(device), labels.to(device)
    common: dict[str, Any] = {"n_lambdas": 5, "epsilon": 0.1}
    return {
        f"{solver}_seconds": timed(partial(elastic_net_path, features, labels, solver=solver, **common), 1, 0)
        for solver in ("exact", "glm_saga")
    }


def assignment(device: str) -> Found:
    """The choice of 50 of 2,048 features, five for each of 200 classes, with two restarts."""
    generator = torch.Generator().manual_seed(0)
    correlation = torch.randn(200, 2048, generator=generator).to(device)
    problem = qpm_problem(correlation, n_features=50, features_per_class=5, threshold=float("inf"))
    results = []
    seconds = timed(lambda: results.append(solve(problem, Search(patience=30, restarts=2))), 1, 0)
    return {"seconds": seconds, "value": results[-1].value}


def attribution(device: str) -> Found:
    """Images per second of attribution methods on a ResNet-50 at 224 pixels."""
    torch.manual_seed(0)
    model = build_classifier({"backbone": "resnet50"}, 200).eval().to(device)
    count = 32 if device == "cuda" else 2
    images = torch.randn(count, 3, 224, 224, device=device)
    methods: dict[str, dict[str, Any]] = {"cam": {}, "gradcam": {}, "gradient": {}, "smoothgrad": {"samples": 8},
                                          "integrated_gradients": {"steps": 16}}  # fmt: skip
    if device == "cpu":
        methods = {name: methods[name] for name in ("cam", "gradient")}
    return {
        f"{name}_images_per_second": count / timed(partial(attribute, model, images, method=name, **options), 2)
        for name, options in methods.items()
    }


def training(device: str) -> Found:
    """Images per second of a ResNet-50's training step with L_div at 224 pixels: batch 64 on a GPU, 4 on a CPU."""
    torch.manual_seed(0)
    model = build_classifier({"backbone": "resnet50"}, 200).train().to(device)
    optimiser = torch.optim.SGD(model.parameters(), 0.005, momentum=0.9)
    count = 64 if device == "cuda" else 4
    images, labels = torch.randn(count, 3, 224, 224, device=device), torch.arange(count, device=device)

    def step(precision: torch.dtype | None) -> None:
        with torch.autocast(device, dtype=precision or torch.bfloat16, enabled=precision is not None):
            maps = model.feature_maps(images)
            logits = model.head(model.pool(maps))
            weight = model.head.class_weights()[0]
            loss = functional.cross_entropy(logits, labels) + 0.196 * feature_diversity_loss(maps, logits, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    if device == "cpu":
        return {"float32_images_per_second": count / timed(lambda: step(None), 1)}
    found: Found = {}
    for name, tf32, deterministic, precision in (
        ("float32", False, False, None), ("tf32", True, False, None), ("tf32_deterministic", True, True, None),
        ("bfloat16", True, False, torch.bfloat16), ("bfloat16_deterministic", True, True, torch.bfloat16),
    ):  # fmt: skip
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        found[f"{name}_images_per_second"] = count / timed(partial(step, precision), 5, 3)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    found["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def plugin(device: str) -> Found:
    """Images per second of a training step of the plug-in on a ResNet-50 at 224 pixels."""
    torch.manual_seed(0)
    base: nn.Module = build_classifier({"backbone": "resnet50"}, 200).eval()
    layers = [f"backbone.net.layer{number}" for number in (1, 2, 3, 4)]
    module = InfoMaxBottleneck(base, local_layer=layers[0], readout_layers=layers, image_size=224).to(device)
    count = 32 if device == "cuda" else 2
    images = torch.randn(count, 3, 224, 224, device=device)
    module.observe(images, range(count))
    module.finish_statistics()
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-3)
    module.train()

    def step() -> None:
        loss = module.objective(module.terms(images), Weights(1.0, 1.0, 0.1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return {"images_per_second": count / timed(step, 3 if device == "cuda" else 1)}


PARTS = (training, attribution, plugin, sparse_layer, assignment, glm_saga)

#: Parts that take minutes on a CPU, and are no question there.
ON_GPU_ONLY = (training, attribution, plugin)


def main() -> None:
    """Measure all parts and write a file."""
    parser = argument_parser(__doc__)
    parser.add_argument("--out", default="gpu.json")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which no further part is begun")
    options = parser.parse_args()
    began = time.perf_counter()
    devices = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    found: Found = {
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if devices[0] == "cuda" else None,
        "cpu": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    for device in devices:
        for part in PARTS:
            key = f"{device}/{part.__name__}"
            if part in ON_GPU_ONLY and devices[0] == "cuda" and device == "cpu":
                continue
            if time.perf_counter() - began > options.seconds:
                found[key] = "left out: the time was over"
                continue
            start = time.perf_counter()
            found[key] = part(device) | {"took": round(time.perf_counter() - start, 2)}
            print(key, json.dumps(found[key]), flush=True)
            Path(options.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

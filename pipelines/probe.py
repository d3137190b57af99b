"""`python train.py probe`: does the score of a class depend on the region that should decide it?"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.images import batches
from handful.atomic import write_json
from handful.errors import UserError, did_you_mean
from handful.metrics.bias_probe import FILLS, BiasProbe, Fill, filled
from handful.networks import Classifier
from handful.progress import ProgressBar
from pipelines.finished_run import Run
from pipelines.measures import Options
from pipelines.measures.subject import AnnotatedImages
from pipelines.output_folder import output_folder
from pipelines.tables import format_table

#: Digits after the point in the file.
_DIGITS = 6


def probe(
    run_dir: str,
    region: list[float] | str | None = None,
    parts: list[str] | str | None = None,
    fill: Literal["mean", "blur", "other"] = "mean",
    stage: str | None = None,
    images: int | None = None,
    masks: str | None = None,
    out: str | None = None,
) -> Path:
    """Cover or exchange a region of the test images and report how the score of their class changes.

    Writes `probe.json`: for every region and class the mean change of logit and probability, and the share of
    predictions that changed. A part that should decide and changes little is not what the model has learned.

    Args:
        run_dir: folder of the run.
        region: left, top, right, bottom as shares of the image's side, with commas between.
        parts: concepts whose masks are the regions, with commas between; all parts that the images have masks of, if
            neither is given.
        fill: "mean" colour, "blur", or the same region of an image of an "other" class.
        stage: whose model: a stage or phase of the run; the last finished one if not given.
        images: at most so many, spread evenly over the test images; all if not given.
        masks: folder of masks: KIND/CONCEPT/IMAGE.png; the toy birds have their own.
        out: folder to write to; RUN_DIR/probe if not given.

    Returns:
        The file.

    Raises:
        UserError: no such run, stage or part; a region outside the image; no masks; no folder to write to.
    """
    if fill not in FILLS:
        raise UserError(f"--fill: {', '.join(FILLS)}, not {fill!r}{did_you_mean(fill, FILLS)}")
    box = None if region is None else _box(region)
    if images is not None and images < 1:
        raise UserError(f"--images must be at least 1, not {images}")
    run = Run(run_dir)
    phase = run.phase_of(stage)
    model = getattr(run.load(stage), "model", None)
    if not isinstance(model, Classifier):
        raise UserError(f"--stage: {phase} of {run_dir} holds no classifier that could be probed")
    folder = output_folder(out, run.folder / "probe")
    looked_at = AnnotatedImages(run.datamodule(), Options("test", images, masks=masks))
    names, find = _regions(looked_at, box, parts)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    probes = _probed(model, looked_at, names, find, fill)
    classes = looked_at.data.class_names
    record = {
        "run": run_dir,
        "made_from": {phase: run.made_of(phase)},
        "fill": fill,
        "images": len(looked_at.indices),
        "regions": {
            name: {
                "images": int(one.images.sum()),
                "mean": {key: _rounded(value) for key, value in one.compute().items()} if one.images.any() else None,
                "classes": {
                    classes[label]: [_rounded(value) for value in row] if one.images[label] else None
                    for label, row in enumerate(one.per_class())
                },
            }
            for name, one in probes.items()
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "probe.json", record)
    print(f"\n{format_table(*probe_rows(record))}\n", flush=True)
    return folder / "probe.json"


def probe_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table: per region the means, and the class whose score falls most."""
    rows = []
    for name, found in record["regions"].items():
        mean = found["mean"] or {}
        falls = {label: values[0] for label, values in found["classes"].items() if values is not None}
        most = min(falls, key=lambda label: falls[label]) if falls else None
        changed = mean.get("changed")
        rows.append(
            [name, found["images"], mean.get("score_change"), mean.get("probability_change"),
             None if changed is None else 100 * changed, most, None if most is None else falls[most]]
        )  # fmt: skip
    return ["region", "images", "score", "probability", "predictions changed, %", "falls most", "by"], rows


def _box(region: Sequence[float] | str) -> tuple[float, float, float, float]:
    parts = region.split(",") if isinstance(region, str) else region
    try:
        left, top, right, bottom = (float(part) for part in parts)
    except ValueError:
        raise UserError(f"--region: four numbers, left,top,right,bottom, not {region!r}") from None
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise UserError(f"--region: shares of the side, 0 <= left < right <= 1 and so top and bottom, not {region}")
    return left, top, right, bottom


def _regions(
    images: AnnotatedImages, box: tuple[float, float, float, float] | None, parts: Sequence[str] | str | None
) -> Any:
    """Names of the regions, and the function that gives their masks `(B, K, H, W)` by dataset index."""
    if box is not None and parts is not None:
        raise UserError("--region and --parts: give one of them")
    if box is not None:
        side = images.data.image_size
        left, top, right, bottom = (round(share * side) for share in box)
        mask = torch.zeros(side, side, dtype=torch.bool)
        mask[top : max(bottom, top + 1), left : max(right, left + 1)] = True
        return ["region"], lambda indices: mask.expand(len(indices), 1, side, side)
    known = images.masks
    if known is None:
        raise UserError("--region: these images have no masks of parts; give a region, or masks with --masks FOLDER")
    all_names = [concept.name for concept in known.concepts]
    if parts is None:
        chosen = [concept.name for concept in known.concepts if concept.kind == "part"] or all_names
    else:
        chosen = [part.strip() for part in parts.split(",")] if isinstance(parts, str) else list(parts)
    for name in chosen:
        if name not in all_names:
            near = did_you_mean(name, all_names)
            raise UserError(f"--parts: no masks of {name!r}{near}; there are {', '.join(all_names)}")
    places = [all_names.index(name) for name in chosen]
    return chosen, lambda indices: known.masks(indices)[:, places]


@torch.no_grad()
def _probed(
    model: Classifier, images: AnnotatedImages, names: Sequence[str], find: Any, fill: str
) -> dict[str, BiasProbe]:
    """The probes by region; an image without the region does not count."""
    device = next(model.parameters()).device
    probes = {name: BiasProbe(model.num_classes) for name in names}
    others = _of_other_classes(images)
    with ProgressBar(len(images.indices), "probing") as bar:
        for places in batches(len(images.indices), images.data.eval_batch_size):
            indices = [images.indices[place] for place in places]
            pixels, masks = images.pixels(indices).to(device), find(indices)
            labels = images.dataset.labels[indices]
            foreign = images.pixels([others[index] for index in indices]).to(device) if fill == "other" else None
            before = model(pixels).cpu()
            for number, name in enumerate(names):
                there = masks[:, number].flatten(1).any(dim=1)
                if not there.any():
                    continue
                kind: Fill = next(known for known in FILLS if known == fill)
                changed = filled(pixels[there], masks[there, number], kind, None if foreign is None else foreign[there])
                probes[name].update(before[there], model(changed).cpu(), labels[there])
            bar.update(len(indices))
    return probes


def _of_other_classes(images: AnnotatedImages) -> dict[int, int]:
    """For every image the next one of another class, by dataset index."""
    labels: Tensor = images.dataset.labels
    found: dict[int, int] = {}
    for index in images.indices:
        order = [(index + step) % len(labels) for step in range(1, len(labels))]
        found[index] = next((other for other in order if labels[other] != labels[index]), index)
    return found


def _rounded(value: Tensor) -> float | None:
    number = float(value)
    return round(number, _DIGITS) if math.isfinite(number) else None

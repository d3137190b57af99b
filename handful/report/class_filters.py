"""Figures of class-specific filters: the grid of accuracies, and what the filters of a class respond to."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from handful.networks import Classifier
from handful.report.text import NAME, figure_text
from handful.text import shorten


class Dataset(Protocol):
    """A data set that returns an image and its label for an index."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


def accuracy_grid_figure(
    k1s: Sequence[float], k2s: Sequence[int], accuracy: Tensor, dense: float | None = None
) -> Figure:
    """Draw a heat map of accuracy over k1 (rows) and k2 (columns), each cell with its number.

    Args:
        k1s: K1 values.
        k2s: K2 values.
        accuracy: `(K1, K2)` in per cent.
        dense: accuracy of the dense layer in per cent, for the title.
    """
    values = accuracy.cpu().numpy()
    figure = Figure(figsize=(1.6 + 0.62 * len(k2s), 1.3 + 0.36 * len(k1s)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="viridis", aspect="auto", vmin=float(values.min()), vmax=float(values.max()))
    middle = (float(values.min()) + float(values.max())) / 2
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < middle else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(k2s)), [str(k2) for k2 in k2s])
    axes.set_yticks(range(len(k1s)), [f"{k1:g}" for k1 in k1s])
    axes.set_xlabel("k2: filters per class")
    axes.set_ylabel("k1: features counted per image")
    title = "Test accuracy before retraining, in per cent"
    axes.set_title(title if dense is None else f"{title} (dense: {dense:.2f})", fontsize=9)
    figure.colorbar(image, ax=axes)
    return figure


def class_filters_figure(
    title: str,
    captions: Sequence[str],
    images: Tensor,
    maps: Tensor,
    names: Sequence[Sequence[str]],
) -> Figure:
    """Draw the filters of one class, a row each: the images it responds to most, lit where it responds.

    The brightness follows the filter's map, on one scale per row.

    Args:
        title: of the figure.
        captions: K lines, one per filter.
        images: `(K, N, 3, H, W)` in [0, 1].
        maps: `(K, N, h, w)`, the filter's map on each image; negative values count as zero.
        names: K × N lines, one per image.
    """
    rows, columns, _, height, width = images.shape
    lit = spotlight(images, maps)
    side = 1.25
    figure = Figure(
        figsize=(1.5 + 2 * side * columns * width / height, 0.5 + (side + 0.25) * rows), layout="constrained"
    )
    figure.suptitle(figure_text(title, 120), fontsize=10)
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for row in range(rows):
        for column in range(columns):
            plain, bright = grid[row, 2 * column], grid[row, 2 * column + 1]
            plain.imshow(images[row, column].permute(1, 2, 0).numpy())
            bright.imshow(lit[row, column].permute(1, 2, 0).numpy())
            plain.set_title(figure_text(names[row][column]), fontsize=6, loc="left", pad=2)
            for axes in (plain, bright):
                axes.set_xticks([])
                axes.set_yticks([])
        caption = figure_text(captions[row], 120, lines=True)
        grid[row, 0].set_ylabel(caption, fontsize=7, rotation=0, ha="right", va="center")
    return figure


def spotlight(images: Tensor, maps: Tensor, dim: float = 0.2) -> Tensor:
    """Brighten images where a map is high and dim the rest.

    Args:
        images: `(K, N, 3, H, W)` in [0, 1].
        maps: `(K, N, h, w)`, enlarged bilinearly; the highest value of row k gives full brightness, values that are
            not positive give `dim`.
        dim: brightness of what is not lit, in [0, 1].

    Returns:
        `(K, N, 3, H, W)` in [0, 1].
    """
    size = images.shape[-2:]
    light = functional.interpolate(maps.clamp(min=0).float(), size=size, mode="bilinear", align_corners=False)
    light = light / light.amax(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return images * (dim + (1 - dim) * light.unsqueeze(2))


@torch.no_grad()
def draw_class_filters(
    classifier: Classifier,
    dataset: Dataset,
    filters: Tensor,
    strongest: Tensor,
    class_names: Sequence[str],
    frequencies: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[int],
) -> Iterator[tuple[int, Figure]]:
    """Draw the filters of some classes, one figure per class.

    Args:
        classifier: in evaluation mode.
        dataset: returns `(image, label)` for an index; images normalised.
        filters: `(C, k2)`.
        strongest: `(F, N)`, dataset indices of the images with the largest value of a feature, −1 for none.
        class_names: C names.
        frequencies: `(C, F)` in [0, 1], written beside every filter.
        mean: of the normalisation, per channel.
        std: of the normalisation, per channel.
        classes: the classes drawn.

    Yields:
        The class and its figure.
    """
    device = next(classifier.parameters()).device
    undo_mean, undo_std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    for c in classes:
        captions, images, maps, names = [], [], [], []
        for f in filters[c].tolist():
            indices = [index for index in strongest[f].tolist() if index >= 0]
            items = [dataset[index] for index in indices]
            batch = torch.stack([image for image, _ in items])
            maps.append(classifier.feature_maps(batch.to(device))[:, f].cpu())
            images.append((batch * undo_std + undo_mean).clamp(0, 1))
            names.append([class_names[int(label)] for _, label in items])
            captions.append(f"filter {f}\n{100 * float(frequencies[c, f]):.0f} % of images")
        yield (
            c,
            class_filters_figure(
                f"{shorten(class_names[c], NAME)}: the filters that decide, and the images they respond to most",
                captions,
                torch.stack(images),
                torch.stack(maps),
                names,
            ),
        )

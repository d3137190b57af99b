"""Matplotlib figures as files."""

from pathlib import Path

from matplotlib.figure import Figure

from handful.atomic import atomic


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=dpi)

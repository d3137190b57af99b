"""The progress bar of whatever takes longer than a second."""

from tqdm import tqdm


def progress_bar(total: int, description: str, unit: str = "image") -> tqdm:
    """Return a bar that shows itself on standard error after a second and goes when closed."""
    return tqdm(total=total, desc=description, unit=unit, delay=1, leave=False)

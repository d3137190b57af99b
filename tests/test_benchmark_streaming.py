"""What the memory of ImageNet's rows would be, by two smaller sizes."""

from benchmarks.streaming import IMAGENET, beyond


def test_what_was_not_measured_is_said_to_be_reckoned():
    """A MiB and 4 bytes a row, and memory that does not grow."""
    sizes = [10_000, 40_000, 160_000]
    risen = [{"selecting": 95.0, "solving": 1 + 4 * rows / 2**20} for rows in sizes]
    line = beyond(sizes, risen)
    assert line.startswith("Not measured but reckoned from the last two rows, for 1,281,167 rows")
    assert "selection 95 MiB (0 bytes more per row)" in line
    assert f"path {1 + 4 * IMAGENET / 2**20:,.0f} MiB (4 bytes more per row)" in line

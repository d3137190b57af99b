"""One kind of help for all benchmarks."""

import argparse


def argument_parser(says: str | None) -> argparse.ArgumentParser:
    """A parser whose help begins with what the benchmark says of itself.

    Args:
        says: docstring of the module.
    """
    return argparse.ArgumentParser(description=says, formatter_class=argparse.RawDescriptionHelpFormatter)

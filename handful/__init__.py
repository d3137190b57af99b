"""Handful: image classifiers that decide with a handful of features, and show why they decide as they do."""

__version__ = "0.1.0"

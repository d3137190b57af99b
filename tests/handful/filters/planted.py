"""Planted features for the tests of this folder."""

import torch


def features_with_ties(images=90, classes=3, num_features=12, signed=False):
    """Rounded features, so that many tie, and labels of every class."""
    generator = torch.Generator().manual_seed(0)
    features = (torch.rand(images, num_features, generator=generator) * 6 - (3 if signed else 1)).round()
    features = features if signed else features.clamp(min=0)
    return features, torch.arange(images) % classes

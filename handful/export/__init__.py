"""A model to hand on: a folder with weights, model card, and the format of another runtime."""

from handful.export.card import model_card
from handful.export.deployed import Deployed
from handful.export.folder import FORMATS, export, read_exported

__all__ = ["FORMATS", "Deployed", "export", "model_card", "read_exported"]

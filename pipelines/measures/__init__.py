"""What `python train.py evaluate` can measure: one registered class per entry of `--measures`.

`registry` holds the base class and the names, `subject` what is measured, `run` the passes over the images; the other
files register measures when they are imported, which `load_measures` does.
"""

from pipelines.measures.registry import (
    Better,
    Measure,
    Measured,
    chosen_measures,
    load_measures,
    measures,
    register_measure,
)
from pipelines.measures.subject import Observed, Options, Subject

__all__ = [
    "Better",
    "Measure",
    "Measured",
    "Observed",
    "Options",
    "Subject",
    "chosen_measures",
    "load_measures",
    "measures",
    "register_measure",
]

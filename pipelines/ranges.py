"""Numbers and names that nothing could take, refused before imports of seconds; classes check theirs in full."""

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from handful.errors import UserError, did_you_mean

_ROOT = Path(__file__).parents[1]


class Range(NamedTuple):
    """The numbers that an option may be.

    Attributes:
        low: the smallest; what it must exceed where `open_low`.
        high: the largest; what it must stay below where `open_high`; None for none.
        open_low: see above.
        open_high: see above.
    """

    low: float
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def holds(self, number: float) -> bool:
        """Whether a number lies inside; NaN does not."""
        above = number > self.low if self.open_low else number >= self.low
        return above and (self.high is None or (number < self.high if self.open_high else number <= self.high))

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        if self.high is None:
            return low
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:g}"


_POSITIVE, _NOT_NEGATIVE, _FROM_TWO = Range(1), Range(0), Range(2)
_SHARE, _ABOVE_ZERO = Range(0, 1, open_high=True), Range(0, open_low=True)

#: Options of commands whose options are those of a function.
OF_COMMANDS = {
    "features": _POSITIVE, "images": _POSITIVE, "batch_size": _POSITIVE, "max_megapixels": _ABOVE_ZERO,
    "conformal": Range(0, 1, True, True), "n_features": _POSITIVE, "features_per_class": _POSITIVE,
}  # fmt: skip

#: Arguments by the folder that their class, ours or torch's, is in.
OF_CLASSES = {
    "datamodules": {
        **dict.fromkeys(("image_size", "batch_size", "images_per_class", "test_images_per_class", "shot", "query",
                         "episodes", "margin"), _POSITIVE),
        **dict.fromkeys(("eval_batch_size", "num_workers", "seed", "val_images_per_class"), _NOT_NEGATIVE),
        **dict.fromkeys(("val_fraction", "test_fraction"), _SHARE),
        **dict.fromkeys(("white", "max_megapixels"), _ABOVE_ZERO),
        "n_classes": _FROM_TWO, "way": _FROM_TWO, "certainty": Range(1, 4),
    },
    "handful/networks": {"dropout": _SHARE, "image_size": _POSITIVE},
    "lightning_modules": {"label_smoothing": _SHARE, "filter_loss": _NOT_NEGATIVE, "filter_scale": _ABOVE_ZERO},
    "pipelines/phases": {
        "n_features": _POSITIVE, "features_per_class": _POSITIVE, "alpha": Range(0, 1), "n_lambdas": _FROM_TWO,
        "k2": _POSITIVE, "bound_seconds": _NOT_NEGATIVE,
    },
    "torch/optim": {"lr": _NOT_NEGATIVE, "weight_decay": _NOT_NEGATIVE, "momentum": _NOT_NEGATIVE},
    "lightning/pytorch/trainer": dict.fromkeys(
        ("accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes", "log_every_n_steps"), _POSITIVE
    ),
}  # fmt: skip

#: Of a pipeline itself, and of a phase.
OF_PIPELINES = {"seed": _NOT_NEGATIVE, "max_epochs": _NOT_NEGATIVE}


def check_argument(key: str, name: str, value: Any, file: Path) -> None:
    """Refuse a number that the argument of a class cannot be.

    Args:
        key: of the option, for the sentence.
        name: of the argument.
        value: given for it.
        file: where the class is defined.

    Raises:
        UserError: names the key.
    """
    place = file.relative_to(_ROOT).as_posix() if file.is_relative_to(_ROOT) else file.as_posix()
    for folder, known in OF_CLASSES.items():
        if place.startswith(f"{folder}/") or (folder.startswith(("torch", "lightning/")) and f"/{folder}/" in place):
            check_range(key, known.get(name), value)
    if name == "backbone" and place.startswith("handful/networks/"):
        check_backbone(key, value)


def check_range(key: str, known: Range | None, value: Any) -> None:
    """Refuse a number, or one in a list or in a text with commas, that lies outside a range.

    Raises:
        UserError: names the key.
    """
    if known is None or isinstance(value, bool):
        return
    parts = value if isinstance(value, list) else str(value).split(",")
    for part in parts:
        try:
            number = float(part)
        except (TypeError, ValueError):  # another kind of value, which is looked at elsewhere
            continue
        if not known.holds(number):
            raise UserError(f"{key}: {known}, not {part}")


def check_backbone(key: str, name: Any) -> None:
    """Refuse the name of a network that neither timm nor anybody in this process has.

    Raises:
        UserError: names the key, and the network that is probably meant.
    """
    base = name.partition(".")[0] if isinstance(name, str) else ""
    registered = getattr(sys.modules.get("handful.networks.backbone"), "_FACTORIES", {})
    if not re.fullmatch(r"\w+", base) or base in registered or base.startswith(("cifar_resnet", "conv4")):
        return
    written, models = _names_of_timm()
    if written and base not in written:
        raise UserError(f"{key}: timm knows no model {name!r}{did_you_mean(base, models)}")


@cache
def _names_of_timm() -> tuple[frozenset[str], list[str]]:
    """All names in the sources of timm's networks, some of which are other names of networks; and those of networks."""
    spec = importlib.util.find_spec("timm")  # of a package, this imports nothing
    folders = [Path(folder) / "models" for folder in (spec and spec.submodule_search_locations) or ()]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    quoted = re.findall(r"""['"](\w+)[.'"]""", text)
    return frozenset((*quoted, *re.findall(r"\bdef (\w+)\(", text))), re.findall(r"@register_model\s+def (\w+)\(", text)

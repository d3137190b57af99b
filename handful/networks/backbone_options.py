"""`network.options`: what a backbone is built with, and one sentence where it cannot be.

A library's factory checks few of its arguments: a name that it does not know, a wrong type or a missing entry end
in an error of any kind, raised anywhere within. Whatever it raises is the options' where there are any; where there
are none, it is a fault of the program, and stays as it is.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from torch import nn

from handful.errors import UserError, did_you_mean

#: What `timm.create_model` takes beside the options of a network, and what to give instead.
_SETTLED = {
    **dict.fromkeys(("checkpoint_path", "cache_dir"), "weights are given by --network.pretrained"),
    **dict.fromkeys(("scriptable", "exportable", "no_jit"), "a network is built for training"),
    **dict.fromkeys(("features_only", "out_indices", "feature_cls", "feature_cfg"), "the maps are those of the whole"),
    "pruned": "it reads a file; name a pruned model as the backbone",
    "num_classes": "the head follows the classes of the data",
    "device": "it is the Trainer's (trainer.accelerator)",
    "dtype": "it is the Trainer's (trainer.precision)",
    "name": "it is network.backbone",
    "reduced_strides": "it is network.reduced_strides",
    "in_size": "it is network.image_size",
    "grid": "it is network.grid",
    "self": "",
}
#: Up to so many characters of an option's value, and of what the library says of it, are quoted.
_SHOWN, _REASON = 80, 200


def check_names(backbone: str, options: Mapping[Any, Any]) -> None:
    """Refuse options of a timm network that read files or addresses, that are settled elsewhere, or that are not sizes.

    Raises:
        UserError: names the option, and what stands in its place.
    """
    for option in options:
        if not isinstance(option, str):
            raise UserError(f"network.options: the name of an option is needed, not {option!r:.80}")
        instead = "weights are given by --network.pretrained" if option.startswith("pretrained") else None
        instead = _SETTLED.get(option, instead)
        if instead is not None:
            raise UserError(f"network.options: {option} is not an option of {backbone}" + (instead and f"; {instead}"))
    channels = options.get("in_chans")
    if channels is not None and not is_side(channels):
        raise UserError(f"network.options: in_chans is a whole number from 1, not {channels!r:.80}")
    size = options.get("img_size")
    if size is not None and not is_side(size) and not (
        isinstance(size, list | tuple) and len(size) == 2 and all(map(is_side, size))
    ):  # fmt: skip
        raise UserError(f"network.options: img_size is a side in pixels, or [height, width], not {size!r:.80}")


def is_side(value: Any) -> bool:
    """Whether a value is a number of pixels or of channels: whole, from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def build_with_options(
    backbone: str,
    options: Mapping[str, Any],
    build: Callable[..., nn.Module],
    meant: Mapping[str, str] | None = None,
) -> nn.Module:
    """Build a network of a library with options that the library may or may not check.

    Args:
        backbone: its name, for the sentence.
        options: keyword arguments of `build`.
        build: the library's factory, with its other arguments bound.
        meant: option → the key of the config that it was made from, where that is not `network.options`.

    Raises:
        UserError: the network cannot be built with these options; names the one at fault where it is a single one.

    Example:
        >>> build_with_options("line", {"bias": True}, lambda bias: nn.Linear(2, 3, bias=bias))
        Linear(in_features=2, out_features=3, bias=True)
    """
    try:
        return build(**options)
    except Exception as error:
        if not options:
            raise
        refuse_options(backbone, options, error, build, meant)


def refuse_options(
    backbone: str,
    options: Mapping[str, Any],
    error: Exception,
    build: Callable[..., nn.Module] | None = None,
    meant: Mapping[str, str] | None = None,
) -> NoReturn:
    """Say that a network cannot be built, or cannot run, with its options.

    Args:
        backbone: its name.
        options: what it was built with; not empty.
        error: what the library raised.
        build: tried with each option alone, to name the one at fault.
        meant: see `build_with_options`.

    Raises:
        UserError: always.
    """
    alone = [name for name in options if build is not None and len(options) > 1 and _fails(build, name, options[name])]
    named = alone[:1] or list(options)
    keys = dict.fromkeys((meant or {}).get(name, "network.options") for name in named)
    given = ", ".join(f"{name}={_brief(options[name], _SHOWN)}" for name in named)
    raise UserError(
        f"{', '.join(keys)}: {backbone} cannot be built with {given} ({reason(error)})" + _nearest(error, build)
    ) from error


def _fails(build: Callable[..., nn.Module], name: str, value: Any) -> bool:
    try:
        build(**{name: value})
    except Exception:  # any kind, as above
        return True
    return False


def reason(error: Exception) -> str:
    """What the library says: its first line, with the kind of error where that alone explains the rest."""
    said = " ".join(str(error).partition("\n")[0].split())
    kind = type(error).__name__
    if not said or isinstance(error, KeyError | AttributeError | IndexError | AssertionError):
        said = f"{kind}: {said}" if said else kind
    return said if len(said) <= _REASON else f"{said[:_REASON]}…"


def _brief(value: Any, limit: int) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _nearest(error: Exception, build: Callable[..., nn.Module] | None) -> str:
    """The option of the network whose name is most like one that it does not know."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None or build is None:
        return ""
    try:
        network = build()
    except Exception:  # it cannot be built without arguments: there is nothing to compare with
        return ""
    return did_you_mean(unknown[1], inspect.signature(type(network).__init__).parameters)

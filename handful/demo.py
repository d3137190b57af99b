"""A page to play with: drop a picture, see what decided, move a feature and watch the class change."""

import html
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handful.errors import UserError
from handful.explain import Explainer, Explanation, explain
from handful.explain.feature_names import feature_label
from handful.images.reading import open_image
from handful.networks import Classifier
from handful.text import distinct_names, markdown_text, safe_text

#: Classes that are listed.
_CLASSES = 5

#: Characters of a class's name.
_NAME = 60

#: Steps of a slider, about.
_STEPS = 200

#: A slider reaches a tie where that is no further away than so many times the feature's value.
_FAR = 10


@dataclass(frozen=True)
class Reach:
    """Where a slider goes: round numbers, all of them reached.

    Example:
        >>> reach_of(2.4106840252876283, None)
        Reach(least=-4.83, most=9.65, step=0.01, value=2.41)
        >>> reach_of(0.0, None).most > 0
        True
    """

    least: float
    most: float
    step: float
    value: float


def reach_of(value: float, tie: float | None) -> Reach:
    """The slider of a feature: from zero or below to thrice its value, and on to the value that makes a tie.

    Args:
        value: of the feature in the picture.
        tie: value that makes the two strongest classes level; None where none does.
    """
    wide = 3 * max(abs(value), 1e-3)
    places = [0.0, value - wide, value + wide]
    if tie is not None and abs(tie - value) <= _FAR * wide:
        places += [tie, tie + 0.1 * (tie - value)]  # a little beyond, where the class is another
    digits = -math.floor(math.log10((max(places) - min(places)) / _STEPS))
    step = 10.0**-digits
    least, most = (round(turn(place / step) * step, digits) for turn, place in
                   ((math.floor, min(places)), (math.ceil, max(places))))  # fmt: skip
    return Reach(least, most, round(step, digits), round(value, digits))


class Demo:
    """What the page does, without the page.

    Args:
        model: knows its inputs; in evaluation mode.
        methods: attribution methods that are drawn.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.5,) * 3)
        >>> demo = Demo(model)
        >>> why = demo.decide(Image.new("RGB", (40, 40)))
        >>> feature, value = demo.features(why)[0][1], why.contributions[0].value
        >>> max(moved := demo.shares(why, feature, value), key=moved.get) == why.prediction.name
        True
    """

    def __init__(self, model: Classifier, methods: str = "cam") -> None:
        self.model, self.methods = model, methods
        Explainer(model, methods=methods)  # refuses what could not be explained
        assert model.inputs is not None
        self.names = distinct_names(model.inputs.class_names, _NAME)

    def decide(self, picture: Any) -> Explanation:
        """Explain a picture: its file, read as every command reads it, or what `handful.explain` takes.

        Raises:
            UserError: the picture cannot be read or explained.
        """
        if not isinstance(picture, str | Path):
            return explain(self.model, picture, self.methods)
        assert self.model.inputs is not None
        name = Path(picture).name
        image = open_image(picture, name, white=self.model.inputs.white, least=self.model.inputs.image_size)
        return replace(explain(self.model, image, self.methods), name=name)

    def features(self, why: Explanation) -> list[tuple[str, int]]:
        """Label and number of the features that part the predicted class and the next, the strongest first."""
        parts = {one.feature: f" · {one.contribution:+.2f}" for one in why.contributions}
        parts |= {one.feature: "" for one in why.runner_up.features if one.feature not in parts}
        return [(f"{feature_label(f, self.model.feature_names)}{said}", f) for f, said in parts.items()]

    def value(self, why: Explanation, feature: int) -> float:
        """The feature's value in the picture."""
        return float(why.parts.features[0, feature])

    def reach(self, why: Explanation, feature: int) -> Reach:
        """Where the slider of a feature goes."""
        ties = (change.needed for change in why.runner_up.would_tie if change.feature == feature)
        return reach_of(self.value(why, feature), next(ties, None))

    @torch.no_grad()
    def logits(self, why: Explanation, feature: int | None = None, value: float = 0.0) -> Tensor:
        """The scores `(C,)` of all classes; where a feature is named, as if it had another value, all else equal."""
        features = why.parts.features.clone()
        if feature is not None:
            features[0, feature] = value
        return self.model.head.in_float64(features)[0]

    def shares(self, why: Explanation, feature: int | None = None, value: float = 0.0) -> dict[str, float]:
        """Probabilities of the strongest classes, as `logits`, by names that differ from one another as shown."""
        logits = self.logits(why, feature, value)
        probabilities, strongest = logits.softmax(dim=0), logits.argsort(descending=True)[:_CLASSES].tolist()
        return {self.names[label]: float(probabilities[label]) for label in strongest}


def build_page(model: Classifier, title: str = "What decides?") -> Any:
    """The page as Gradio blocks; `launch` starts it.

    Raises:
        UserError: Gradio is not installed, or the model cannot be explained.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError("the demo needs the package gradio: pip install 'gradio>=6,<7'") from error
    demo = Demo(model)

    def decide(file: str | None) -> tuple[Any, ...]:
        nothing = None, "", gr.Dropdown(choices=[], value=None), gr.Slider(), None, "", None
        if file is None:
            return "", *nothing
        try:
            why = demo.decide(file)
        except UserError as error:  # said where the picture is, and stays until there is another
            return f'<p role="alert"><strong>{html.escape(safe_text(error))}</strong></p>', *nothing
        first = demo.features(why)
        feature = first[0][1] if first else None
        choices = gr.Dropdown(choices=first, value=feature)
        return "", demo.shares(why), why._repr_html_(), choices, *at(why, feature), why

    def at(why: Explanation | None, feature: int | None) -> tuple[Any, Any, str]:
        """The slider at the feature's own value, the classes there, and nothing to say."""
        if why is None or feature is None:
            return gr.Slider(), None, ""
        reach = demo.reach(why, feature)
        slider = gr.Slider(minimum=reach.least, maximum=reach.most, step=reach.step, value=reach.value)
        return slider, demo.shares(why), ""

    def move(why: Explanation | None, feature: int | None, value: Any) -> tuple[dict[str, float] | None, str]:
        """The classes at a value; while the box of the number is empty, those of the picture, which is said."""
        if why is None or feature is None:
            return None, ""
        if not isinstance(value, int | float) or not math.isfinite(value):
            own = demo.value(why, feature)
            return demo.shares(why), f"<p>No number: the class is that of the picture, where it is {own:.3g}.</p>"
        return demo.shares(why, feature, value), ""

    with gr.Blocks(title=safe_text(title), analytics_enabled=False) as page:
        gr.Markdown(
            f"# {markdown_text(title)}\nDrop a picture: its class, the features that decided, and where they looked. "
            "Then move a feature: which class would it be if that feature were weaker or stronger, all else equal?"
        )
        kept = gr.State()
        with gr.Row():
            with gr.Column():
                picture: Any = gr.Image(type="filepath", image_mode=None, label="picture", buttons=["fullscreen"])
                # Gradio's own reading fails with a traceback, and differs from that of the commands
                picture.preprocess = lambda payload: None if payload is None else payload.path
                said = gr.HTML()
            classes = gr.Label(label="class", num_top_classes=_CLASSES)
        with gr.Row():
            with gr.Column():
                feature = gr.Dropdown(label="feature · what it added to the class", choices=[], interactive=True)
                value = gr.Slider(label="its value", minimum=0, maximum=1, interactive=True, buttons=[])
                unsaid = gr.HTML()
                again = gr.Button("as in the picture", size="sm")
            changed = gr.Label(label="class, with this value", num_top_classes=_CLASSES)
        explanation = gr.HTML(label="why")
        gr.on(
            [picture.change, picture.clear], decide, picture,
            [said, classes, explanation, feature, value, changed, unsaid, kept], api_name="decide",
            trigger_mode="always_last",
        )  # fmt: skip
        gr.on([feature.input, again.click], at, [kept, feature], [value, changed, unsaid], show_progress="hidden")
        gr.on(
            [value.input, value.release], move, [kept, feature, value], [changed, unsaid], trigger_mode="always_last",
            show_progress="hidden", preprocess=False,  # Gradio's own fails where the number was erased
        )  # fmt: skip
    return page

"""A page to play with: drop a picture, see what decided, move a feature and watch the class change."""

from typing import Any

import numpy as np
import torch

from handful.errors import UserError
from handful.explain import Explainer, Explanation, explain
from handful.explain.feature_names import feature_label
from handful.explain.scores import ClassScore, strongest_classes
from handful.networks import Classifier

#: Classes that are listed.
_CLASSES = 5


class Demo:
    """What the page does, without the page.

    Args:
        model: knows its inputs; in evaluation mode.
        methods: attribution methods that are drawn.

    Example:
        >>> from handful import Inputs, build_classifier
        >>> model = build_classifier({"backbone": "conv4", "options": {"width": 4}}, 2).eval()
        >>> model.inputs = Inputs(["owl", "wren"], 32, (0.5,) * 3, (0.5,) * 3)
        >>> demo = Demo(model)
        >>> why = demo.decide(np.zeros((40, 40, 3), dtype=np.uint8))
        >>> feature, value = demo.features(why)[0][1], why.contributions[0].value
        >>> demo.moved(why, feature, value)[0].name == why.prediction.name
        True
    """

    def __init__(self, model: Classifier, methods: str = "cam") -> None:
        self.model, self.methods = model, methods
        Explainer(model, methods=methods)  # refuses what could not be explained

    def decide(self, pixels: "np.ndarray[Any, Any]") -> Explanation:
        """Explain a picture, pixels uint8 `(H, W, 3)`."""
        return explain(self.model, pixels, self.methods)

    def features(self, why: Explanation) -> list[tuple[str, int]]:
        """Label and number of the features that part the predicted class and the next, the strongest first."""
        numbers = [one.feature for one in why.contributions]
        numbers += [one.feature for one in why.runner_up.features if one.feature not in numbers]
        return [(feature_label(feature, self.model.feature_names), feature) for feature in numbers]

    def value(self, why: Explanation, feature: int) -> float:
        """The feature's value in the picture."""
        return float(why.parts.features[0, feature])

    @torch.no_grad()
    def moved(self, why: Explanation, feature: int, value: float) -> tuple[ClassScore, ...]:
        """The strongest classes where one feature had another value, all else equal."""
        assert self.model.inputs is not None
        features = why.parts.features.clone()
        features[0, feature] = value
        weight, bias = (part.detach().cpu().double() for part in self.model.head.class_weights())
        return strongest_classes((features @ weight.T + bias)[0], self.model.inputs.class_names, _CLASSES)


def build_page(model: Classifier, title: str = "What decides?") -> Any:
    """The page as Gradio blocks; `launch` starts it.

    Raises:
        UserError: Gradio is not installed, or the model cannot be explained.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError("the demo needs the package gradio: pip install 'gradio>=5,<7'") from error
    demo = Demo(model)

    def shares(scores: tuple[ClassScore, ...]) -> dict[str, float]:
        return {score.name: score.probability for score in scores}

    def decide(pixels: "np.ndarray[Any, Any] | None") -> tuple[Any, ...]:
        if pixels is None:
            return None, "", gr.Dropdown(choices=[]), gr.Slider(), None, None
        why = demo.decide(pixels)
        first = demo.features(why)
        feature = first[0][1] if first else None
        return (
            shares(why.top),
            why._repr_html_(),
            gr.Dropdown(choices=first, value=feature),
            *at(why, feature),
            why,
        )

    def at(why: Explanation | None, feature: int | None) -> tuple[Any, Any]:
        """The slider at the feature's own value, and the classes there."""
        if why is None or feature is None:
            return gr.Slider(), None
        value = demo.value(why, feature)
        reach = max(abs(value), 1e-3) * 3
        slider = gr.Slider(minimum=min(0.0, value - reach), maximum=value + reach, value=value)
        return slider, shares(demo.moved(why, feature, value))

    def move(why: Explanation | None, feature: int | None, value: float) -> dict[str, float] | None:
        return None if why is None or feature is None else shares(demo.moved(why, feature, value))

    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown("Drop a picture: the class, what decided, and what it would be if one feature were different.")
        kept = gr.State()
        with gr.Row():
            with gr.Column():
                picture = gr.Image(type="numpy", label="picture")
                classes = gr.Label(label="class", num_top_classes=_CLASSES)
            with gr.Column():
                feature = gr.Dropdown(label="feature", choices=[], interactive=True)
                value = gr.Slider(label="its value", minimum=0, maximum=1, interactive=True)
                changed = gr.Label(label="class, with this value", num_top_classes=_CLASSES)
        explanation = gr.HTML(label="why")
        picture.change(decide, picture, [classes, explanation, feature, value, changed, kept], api_name="decide")
        feature.input(at, [kept, feature], [value, changed])
        value.release(move, [kept, feature, value], changed)
    return page

"""The one contract that every method, metric and callback of Handful relies on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from handful.images.model_inputs import Inputs
from handful.networks import backbone as backbones
from handful.networks.head import Head, as_head

if TYPE_CHECKING:
    from handful.networks.build import NetworkConfig
    from handful.prediction import Pictures, Prediction


class Classifier(nn.Module):
    """A backbone with spatial feature maps, a spatial mean, and a head that is linear in the pooled features.

    `model(images) == model.head(model.pool(model.feature_maps(images)))`, so a class activation map averages
    to its logit less the bias, and contributions `w·f` add up to it.

    Args:
        backbone: maps images `(B, 3, H, W)` to feature maps `(B, F, h, w)`, NCHW; has `num_features` = F, and
            `in_channels` where the images have other than 3 channels.
        head: maps pooled features `(B, F)` to logits `(B, C)`; one `nn.Linear` becomes a `DenseHead`.

    Raises:
        UserError: the head is not one linear layer.

    Attributes:
        inputs: class names, image size and normalisation of the images it was trained on, where they are known.
        network: what the backbone was built from, where it is known.
        feature_names: feature → name that a person gave it.

    Example:
        >>> import torch
        >>> from handful.networks.build import build_backbone
        >>> model = Classifier(build_backbone({"backbone": "conv4", "options": {"width": 4}}), nn.Linear(4, 2)).eval()
        >>> images = torch.zeros(1, 3, 32, 32)
        >>> bool((model(images) == model.head(model.pool(model.feature_maps(images)))).all())
        True
    """

    inputs: Inputs | None = None
    network: "NetworkConfig | None" = None
    feature_names: Mapping[int, str]

    def __init__(self, backbone: nn.Module, head: Head | nn.Linear) -> None:
        super().__init__()
        self.feature_names = {}
        self.backbone = backbone
        self.head: Head = as_head(head)

    @property
    def num_features(self) -> int:
        """F, the number of feature maps of the backbone."""
        return backbones.num_features(self.backbone)

    @property
    def num_classes(self) -> int:
        """C, the number of logits."""
        return self.head.num_classes

    def with_head(self, head: Head | nn.Linear) -> "Classifier":
        """Another classifier on the same backbone, which knows the same of its images."""
        classifier = Classifier(self.backbone, head)
        classifier.network, classifier.inputs = self.network, self.inputs
        classifier.feature_names = self.feature_names
        return classifier

    def feature_maps(self, images: Tensor) -> Tensor:
        """Images float32 `(B, 3, H, W)`, normalised → feature maps `(B, F, h, w)`."""
        return backbones.feature_maps(self.backbone, images)

    def pool(self, maps: Tensor) -> Tensor:
        """Feature maps `(B, F, h, w)` → features `(B, F)`, the spatial mean."""
        return maps.mean(dim=(2, 3))

    def features(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → pooled features `(B, F)`."""
        return self.pool(self.feature_maps(images))

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` → logits `(B, C)`."""
        return self.head(self.features(images))

    def predict(self, pictures: "Pictures", batch_size: int = 32) -> "Prediction":
        """Classify files, Pillow images or normalised images `(N, 3, H, W)`, as `handful.prediction.predict`."""
        from handful.prediction import predict

        return predict(self, pictures, batch_size)

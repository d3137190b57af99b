"""A synthetic run of many classes, large enough to show what a report weighs, without training."""

import torch

from handful import Inputs, SparseHead, build_classifier
from handful.explain.deciding import DecidingFeatures
from handful.report.content import Content

SIDE = 64


class Noise:
    """Images drawn from their index: coloured blocks under noise, which compress no better than photographs."""

    def __init__(self, labels, pictures=None):
        self.labels, self.pictures = labels, pictures

    def __getitem__(self, index):
        if self.pictures is not None:
            return self.pictures[index], int(self.labels[index])
        draw = torch.Generator().manual_seed(int(index))
        blocks = torch.rand(3, 8, 8, generator=draw).repeat_interleave(8, 1).repeat_interleave(8, 2)
        return blocks + 0.3 * torch.rand(3, SIDE, SIDE, generator=draw) - 0.5, int(self.labels[index])


def large_content(folder, classes=200, features=50, per_class=5, images_per_class=5, pictures=None) -> Content:
    """A `Content` whose numbers follow from a seed; of the pictures given, or of noise."""
    torch.manual_seed(0)
    model = build_classifier({"backbone": "conv4", "options": {"width": features + 14}}, classes).eval()
    head = SparseHead(features + 14, classes, features)
    weight = torch.zeros(classes, features)
    for row in weight:
        row[torch.randperm(features)[:per_class]] = torch.randn(per_class)
    head.fill(torch.randperm(features + 14)[:features], torch.zeros(features), torch.ones(features), weight,
              torch.randn(classes) * 0.1)  # fmt: skip
    model.head = head
    names = [f"{place:03d}.Sparrow of the kind {place}" for place in range(classes)]
    images = Noise(torch.zeros(len(pictures or range(classes * images_per_class))), pictures)
    with torch.no_grad():
        batch = torch.stack([images[index][0] for index in range(len(images.labels))])
        pooled = torch.cat([model.features(part) for part in batch.split(100)])
        head.mean.copy_(pooled.mean(dim=0)[head.selection])
        head.std.copy_(pooled.std(dim=0)[head.selection])
        labels = head(pooled).argmax(dim=1)
    wrong = torch.rand(len(labels)) < 0.3
    labels[wrong] = torch.randint(classes, (int(wrong.sum()),))
    stages = {
        "dense": {"accuracy": 81.5, "n_features": 64, "features_per_class": 64.0},
        "sparse": {"accuracy": 77.25, "n_features": features, "features_per_class": float(per_class)},
    }
    return Content(
        title="synthetic",
        folder=folder,
        results={"stages": stages, "seconds": {"dense": 12.0}, "peak_memory_mib": {"dense": 800.0}},
        stage_table=(["stage", "accuracy"], [[name, f"{row['accuracy']:.2f}"] for name, row in stages.items()]),
        config="name: synthetic\n",
        explained="phase sparsify",
        deciding=DecidingFeatures(model, pooled, labels, names),
        dataset=Noise(labels, pictures),
        inputs=Inputs(names, SIDE, (0.5,) * 3, (0.25,) * 3),
    )

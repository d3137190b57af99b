import torch
from torch import nn

from handful.attribution import attribute
from handful.fewshot.prototypes import (
    Embedding,
    QueryScores,
    SupportScores,
    contrast,
    episode_scores,
    prototype_scores,
    prototypes,
)
from handful.networks.conv4 import Conv4


def embedding() -> Embedding:
    torch.manual_seed(0)
    return Embedding(Conv4(width=8), "flatten").eval()


def test_conv4_has_the_usual_size() -> None:
    net = Conv4()
    images = torch.randn(2, 3, 84, 84)
    assert net(images).shape == (2, 64, 5, 5)
    assert Embedding(net, "flatten")(images).shape == (2, 1600)
    assert Embedding(net, "mean")(images).shape == (2, 64)
    assert sum(p.numel() for p in net.parameters()) == 3 * 9 * 64 + 3 * 64 * 9 * 64 + 4 * 2 * 64


def test_prototypes_are_means() -> None:
    support = torch.randn(3, 1, 7)
    assert torch.equal(prototypes(support), support[:, 0])
    torch.testing.assert_close(prototypes(support.expand(3, 5, 7)), support[:, 0])


def test_scores_against_cdist() -> None:
    queries, means = torch.randn(6, 9, dtype=torch.float64).float(), torch.randn(4, 9)
    torch.testing.assert_close(
        prototype_scores(queries, means), -(torch.cdist(queries, means) ** 2), rtol=1e-4, atol=1e-4
    )


def test_an_image_is_nearest_to_itself() -> None:
    vectors = torch.randn(5, 1, 8)
    scores, labels = episode_scores(torch.cat([vectors, vectors], 1), shot=1)
    assert torch.equal(scores.argmax(1), labels)
    assert torch.equal(scores.diagonal(), torch.zeros(5))


def test_an_episode_against_a_loop() -> None:
    embedded = torch.randn(3, 4, 5)
    scores, labels = episode_scores(embedded, shot=2)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    for q in range(6):
        query = embedded[q // 2, 2 + q % 2]
        for c in range(3):
            mean = (embedded[c, 0] + embedded[c, 1]) / 2
            torch.testing.assert_close(scores[q, c], -((query - mean) ** 2).sum())


def test_any_method_explains_a_query() -> None:
    net, images = embedding(), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        means = net(images[:3])
    scorer = QueryScores(net, means).eval()
    query = images[3:]
    plain = attribute(scorer, query, 1, method="gradient").raw
    # another order of the classes is another order of the maps
    permuted = QueryScores(net, means[[1, 2, 0]]).eval()
    torch.testing.assert_close(attribute(permuted, query, 0, method="gradient").raw, plain)
    # what all scores share does not count between two classes
    shifted = nn.Sequential(scorer, Add(1000.0)).eval()
    for model in (scorer, shifted):
        difference = attribute(model, query, contrast(1, 2), method="gradient").raw
        other = attribute(scorer, query, 2, method="gradient").raw
        torch.testing.assert_close(difference, plain - other, rtol=1e-3, atol=1e-4)
    assert scorer(query).requires_grad
    assert not scorer.means.requires_grad


class Add(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return scores + self.value


def test_a_support_image_moves_its_own_class_only() -> None:
    net, images = embedding(), torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        support, query = net(images[:4]).view(2, 2, -1), net(images[4:])[0]
        expected = prototype_scores(query[None], prototypes(support))
    scorer = SupportScores(net, query, support, way=1, place=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(scorer(images[2:3]), expected, rtol=1e-4, atol=1e-3)
    assert attribute(scorer, images[2:3], 0, method="gradient").raw.abs().max() == 0
    assert attribute(scorer, images[2:3], 1, method="gradient").raw.abs().max() > 0

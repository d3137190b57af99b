import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from datamodules import Episodes
from handful.errors import UserError
from handful.fewshot.episodes import EpisodeSampler
from handful.fewshot.prototypes import prototype_scores
from lightning_modules import InfoMaxPlugin, Prototypical, load_module
from lightning_modules.prototypical import EpisodeTester
from tests.datamodules.fakes import write_images
from tests.helpers.phases import run_phase

NETWORK = {"backbone": "conv4", "options": {"width": 4}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    counts = {f"bird{i}": 5 for i in range(9)}
    folder = write_images(tmp_path_factory.mktemp("birds"), {"train": counts, "test": counts}, size=(20, 20))
    return lambda: Episodes(
        str(folder), way=3, shot=1, query=2, episodes=4, image_size=16, fractions=(0.34, 0.33, 0.33), eval_batch_size=4
    )


def trainer(folder, **options):
    folder.mkdir(exist_ok=True)
    return pl.Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0} | options,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[pl.callbacks.ModelCheckpoint(folder, "last", enable_version_counter=False)],
    )


def prototypical() -> Prototypical:
    torch.manual_seed(0)
    return Prototypical(NETWORK, way=3, query=2, val_episodes=7, test_episodes=21, test_shots=(1, 3))


def test_the_tester_gives_the_accuracy_of_the_episodes_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat(8)
    embeddings = torch.randn(48, 5, generator=generator) + nn.functional.one_hot(labels, 6)[:, :5]
    tester = EpisodeTester(way=4, query=3, episodes=20, seed=9)
    for part in torch.arange(48).split(11):
        tester.add(embeddings[part], labels[part])
    accuracy, interval = tester.accuracy([2], torch.device("cpu"))[2]
    sampler = EpisodeSampler(labels, way=4, shot=2, query=3, episodes=20, seed=9)
    found = []
    for e in range(20):
        chosen = sampler.draw(e)
        means = torch.stack([embeddings[chosen[5 * c : 5 * c + 2]].mean(0) for c in range(4)])
        queries = [i for c in range(4) for i in chosen[5 * c + 2 : 5 * c + 5]]
        truth = torch.arange(4).repeat_interleave(3)
        found.append(float((prototype_scores(embeddings[queries], means).argmax(1) == truth).double().mean()))
    assert accuracy == pytest.approx(100 * sum(found) / 20)
    deviation = torch.tensor(found, dtype=torch.float64).std(correction=0)
    assert interval == pytest.approx(196 * float(deviation) / 20**0.5)


def test_it_learns_and_its_checkpoint_alone_rebuilds_it(tmp_path, data) -> None:
    module, datamodule = prototypical(), data()
    before = [p.clone() for p in module.parameters()]
    run_phase(module, trainer(tmp_path), datamodule)
    assert not any(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True) if a.dim() > 1)
    loaded = load_module(tmp_path / "last.ckpt")
    images = torch.stack([datamodule.test_dataset[i][0] for i in range(3)])
    with torch.no_grad():
        assert torch.equal(loaded(images), module.eval()(images))
    assert (tmp_path / "stages.json").is_file()
    assert set(module.results or {}) <= {"accuracy_1_shot", "interval_1_shot", "accuracy_3_shot", "interval_3_shot"}


def test_two_processes_give_the_numbers_of_one(tmp_path, data) -> None:
    module = prototypical()
    one = trainer(tmp_path / "one").test(module, data(), verbose=False)[0]
    two = trainer(tmp_path / "two", devices=2, strategy="ddp_fork").test(prototypical(), data(), verbose=False)[0]
    assert set(one) == {
        "test/accuracy_1_shot", "test/interval_1_shot", "test/accuracy_3_shot", "test/interval_3_shot"
    }  # fmt: skip
    assert two == one


def test_a_batch_that_is_no_episode_is_refused(data) -> None:
    with pytest.raises(UserError, match="Episodes"):
        prototypical().training_step((torch.randn(7, 3, 16, 16), torch.zeros(7)), 0)


def test_the_plugin_on_its_embedding(tmp_path, data) -> None:
    folder = tmp_path / "prototypical"
    module = prototypical()
    run_phase(module, trainer(folder), data())
    (folder / "last.ckpt").rename(folder / "best.ckpt")
    plugin = InfoMaxPlugin(
        source="prototypical", units=16, hidden=16, components=8, bank_size=64, statistics_images=40, samples=2,
        image_size=16, local_layer="backbone.layer2",
    )  # fmt: skip
    plugin.take({"prototypical": folder})
    before = {name: value.clone() for name, value in plugin.plugin.base.state_dict().items()}
    run_phase(plugin, trainer(tmp_path / "plugin"), data())
    assert all(torch.equal(value, before[name]) for name, value in plugin.plugin.base.state_dict().items())
    assert plugin.head == "gaussian"
    assert plugin.plugin.code.components == 4
    loaded = load_module(tmp_path / "plugin" / "last.ckpt")
    images = torch.stack([data().train_dataset.split.pixels(i)[:, :16, :16].float() / 255 for i in range(4)])
    for name, value in loaded.plugin.maps(images).items():
        assert torch.equal(value, plugin.eval().plugin.maps(images)[name]), name

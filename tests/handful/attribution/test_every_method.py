"""What holds for every method: batches, chunks, memory, seeds, targets, and no trace left in the model."""

import contextlib

import pytest
import torch
import torch.distributed
from torch import nn

from handful.attribution import AttributionContext, attribute, get, names, register, unregister
from handful.attribution.state import run_in_chunks, undisturbed
from handful.attribution.targets import Targets
from handful.errors import UserError
from tests.handful.attribution.nets import images, linear_model, relu_classifier

QUICK = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 5},
    "occlusion": {"window": 6},
    "lime": {"samples": 20, "n_segments": 6, "segments": "grid"},
    "meaningful_perturbation": {"iterations": 4, "area_weight": 0.0},
}
OWN = [name for name in names() if name in (
    "cam", "deconvolution", "gradcam", "gradient", "guided_backprop", "input_x_gradient", "integrated_gradients",
    "lime", "lrp", "meaningful_perturbation", "occlusion", "smoothgrad",
)]  # fmt: skip


def run(method, model, x, target="pred", **more):
    return attribute(model, x, target, method=method, **(QUICK.get(method, {}) | more))


def test_all_methods_are_there():
    assert len(OWN) == 12


@pytest.mark.parametrize("method", OWN)
def test_a_batch_equals_its_images_one_by_one_and_any_chunk(method):
    model, x = relu_classifier(), images(3)
    together = run(method, model, x)
    assert together.raw.dtype == torch.float32
    assert together.map().shape == (3, 12, 12)
    assert together.map((24, 20)).shape == (3, 24, 20)
    singles = torch.cat([run(method, model, x[i : i + 1]).raw for i in range(3)])
    torch.testing.assert_close(together.raw, singles, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run(method, model, x, chunk=2).raw, together.raw, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.predictions, model.eval()(x).argmax(1))


@pytest.mark.parametrize("method", OWN)
def test_several_targets_equal_each_alone(method):
    model, x = relu_classifier(), images(2)
    both = run(method, model, x, torch.tensor([[0, 1], [3, 2]]))
    assert both.map().shape == (2, 2, 12, 12)
    if method == "meaningful_perturbation":  # the random shifts differ by target
        return
    for column, target in enumerate([torch.tensor([0, 3]), torch.tensor([1, 2])]):
        torch.testing.assert_close(both.raw[:, column], run(method, model, x, target).raw, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("surroundings", [contextlib.nullcontext, torch.no_grad, torch.inference_mode])
def test_the_model_is_left_as_it_was_found(method, surroundings):
    model = relu_classifier()
    model.backbone[1].eval()  # a frozen batch norm inside a model in training
    model.backbone[0].weight.requires_grad_(False)
    model(images()).sum().backward()
    with surroundings():
        x, labels = images(), torch.tensor([1, 0, 2])
        before, grads = _state(model), [p.grad for p in model.parameters()]
        random_state = torch.get_rng_state()
        found = run(method, model, x, "label", labels=labels)
    assert found.raw.abs().max() > 0
    assert _state(model) == before
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not found.raw.requires_grad
    assert not found.scores.requires_grad


def test_hooks_at_a_layer_are_gone_afterwards():
    model = relu_classifier()
    before = _state(model)
    attribute(model, images(), method="gradcam", layer="backbone.2")
    assert _state(model) == before
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    before = _state(plain)
    attribute(plain, images(), method="gradcam")
    assert _state(plain) == before


@pytest.mark.parametrize("method", OWN)
def test_an_exception_leaves_no_trace_either(method):
    model = relu_classifier()
    before = _state(model)
    with pytest.raises(UserError, match="out of range: the model has 4 classes, 0 to 3"):
        run(method, model, images(), 4)
    assert _state(model) == before


def test_hooks_at_a_layer_are_gone_after_an_exception_too():
    model = relu_classifier()
    before = _state(model)
    with pytest.raises(UserError, match="out of range"):
        attribute(model, images(), 4, method="gradcam", layer="backbone.2")
    assert _state(model) == before
    with pytest.raises(UserError, match="not maps"):
        attribute(model, images(), method="gradcam", layer="head")
    assert _state(model) == before
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    before = _state(plain)
    with pytest.raises(UserError, match="shapes"):
        attribute(plain, images(size=13), method="gradcam")
    assert _state(plain) == before


def test_logits_that_were_seen_in_part_are_made_for_all():
    model, x = relu_classifier().eval(), images()
    context = AttributionContext(model, x, Targets("pred", 3), method="any")
    with torch.no_grad():
        context.observe(0, model(x[:1]))
        torch.testing.assert_close(context.clean_logits(), model(x))
    assert torch.equal(context.targets.index[:, 0], model(x).argmax(1))


@pytest.mark.parametrize("method", OWN)
def test_memory_that_runs_out_halves_the_chunk(method):
    model, x = relu_classifier(), images(4)
    expected = run(method, model, x).raw
    largest = 0

    def full(_module, args):
        nonlocal largest
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("no more")
        largest = max(largest, len(args[0]))

    handle = model.backbone[0].register_forward_pre_hook(full)
    if method == "lrp":  # works on a copy, which has no hooks of the model's
        handle.remove()
        return
    torch.testing.assert_close(run(method, model, x, chunk=4).raw, expected, rtol=1e-4, atol=1e-5)
    assert largest in (1, 2)


def test_one_item_that_does_not_fit_is_an_error():
    def work(start, stop):
        raise torch.OutOfMemoryError("no")

    with pytest.raises(torch.OutOfMemoryError):
        run_in_chunks(3, 2, work)


@pytest.mark.parametrize("method", ["smoothgrad", "lime", "meaningful_perturbation"])
def test_random_numbers_belong_to_seed_image_and_method(method):
    model, x = relu_classifier(), images(3)
    first = run(method, model, x, 1, image_ids=[7, 8, 9]).raw
    torch.testing.assert_close(
        run(method, model, x.flip(0), 1, image_ids=[9, 8, 7]).raw.flip(0), first, rtol=1e-4, atol=1e-5
    )
    assert not torch.equal(run(method, model, x, 1, image_ids=[7, 8, 9], seed=1).raw, first)
    assert not torch.equal(run(method, model, x, 1, image_ids=[1, 2, 3]).raw, first)
    other = [job_seed(method, 0, 7), job_seed("another", 0, 7)]
    assert other[0] != other[1]


def job_seed(method, seed, image_id):
    x = images(1)
    context = AttributionContext(relu_classifier(), x, Targets(0, 1), method=method, seed=seed, image_ids=[image_id])
    return context.generator(0).initial_seed()


@pytest.mark.parametrize("method", ["gradcam", "guided_backprop", "integrated_gradients"])  # all ways in
def test_a_compiled_model_gives_the_same(method):
    model, x = relu_classifier().eval(), images()
    layer = {"layer": "backbone.2"} if method == "gradcam" else {}
    expected = run(method, model, x, **layer).raw
    wrapped = torch.compile(model, backend="eager")
    wrapped(x)
    torch.testing.assert_close(run(method, wrapped, x, **layer).raw, expected)
    inside = relu_classifier()
    inside.backbone = torch.compile(inside.backbone, backend="eager")
    inside.eval()(x)
    torch.testing.assert_close(run(method, inside, x, **layer).raw, expected)
    in_place = relu_classifier()
    in_place.backbone.compile(backend="eager")
    in_place.eval()(x)
    torch.testing.assert_close(run(method, in_place, x, **layer).raw, expected)
    torch.compiler.reset()


def test_code_compiled_before_does_not_hide_a_layer():
    model, x = relu_classifier().eval().requires_grad_(False), images()
    expected = run("gradcam", model, x, layer="backbone.2").raw
    model.backbone.compile(backend="eager")
    model(x)  # from now on there is code for just this call, and it knows of no hooks
    torch.testing.assert_close(run("gradcam", model, x, layer="backbone.2").raw, expected)
    torch.compiler.reset()


def test_a_model_wrapped_for_several_processes_gives_the_same(tmp_path):
    model, x = relu_classifier(), images()
    expected = run("gradcam", model, x).raw
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        torch.testing.assert_close(run("gradcam", wrapped, x).raw, expected)
        torch.testing.assert_close(run("cam", wrapped, x).raw.relu() / 36, expected, rtol=1e-4, atol=1e-6)
        wrapped(x).sum().backward()  # the reducer still works
        assert all(p.grad is not None for p in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_autocast_is_off():
    model, x = relu_classifier(), images()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run("gradient", model, x, 1).raw
    torch.testing.assert_close(inside, run("gradient", model, x, 1).raw, rtol=0, atol=0)


def test_targets():
    model, x = relu_classifier(), images()
    logits = model.eval()(x)
    assert torch.equal(attribute(model, x, method="gradient").targets, logits.argmax(1))
    assert torch.equal(attribute(model, x, "top2", method="gradient").targets, logits.topk(2).indices)
    assert attribute(model, x, [1, 2, 0], method="gradient").targets.tolist() == [1, 2, 0]
    with pytest.raises(UserError, match="2 targets for 3 images"):
        attribute(model, x, torch.tensor([1, 2]), method="gradient")
    with pytest.raises(UserError, match="out of range"):
        attribute(model, x, -1, method="gradient")
    with pytest.raises(UserError, match="labels"):
        attribute(model, x, "label", method="gradient")
    with pytest.raises(UserError, match="more classes than the 4"):
        attribute(model, x, "top5", method="gradient")
    with pytest.raises(UserError, match='"best" is unknown'):
        attribute(model, x, "best", method="gradient")
    with pytest.raises(UserError, match="expected integers, got float32 with a fraction"):
        attribute(model, x, torch.tensor([0.5, 1, 1]), method="gradient")
    with pytest.raises(UserError, match="one score per row"):
        attribute(model, x, lambda logits: logits.sum(), method="gradient")


def test_the_predicted_class_is_that_of_the_clean_image():
    class Fickle(nn.Module):
        """Predicts class 0 for the clean image and class 1 for any other."""

        def __init__(self, clean):
            super().__init__()
            self.clean = clean

        def forward(self, x):
            same = (x == self.clean).flatten(1).all(1, keepdim=True)
            total = x.flatten(1).sum(1, keepdim=True)
            return torch.cat([total, torch.where(same, total - 1, total + 3 * x.flatten(1)[:, :1])], dim=1)

    x = images(1).abs() + 1
    raw = attribute(Fickle(x), x, method="smoothgrad", samples=4).raw
    torch.testing.assert_close(raw, torch.ones_like(raw))


def test_bad_requests_are_one_sentence():
    model, x = relu_classifier(), images()
    with pytest.raises(UserError, match=r'no attribution method "gradcamm": there are .*gradcam'):
        attribute(model, x, method="gradcamm")
    with pytest.raises(UserError, match="its options are: samples, level"):
        attribute(model, x, method="smoothgrad", stdev=1)
    with pytest.raises(UserError, match="non-empty batch"):
        attribute(model, x[0], method="gradient")
    with pytest.raises(UserError, match="chunk"):
        attribute(model, x, method="gradient", chunk=0)
    with pytest.raises(UserError, match="2 image_ids for 3 images"):
        attribute(model, x, method="gradient", image_ids=[1, 2])
    with pytest.raises(UserError, match="normalisation"):
        attribute(model, x, method="occlusion", baseline="black")
    with pytest.raises(UserError, match='baseline "grey" is unknown'):
        attribute(model, x, method="occlusion", baseline="grey")
    with pytest.raises(UserError, match="does not fit"):
        attribute(model, x, method="occlusion", baseline=torch.zeros(5, 7))


def test_a_black_baseline_is_black_before_normalisation():
    model, x = linear_model(), images(size=8, dtype=torch.float64)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    found = attribute(model, x, 0, method="integrated_gradients", baseline="black", normalisation=(mean, std))
    black = -torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
    torch.testing.assert_close(found.raw, model[1].weight[0].reshape(3, 8, 8) * (x - black.reshape(3, 1, 1)))
    assert found.notes["baseline"] == "black"


def test_a_baseline_may_differ_by_image():
    model, x = linear_model(), images(size=8, dtype=torch.float64)
    baseline = torch.arange(3.0, dtype=torch.float64).reshape(3, 1, 1, 1)
    found = attribute(model, x, 0, method="integrated_gradients", baseline=baseline, chunk=2)
    torch.testing.assert_close(found.raw, model[1].weight[0].reshape(3, 8, 8) * (x - baseline))
    assert found.notes["baseline"] == "given"


def test_own_methods_can_be_registered():
    @register("test_total", title="total")
    def total(context):
        return context.images.sum(dim=1)[:, None]

    try:
        assert get("test_total").title == "total"
        torch.testing.assert_close(attribute(linear_model(), images(size=8), method="test_total").raw.shape, (3, 8, 8))
        with pytest.raises(ValueError, match="registered already"):
            register("test_total")(lambda context: context.images)
    finally:
        unregister("test_total")


def test_undisturbed_restores_after_a_failure():
    model = relu_classifier()
    before = _state(model)

    def fail():
        with undisturbed(model):
            assert not any(module.training for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert _state(model) == before


def _state(model):
    hooks = sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in model.modules()
    )
    return (
        {name: value.tolist() for name, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if parameter.grad is None else parameter.grad.tolist() for parameter in model.parameters()],
        hooks,
    )


@pytest.mark.parametrize(
    ("method", "extra", "told"),
    [
        ("gradient", {"layer": "backbone.2"}, "gradient takes no layer"),
        ("cam", {"layer": "backbone.2"}, "cam takes no layer"),
        ("gradcam", {"baseline": "mean"}, "gradcam takes no baseline"),
        ("smoothgrad", {"baseline": "mean", "layer": "backbone.2", "samples": 2}, "takes no baseline and no layer"),
    ],
)
def test_what_a_method_does_not_take_is_refused(method, extra, told):
    with pytest.raises(UserError, match=told):
        attribute(relu_classifier(), images(), method=method, **extra)


def test_a_truth_value_is_no_class():
    with pytest.raises(UserError, match="expected integers, got bool"):
        attribute(relu_classifier(), images(), True, method="gradient")

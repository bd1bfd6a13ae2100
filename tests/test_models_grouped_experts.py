"""Experts as one grouped network against the same experts one after the other; here on the CPU, as on a GPU."""

import copy
import threading
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from class_mixtures import images, mocse
from torch import Tensor, nn

import mocse_timm.models.grouped_experts as grouped_experts
import mocse_timm.models.mixture as mixture
from mocse_timm.models.grouped_experts import GroupedExperts, grouped

MODELS: dict[str, dict[str, Any]] = {
    "preact, nothing shared": {"expert_width": 0.125},
    "preact, three stages shared": {"width": 0.25, "expert_width": 0.125, "shared_stages": 3},
    "resnet": {"backbone": "cifar_resnet18", "expert_width": 0.125, "shared_stages": 1},
    "vgg": {"backbone": "cifar_vgg16_bn", "expert_width": 0.125},
}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_experts, "DEVICES", ("cpu",))
    monkeypatch.setattr(mixture, "can_run_in_parallel", lambda *_: False)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return mocse(**MODELS[request.param])


def run_grouped(model: Any, x: Tensor) -> list[Tensor]:
    together = grouped(model.experts, x)
    assert together is not None
    return together.run(x)


def in_turn(model: Any, x: Tensor) -> list[Tensor]:
    return [expert(x) for expert in model.experts]


def gradients(model: Any, x: Tensor, outputs: list[Tensor]) -> dict[str, Tensor]:
    sum((i + 1) * (output**2).mean() for i, output in enumerate(outputs)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert x.grad is not None
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | {"x": x.grad}


def start(model: Any) -> Tensor:
    """Return what the experts get, as a leaf."""
    with torch.no_grad():
        return model.trunk.eval()(images()).requires_grad_()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_gradients_and_statistics_equal_those_of_experts_in_turn(
    model: Any, training: bool, layout: torch.memory_format
) -> None:
    model.to(memory_format=layout).train(training)
    twin = copy.deepcopy(model)
    x, same_x = start(model), start(twin)
    ours, theirs = run_grouped(model, x), in_turn(twin, same_x)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    found, expected = gradients(model, x, ours), gradients(twin, same_x, theirs)
    assert found.keys() == expected.keys() and len(found) == 1 + len(list(model.experts.parameters()))
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-7, atol=1e-10, msg=name)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-9, atol=1e-12, msg=name)


def test_a_mixture_runs_them_so_and_keeps_its_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mocse(**MODELS["preact, three stages shared"]).to(memory_format=torch.channels_last).eval()
    seen: list[Tensor] = []

    run = GroupedExperts.run

    def watched(self: GroupedExperts, x: Tensor) -> list[Tensor]:
        seen.append(x)
        return run(self, x)

    monkeypatch.setattr(GroupedExperts, "run", watched)
    scores = model(images().to(memory_format=torch.channels_last))
    assert len(seen) == 1 and seen[0].is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(mixture, "grouped", lambda *_: None)
    torch.testing.assert_close(scores, model(images()), rtol=1e-9, atol=1e-12)


def test_what_changed_since_the_last_pass_counts(model: Any) -> None:
    model.eval()
    x = start(model).detach()
    run_grouped(model, x)
    with torch.no_grad():
        for parameter in model.experts[1].parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(run_grouped(model, x), in_turn(model, x), rtol=1e-9, atol=1e-12)
    model.reset_classifier(4)  # of one more expert, too
    torch.testing.assert_close(run_grouped(model, x), in_turn(model, x), rtol=1e-9, atol=1e-12)
    model.experts.train()
    twin = copy.deepcopy(model)
    torch.testing.assert_close(run_grouped(model, x), in_turn(twin, x), rtol=1e-9, atol=1e-12)


def test_settings_of_layers_that_changed_since_the_last_pass_count(model: Any) -> None:
    x = start(model).detach()
    run_grouped(model.train(), x)
    for layer in model.experts.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum, layer.eps = 0.5, 0.1
    twin = copy.deepcopy(model)
    for _ in range(2):
        torch.testing.assert_close(run_grouped(model, x), in_turn(twin, x), rtol=1e-9, atol=1e-12)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-9, atol=1e-12, msg=name)


def test_batch_norms_alone_in_train_mode_keep_their_statistics(model: Any) -> None:
    """As where statistics are estimated anew, or adapted to corrupted images."""
    for layer in model.eval().experts.modules():
        layer.training = isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
    twin, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    run_grouped(model, start(model))
    in_turn(twin, start(twin))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in changed)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_every_expert_counts_its_own_batches(model: Any) -> None:
    for index, expert in enumerate(model.experts):
        for layer in expert.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.num_batches_tracked is not None
                layer.num_batches_tracked.fill_(10 * index)
    run_grouped(model.train(), start(model).detach())
    names = [name for name in model.state_dict() if name.startswith("experts.") and name.endswith("batches_tracked")]
    assert {name.split(".")[1] for name in names} == {"0", "1", "2"}
    for name in names:
        assert model.state_dict()[name] == 10 * int(name.split(".")[1]) + 1


def test_norms_without_statistics_train(model: Any) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    model.train()
    x = start(model)
    torch.testing.assert_close(run_grouped(model, x), in_turn(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax"])
def test_every_pooling_that_keeps_channels_apart(pool: str) -> None:
    model = mocse(expert_width=0.125, global_pool=pool).eval()
    x = start(model)
    torch.testing.assert_close(run_grouped(model, x), in_turn(model, x), rtol=1e-9, atol=1e-12)


def test_frozen_experts_get_no_gradient_and_the_others_theirs(model: Any) -> None:
    model.experts[1].requires_grad_(False)
    x = start(model)
    gradients(model, x, run_grouped(model, x))
    assert all(parameter.grad is None for parameter in model.experts[1].parameters())
    assert all(parameter.grad is not None for parameter in model.experts[2].parameters())


def test_weights_are_let_go_after_every_pass_and_after_one_that_fails(model: Any) -> None:
    names = model.state_dict().keys()
    for x in (start(model), images()[:, :1, :1]):
        with pytest.raises(RuntimeError) if x.shape[1] == 1 else nullcontext():
            run_grouped(model, x)
        _, twin = grouped_experts._twins.known[model.experts]
        assert not [*twin.network.parameters(), *twin.network.buffers()]
    assert model.state_dict().keys() == names


def test_a_change_of_mode_costs_no_new_network(model: Any) -> None:
    x = start(model)
    together = [grouped(model.train(training).experts, x) for training in (True, False, True)]
    assert together[0] is not None and all(each is not None and each.twin is together[0].twin for each in together)


def test_threads_do_not_meet(model: Any) -> None:
    model.eval()
    inputs = [start(model).detach() * factor for factor in (0.5, 1.0, 2.0)]
    expected = [in_turn(model, x) for x in inputs]
    wrong: list[str] = []

    def work(index: int) -> None:
        try:
            for _ in range(5):
                torch.testing.assert_close(run_grouped(model, inputs[index]), expected[index])
        except AssertionError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_ensemble_without_biases_runs_so_too() -> None:
    model = mocse("ensemble", num_experts=3, expert_width=0.125).eval()
    for expert in model.experts:
        expert.head.fc.bias = None
    x = start(model)
    torch.testing.assert_close(run_grouped(model, x), in_turn(model, x), rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_runs_them_so_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_experts, "DEVICES", ("cuda",))
    model = mocse(**MODELS["preact, three stages shared"]).cuda()
    x = images().cuda()
    assert grouped(model.experts, model.trunk(x)) is not None
    ours = model.eval()(x)
    monkeypatch.setattr(mixture, "grouped", lambda *_: None)
    torch.testing.assert_close(ours, model(x), rtol=1e-9, atol=1e-12)

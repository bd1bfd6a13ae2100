"""Experts in threads against the same experts one after the other."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import mocse_timm.models.mixture as mixture
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.parallel_experts import can_run_in_parallel, run_in_parallel


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["mocse_preact18", "mocse_preact18_shared"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {"width": 0.125} if "shared" in request.param else {}
    return timm.create_model(request.param, num_classes=3, expert_width=0.125, **options)


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch):
    """Call a function with threads switched off."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(mixture, "can_run_in_parallel", lambda *_: False)
            return function(*arguments)

    return call


def experts(model: Any) -> list[Any]:
    return list(model.experts)


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def gradients(model: MoCSE, pictures: Tensor) -> dict[str, Tensor]:
    (model(pictures) ** 2).mean().backward()
    assert pictures.grad is not None
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | {"images": pictures.grad}


def test_outputs_gradients_and_statistics_equal_those_of_experts_in_turn(model: MoCSE, in_turn) -> None:
    twin = copy.deepcopy(model)
    assert can_run_in_parallel(experts(model), images())
    ours = gradients(model, images().requires_grad_())
    theirs = in_turn(gradients, twin, images().requires_grad_())
    assert ours.keys() == theirs.keys() and len(ours) == 1 + len(list(model.parameters()))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)
    for name, value in model.state_dict().items():  # batch norms have seen the batch once
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)


def test_two_runs_are_equal_to_the_last_bit(model: MoCSE) -> None:
    first = gradients(copy.deepcopy(model), images().requires_grad_())
    second = gradients(copy.deepcopy(model), images().requires_grad_())
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


def test_frozen_experts_get_no_gradient_and_the_others_theirs(model: MoCSE) -> None:
    experts(model)[1].requires_grad_(False)
    gradients(model, images().requires_grad_())
    assert all(p.grad is None for p in experts(model)[1].parameters())
    assert all(p.grad is not None for p in experts(model)[2].parameters())


def test_inference_and_autocast_reach_the_threads(model: MoCSE, in_turn) -> None:
    model.eval()
    with torch.inference_mode():
        outputs = run_in_parallel(experts(model), model.trunk(images()))
        assert all(output.is_inference() for output in outputs)
        torch.testing.assert_close(model(images()), in_turn(model, images()), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(images()).dtype == torch.bfloat16
    assert model(images()).dtype == torch.float32


def test_operations_are_counted_as_if_in_turn(model: MoCSE, in_turn) -> None:
    def count() -> int:
        with FlopCounterMode(display=False) as counter:
            model(images())
        return counter.get_total_flops()

    assert count() == in_turn(count) > 0


def test_active_dropout_and_other_families_take_turns() -> None:
    dropping = timm.create_model("mocse_preact18", num_classes=3, expert_width=0.125, drop_rate=0.5)
    assert not can_run_in_parallel(experts(dropping), images())
    assert can_run_in_parallel(experts(dropping.eval()), images())
    foreign = timm.create_model("mocse", backbone="test_resnet", num_classes=3)
    assert not can_run_in_parallel(experts(foreign), images())


def test_one_thread_one_expert_and_meta_tensors_take_turns(model: MoCSE) -> None:
    assert not can_run_in_parallel(experts(model)[:1], images())
    assert not can_run_in_parallel(experts(model), images().to("meta"))
    torch.set_num_threads(1)
    assert not can_run_in_parallel(experts(model), images())


def test_a_second_derivative_is_an_error_not_a_wrong_number(model: MoCSE) -> None:
    pictures = images().requires_grad_()
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        torch.autograd.grad(model(pictures).sum(), pictures, create_graph=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own, at the first derivative taken so
def test_a_derivative_taken_forward_is_that_of_experts_in_turn(model: MoCSE, in_turn) -> None:
    model.eval()
    pictures, direction = images(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def derivative() -> Tensor:
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(model(forward_ad.make_dual(pictures, direction))).tangent
        assert tangent is not None
        return tangent

    torch.testing.assert_close(derivative(), in_turn(derivative))


def test_a_graph_that_is_kept_can_be_differentiated_again(model: MoCSE) -> None:
    pictures = images().requires_grad_()
    scores = model.eval()(pictures)
    rows = [torch.autograd.grad(score, pictures, retain_graph=True)[0] for score in scores[0]]
    again = [torch.autograd.grad(score, pictures, retain_graph=True)[0] for score in scores[0]]
    torch.testing.assert_close(rows, again)
    torch.set_num_threads(1)
    expected = torch.autograd.functional.jacobian(lambda x: model(x)[0], pictures.detach())
    torch.testing.assert_close(torch.stack(rows), expected)


def test_only_the_gradients_that_are_asked_for_are_computed(
    model: MoCSE, in_turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for the images' alone, as an attack does; for one weight's and the images'; for all there are."""
    weight, pictures = next(model.experts[1].parameters()), images().requires_grad_()
    every = list(model.experts[0].parameters())
    counts, ours = list[int](), torch.autograd.grad

    def counted(outputs: Tensor, inputs: list[Tensor], *arguments: Any, **options: Any) -> Any:
        counts.append(len(inputs))
        return ours(outputs, inputs, *arguments, **options)

    def asked(wanted: list[Tensor]) -> list[Tensor]:
        return list(ours(model.eval()(pictures).sum(), wanted))

    for wanted, expected in (([pictures], [1, 1, 1]), ([pictures, weight], [1, 1, 2])):
        with monkeypatch.context() as patch:
            patch.setattr(torch.autograd, "grad", counted)
            found = asked(wanted)
        torch.testing.assert_close(found, in_turn(asked, wanted), rtol=1e-4, atol=1e-6)
        assert sorted(counts) == expected
        counts.clear()
    monkeypatch.setattr(torch.autograd, "grad", counted)
    model(pictures).sum().backward()
    assert counts == [1 + len(every)] * 3


def test_parameters_lent_for_one_pass_get_their_gradients(model: MoCSE, in_turn) -> None:
    def lent_gradients() -> dict[str, Tensor]:
        lent = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
        torch.func.functional_call(model, lent, (images(),)).sum().backward()
        return {name: p.grad for name, p in lent.items() if p.grad is not None}

    model.eval()
    found, expected = lent_gradients(), in_turn(lent_gradients)
    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_expert_frozen_before_the_backward_pass_gets_no_gradient_and_the_others_theirs(model: MoCSE) -> None:
    loss = model.eval()(images()).sum()
    model.experts[1].requires_grad_(False)
    loss.backward()
    assert [all(p.grad is not None for p in expert.parameters()) for expert in experts(model)] == [True, False, True]
    assert all(parameter.grad is None for parameter in model.experts[1].parameters())


def test_what_a_hook_sees_can_be_asked_for_its_gradient(model: Any) -> None:
    seen: list[Tensor] = []
    handle = model.experts[1].stages[3].register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    scores = model.eval()(images())
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), seen)
    assert gradient.shape == seen[0].shape and gradient.count_nonzero()
    handle.remove()
    assert can_run_in_parallel(experts(model), images())


def test_threads_leave_the_callers_setting_alone(model: MoCSE) -> None:
    model(images())
    assert torch.get_num_threads() == 2


def test_threads_of_experts_use_one_core_each_and_callers_keep_theirs() -> None:
    seen: list[int] = []
    model: Any = timm.create_model("mocse_preact18", num_classes=3, expert_width=0.125)
    for expert in model.experts:
        run = expert.forward_features
        expert.forward_features = lambda x, run=run: (seen.append(torch.get_num_threads()), run(x))[1]
    model(torch.rand(2, 3, 32, 32))
    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == 2

"""Ensembles: what they compute and how they learn, against networks on their own."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

from mocse_timm.evaluation.predictions import answer
from mocse_timm.models.saving import save_model
from mocse_timm.training.objectives import ensemble_objective

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 2])


def ensemble(**arguments: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model("ensemble", **({"num_classes": 3, "num_experts": 2, "expert_width": 0.125} | arguments))


def alone(expert: torch.nn.Module) -> Any:
    """Return the dense network whose weights ``expert`` has."""
    network = timm.create_model("cifar_preact18", width=0.125, num_classes=3)
    network.load_state_dict(expert.state_dict())
    return network


def test_the_answer_is_the_mean_of_the_probabilities() -> None:
    model = ensemble().eval()
    probabilities = [alone(expert).eval()(IMAGES).softmax(dim=1) for expert in model.experts]
    assert not torch.allclose(*probabilities, atol=0.01)
    torch.testing.assert_close(model(IMAGES).exp(), sum(probabilities) / 2)
    torch.testing.assert_close(model.forward_head(model.forward_features(IMAGES)), model(IMAGES))


def test_confident_networks_overflow_nowhere() -> None:
    logits = torch.tensor([[[1000.0, 0.0], [-1000.0, 0.0]]])  # (B, E, C)
    torch.testing.assert_close(ensemble().aggregate(logits), torch.full((1, 2), 0.5).log())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_network_learns_as_if_it_were_alone(smoothing: float) -> None:
    model = ensemble().train()
    networks = [alone(expert).train() for expert in model.experts]
    result = ensemble_objective(smoothing)(model, IMAGES, LABELS)
    result.loss.backward()
    torch.testing.assert_close(result.logits.exp().sum(dim=1), torch.ones(4))
    losses = [F.cross_entropy(network(IMAGES), LABELS, label_smoothing=smoothing) for network in networks]
    torch.testing.assert_close(result.loss, losses[0] + losses[1])
    for expert, network, loss in zip(model.experts, networks, losses, strict=True):
        loss.backward()
        for ours, theirs in zip(expert.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_soft_targets_are_not_smoothed_again() -> None:
    model = ensemble().eval()
    soft = F.one_hot(LABELS, 3).float()
    torch.testing.assert_close(
        ensemble_objective(0.1)(model, IMAGES, soft).loss, ensemble_objective(0.0)(model, IMAGES, LABELS).loss
    )


def test_sixteen_bits_end_before_the_probabilities() -> None:
    model = ensemble().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.forward_experts(IMAGES)
    scores, log_odds = answer(model, IMAGES, torch.bfloat16)
    assert log_odds is None
    torch.testing.assert_close(scores, logits.float().softmax(dim=2).mean(dim=1).log())


def test_shared_stages_run_once() -> None:
    model = ensemble(width=0.25, shared_stages=3).eval()
    calls: list[int] = []
    model.trunk.register_forward_hook(lambda *_: calls.append(1))
    assert model(IMAGES).shape == (4, 3)
    assert calls == [1]
    assert isinstance(model.experts[0].stages[2], torch.nn.Identity)


def test_the_networks_stay_whatever_the_classes() -> None:
    model = ensemble().eval()
    body = model.experts[1].stages.state_dict()
    model.reset_classifier(5)
    assert (model(IMAGES).shape, len(model.experts)) == ((4, 5), 2)
    torch.testing.assert_close(model.experts[1].stages.state_dict(), body, rtol=0, atol=0)
    model.reset_classifier(0)
    torch.testing.assert_close(model(IMAGES), model.forward_features(IMAGES).mean((2, 3)))


def test_saved_and_reloaded_it_says_the_same(tmp_path: Path) -> None:
    model = ensemble(num_experts=3).eval()
    save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_args"]["num_experts"] == 3
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(again(IMAGES), model(IMAGES), rtol=0, atol=0)
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).eval()
    assert other(IMAGES).shape == (4, 7)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_experts": 0}, "num_experts must be at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ({"backbone": "resnet81"}, "name of a timm model, got 'resnet81'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ensemble(**arguments)

"""A head beside experts: its decisions by hand, its fit by the gradient, its cost by counting layers."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from head_beside_experts import ALL, Judge, decide, fit_head, hear, measure

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.saving import save_model

NARROW = {"depths": [1, 1], "channels": [8, 16], "stem_channels": 8}


def mixture(**options: Any) -> MoCSE:
    torch.manual_seed(0)
    model = timm.create_model("mocse_preact18", backbone_args=NARROW, **options).eval()
    assert isinstance(model, MoCSE)
    return model


def test_decisions_by_hand() -> None:
    head = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]).log()
    named = {way: answers.tolist() for way, answers in decide(head, scores).items()}
    assert named == {
        "head alone": [0, 3],
        ALL: [3, 0],
        "vote of both": [0, 0],  # 0.6 against at most 0.5; 0.8 against at most 0.5
        "experts of the 2 likeliest": [1, 2],  # of classes 0 and 1; of 2 and 3, which are level: the first
        "experts of the 3 likeliest": [2, 1],
    }


def test_the_head_is_at_a_minimum_of_its_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (500,), generator=generator)
    features = torch.randn(500, 4, generator=generator) * torch.tensor([1.0, 10, 0.1, 1]) + 5
    features[:, 0] += labels
    head: Any = fit_head(features, labels)
    features = features.double()
    scaled = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    weight, bias = (torch.tensor(each, requires_grad=True) for each in (head[-1].coef_, head[-1].intercept_))
    logits = scaled @ weight.T + bias
    loss = F.cross_entropy(logits, labels, reduction="sum") + weight.square().sum() / 2  # scikit-learn's C is 1
    loss.backward()
    assert weight.grad is not None and bias.grad is not None
    assert weight.grad.abs().max() < 0.05 and bias.grad.abs().max() < 0.05  # of sums over 500 images
    found = torch.from_numpy(head.predict_log_proba(features.numpy()))
    torch.testing.assert_close(found, logits.detach().log_softmax(dim=1), rtol=1e-9, atol=1e-9)


def test_it_hears_the_shared_features_and_the_model_s_own_scores_and_counts_what_runs() -> None:
    model = mixture(num_classes=4, shared_stages=1)
    images = torch.rand(6, 3, 32, 32)
    features, scores = hear(model, images)
    torch.testing.assert_close(scores, model(images).detach())
    torch.testing.assert_close(features, model.trunk(images).detach().mean(dim=(2, 3)))
    assert not model.trunk._forward_hooks
    macs = Judge(model, fit_head(features, torch.tensor([0, 1, 2, 3, 0, 1]))).macs(32)
    stem, block = 32 * 32 * 3 * 9 * 8, 32 * 32 * 2 * 8 * 9 * 8
    expert = 16 * 16 * (8 * 9 * 8 + 8 * 9 * 8 + 8 * 8) + 8 * 2  # a quarter as wide, but no layer has under 8 channels
    assert macs["head alone"] == stem + block + 8 * 4
    assert macs[ALL] == stem + block + 4 * expert
    assert macs["vote of both"] == macs[ALL] + 8 * 4
    assert macs["experts of the 2 likeliest"] == stem + block + 8 * 4 + 2 * expert


def test_a_run_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(mixture(num_classes=10, shared_stages=1), tmp_path)
    measure(ValidateConfig(str(tmp_path), dataset="digits", device="cpu", corruptions="fog", corruption_images=20))
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    table = {line[0]: [cell.strip() for cell in line[1:] if cell] for line in lines[1:]}
    assert [cell for cell in lines[0] if cell] == ["MMACs", "clean %", "mean of 1 corruptions %", "less all experts"]
    assert len(table) == 11 and len(table[ALL]) == 3 and all(len(table[way]) == 4 for way in table if way != ALL)
    clean, corrupted = ([float(table[way][place]) for way in table] for place in (1, 2))
    assert clean[0] > 60 > clean[1] and corrupted[0] < clean[0]  # the head has learned, the experts have not
    assert float(table["head alone"][3].split()[0]) == pytest.approx(corrupted[0] - corrupted[1], abs=0.011)


def test_other_models_are_refused(tmp_path: Path) -> None:
    for name, options in {"nothing shared": {}, "groups": {"num_experts": 5, "shared_stages": 1}}.items():
        (tmp_path / name).mkdir()
        save_model(mixture(num_classes=10, **options), tmp_path / name)
        with pytest.raises(BadInput, match="no MoCSE with shared stages and an expert for each of at least 3 classes"):
            measure(ValidateConfig(str(tmp_path / name), dataset="digits", corruptions="fog"))
    with pytest.raises(BadInput, match="--corruption-images must be at least 1, got 0"):
        measure(ValidateConfig(str(tmp_path / "groups"), dataset="digits", corruptions="fog", corruption_images=0))

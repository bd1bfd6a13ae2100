"""Calibrating experts: against scikit-learn's logistic regression, and the folded model against its own log-odds."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from calibrate_experts import calibrate, fit, fold, joint_loss, own_loss

from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.checks import BadInput
from mocse_timm.models.aggregation import class_log_odds
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.saving import save_model

NARROW = {"depths": [1, 1], "channels": [8, 8], "stem_channels": 8}


def drawn(classes: int = 3, images: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (images,), generator=generator)
    log_odds = 3 * torch.randn(images, classes, generator=generator)
    log_odds[torch.arange(images), labels] += 4
    return log_odds - 2, labels


def test_each_expert_is_fitted_as_by_logistic_regression() -> None:
    log_odds, labels = drawn()
    scale, offset = fit(log_odds, lambda z: own_loss(z, labels))
    for expert in range(3):
        found = LogisticRegression(C=1e12, tol=1e-10).fit(
            log_odds[:, expert : expert + 1].double().numpy(), labels == expert
        )
        assert scale[expert].item() == pytest.approx(found.coef_.item(), rel=1e-4)
        assert offset[expert].item() == pytest.approx(found.intercept_.item(), rel=1e-4)


@pytest.mark.parametrize("aggregation", ["log_odds", "log_confidence"])
def test_fitted_together_no_step_aside_is_better(aggregation: str) -> None:
    log_odds, labels = drawn()
    scale, offset = fit(log_odds, lambda z: joint_loss(z, labels, aggregation))
    log_odds = log_odds.double()
    best = joint_loss(scale * log_odds + offset, labels, aggregation)
    assert best < joint_loss(log_odds, labels, aggregation)
    for step in 0.05 * torch.randn(40, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)):
        assert joint_loss((scale + step[0]) * log_odds + offset + step[1], labels, aggregation) >= best


def test_the_folded_model_says_the_calibrated_log_odds() -> None:
    torch.manual_seed(0)
    model = timm.create_model("mocse_preact18", num_classes=3, backbone_args=NARROW).eval()
    assert isinstance(model, MoCSE)
    images = torch.rand(4, 3, 32, 32)
    scale, offset = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([1.0, -3.0, 0.0])
    with torch.no_grad():
        before = class_log_odds(model.forward_experts(images), [1, 1, 1])
        fold(model, scale, offset)
        after = class_log_odds(model.forward_experts(images), [1, 1, 1])
    torch.testing.assert_close(after, scale * before + offset)


def run_of(folder: Path, model: str, **options: Any) -> Path:
    """Return the folder of a training on digits that did not learn."""
    torch.manual_seed(0)
    save_model(timm.create_model(model, num_classes=10, backbone_args=NARROW, **options), folder)
    (folder / "config.yaml").write_text("dataset: digits\n")
    return folder


@pytest.mark.parametrize("together", [False, True])
def test_a_run_is_calibrated_into_a_new_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], together: bool
) -> None:
    (tmp_path / "run").mkdir()
    run, folder = run_of(tmp_path / "run", "mocse_preact18"), tmp_path / "new"
    calibrate(run, folder, together=together)
    printed = capsys.readouterr().out
    before, now = (float(word) for word in printed.splitlines()[together].split(": ")[1].split(", now "))
    assert now < before  # of what was minimised
    assert open_folder(folder).state_dict().keys() == open_folder(run).state_dict().keys()
    with pytest.raises(BadInput, match="exists; name a new folder"):
        calibrate(run, folder, together=together)
    with pytest.raises(BadInput, match=r"cannot be made, for .*config\.json is a file"):
        calibrate(run, run / "config.json" / "new", together=together)


def test_the_best_weights_of_a_run_are_calibrated_with_the_run_s_flags(tmp_path: Path) -> None:
    (tmp_path / "run/best").mkdir(parents=True)
    run = run_of(tmp_path / "run/best", "mocse_preact18").parent
    (run / "best/config.yaml").rename(run / "config.yaml")
    (run / "summary.csv").write_text("epoch\n")
    calibrate(run / "best", tmp_path / "new", together=False)
    assert (tmp_path / "new/config.yaml").read_text() == "dataset: digits\n"


def test_other_models_are_refused(tmp_path: Path) -> None:
    for name, options in {"ensemble": {"num_experts": 2}, "mocse_preact18": {"num_experts": 5}}.items():
        (tmp_path / name).mkdir()
        run = run_of(tmp_path / name, name, **options)
        with pytest.raises(BadInput, match="no expert for each class"):
            calibrate(run, tmp_path / "new", together=False)
    assert not (tmp_path / "new").exists()

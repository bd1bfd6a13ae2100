"""Calibrate the experts of a trained MoCSE: ``python recipes/calibrate_experts.py RUN FOLDER``.

Each expert's log-odds z become a z + b, with a and b chosen on the training images as they are, without augmentation:
by its own binary cross-entropy (Platt scaling), or ``--together``, all experts' at once by the cross-entropy of the
aggregate. Both are written into the expert's classifier, so that FOLDER holds a model like any other, for validate.py.

Source:
    Platt, "Probabilistic outputs for support vector machines", 1999; Guo et al., "On calibration of modern neural
    networks", arXiv:1706.04599 (vector scaling).
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checks import BadInput, command
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.run import prepare
from mocse_timm.evaluation.settings import flags_file
from mocse_timm.models.aggregation import aggregate
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.saving import save_model


def own_loss(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of log-odds (N, C), nats per image and expert."""
    return F.binary_cross_entropy_with_logits(log_odds, F.one_hot(labels, log_odds.shape[1]).to(log_odds.dtype))


def joint_loss(log_odds: Tensor, labels: Tensor, aggregation: str) -> Tensor:
    """Return the mean cross-entropy of what log-odds (N, C) aggregate to, nats per image."""
    logits = torch.stack([torch.zeros_like(log_odds), log_odds], dim=2)
    return F.cross_entropy(aggregate(logits, [1] * log_odds.shape[1], aggregation), labels)


def fit(log_odds: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return the scale and the offset of each class, (C,) float64, that minimise ``loss`` of the changed log-odds.

    Args:
        log_odds: (N, C).
        loss: of log-odds (N, C), a scalar; convex, or found from where the scales are 1 and the offsets 0.
    """
    log_odds = log_odds.double()
    scale = torch.ones(log_odds.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros_like(scale, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scale, offset], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(scale * log_odds + offset)
        value.backward()
        return value

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]  (torch's stubs want a float)
    return scale.detach(), offset.detach()


@torch.no_grad()
def fold(model: MoCSE, scale: Tensor, offset: Tensor) -> None:
    """Change the experts' classifiers, in place, so that their log-odds z (B, C) become scale * z + offset."""
    for classifier, factor, shift in zip(model.get_classifier(), scale.tolist(), offset.tolist(), strict=True):
        assert isinstance(classifier, nn.Linear), "calibrate() has looked"
        classifier.weight *= factor
        classifier.bias *= factor
        classifier.bias[1] += shift


def calibrate(run: Path, folder: Path, *, together: bool) -> None:
    """Write the calibrated model of ``run`` into ``folder``, and print what changed.

    Raises:
        BadInput: if ``run`` is not a MoCSE with an expert for each class, cannot be read, or ``folder`` exists.
    """
    if folder.exists():
        raise BadInput(f"{folder} exists; name a new folder")
    for parent in folder.parents:
        if parent.exists() and not parent.is_dir():
            raise BadInput(f"{folder} cannot be made, for {parent} is a file; name another folder")
    scorer, data = prepare(ValidateConfig(model=str(run)), Accelerator(), attacks=())
    model = scorer.model
    if not isinstance(model, MoCSE) or max(model.group_sizes) > 1:
        raise BadInput(f"{run} has no expert for each class; calibrate a MoCSE that has")
    if not all(isinstance(each, nn.Linear) and each.bias is not None for each in model.get_classifier()):
        raise BadInput(f"the experts of {run} do not end in a linear layer with a bias, into which a calibration goes")
    scorer.place()
    predictions = scorer.predict(data.train)
    assert predictions.expert_log_odds is not None, "a MoCSE has them"
    log_odds, labels = predictions.expert_log_odds.clone(), predictions.labels.clone()  # tensors that autograd may use
    losses = {
        "experts": lambda z: own_loss(z, labels),
        "aggregate": lambda z: joint_loss(z, labels, model.aggregation),
    }
    scale, offset = fit(log_odds, losses["aggregate" if together else "experts"])
    for name, loss in losses.items():
        after = loss(scale * log_odds.double() + offset)
        print(f"cross-entropy of the {name} on {len(labels)} training images: {loss(log_odds):.4f}, now {after:.4f}")
    for name, factor, shift in zip(data.class_names, scale.tolist(), offset.tolist(), strict=True):
        print(f"{name}: log-odds times {factor:.3f} plus {shift:+.3f}")
    fold(model, scale, offset)
    facts = {k: v for k, v in read_config(run).get("mocse_timm", {}).items() if k not in ("command", "validation")}
    folder.mkdir(parents=True)
    try:
        if flags := flags_file(str(run)):  # which tell the data set
            shutil.copyfile(flags, folder / "config.yaml")
        save_model(model, folder, facts=facts, class_names=data.class_names)
    except BaseException:
        shutil.rmtree(folder)
        raise
    print(f"written to {folder}")


@command
def main() -> None:
    """Read the flags and calibrate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the trained model")
    parser.add_argument("folder", type=Path, help="where the calibrated model goes; must not exist")
    parser.add_argument("--together", action="store_true", help="fit all experts at once, by the aggregate")
    arguments = parser.parse_args()
    calibrate(arguments.run, arguments.folder, together=arguments.together)


if __name__ == "__main__":
    sys.exit(main())

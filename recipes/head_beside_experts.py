"""A dense head beside the experts of a trained MoCSE: ``python recipes/head_beside_experts.py RUN --frost-dir FOLDER``.

The head tells all classes from what the last shared stage gives: logistic regression on its mean over the image,
fitted to the training images as they are; the network stays as it was. Then the head votes with the experts (the mean
of both probabilities), or it is a router, and only the experts of the classes that it finds likeliest run. Each is
scored on the clean images and under the 15 corruptions of the benchmark, on the images that validate.py takes.

Letters: B images, C classes, D features, N images of a cell.
"""

import argparse
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from tqdm import tqdm

from mocse_timm.checks import BadInput, command
from mocse_timm.data import Loader
from mocse_timm.evaluation.computation import count_macs
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.corruption_scores import standard_error
from mocse_timm.evaluation.corruption_setup import choose_source
from mocse_timm.evaluation.corruption_source import Source
from mocse_timm.evaluation.report import align
from mocse_timm.evaluation.run import prepare
from mocse_timm.evaluation.settings import check_flags
from mocse_timm.models.mocse import MoCSE
from mocse_timm.modes import evaluating

ALL = "all experts"


@torch.inference_mode()
def hear(model: MoCSE, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shared features' means (B, D) and the class scores (B, C) of images (B, channels, H, W) in [0, 1]."""
    shared: list[Tensor] = []

    def keep(_module: Any, _given: Any, found: Tensor) -> None:
        shared.append(found)

    handle = model.trunk.register_forward_hook(keep)
    try:
        scores = model.aggregate(model.forward_experts(images))
    finally:
        handle.remove()
    return shared[0].mean(dim=(2, 3)), scores


def hear_all(model: MoCSE, loader: Loader) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N, D) features, (N, C) scores and (N,) labels of all images of ``loader``, on the CPU."""
    features, scores, labels = [], [], []
    for images, batch_labels in tqdm(loader, desc="images", unit="batch", leave=False, disable=None):
        found = hear(model, images)
        features.append(found[0].cpu())
        scores.append(found[1].cpu())
        labels.append(batch_labels.cpu())
    return torch.cat(features), torch.cat(scores), torch.cat(labels)


def fit_head(features: Tensor, labels: Tensor) -> Pipeline:
    """Return logistic regression of labels (N,) on features (N, D), each brought to mean 0 and variance 1."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return head.fit(features.double().numpy(), labels.numpy())


def decide(head: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """Return the classes (B,) that are named in each way.

    Args:
        head: (B, C), the head's log-probabilities.
        scores: (B, C), the experts' class scores, each from its own expert alone.
    """
    named = {"head alone": head.argmax(dim=1), ALL: scores.argmax(dim=1)}
    named["vote of both"] = torch.logaddexp(head, scores.log_softmax(dim=1)).argmax(dim=1)
    order = head.argsort(dim=1, descending=True)
    for count in range(2, head.shape[1]):
        left_out = torch.ones_like(scores, dtype=torch.bool).scatter(1, order[:, :count], False)
        named[f"experts of the {count} likeliest"] = scores.masked_fill(left_out, -torch.inf).argmax(dim=1)
    return named


@dataclass(frozen=True)
class Judge:
    """A model with its head."""

    model: MoCSE
    head: Pipeline

    def right(self, features: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return for each way (B,), whether it names the class."""
        logs = torch.from_numpy(self.head.predict_log_proba(features.double().numpy())).float()
        return {way: named == labels for way, named in decide(logs, scores).items()}

    def under(self, source: Source) -> dict[str, Tensor]:
        """Return for each way (N,), the share of the cells of ``source`` in which each image is named right."""
        cells = len(source.corruptions) * len(source.severities)
        shares: dict[str, Tensor] = {}
        with closing(source.parts()) as parts:
            for part in tqdm(parts, desc="corrupted", unit="batch", leave=False, disable=None):
                features, scores = (each.cpu() for each in hear(self.model, part.images))
                for way, right in self.right(features, scores, part.labels.cpu()).items():
                    share = shares.setdefault(way, torch.zeros(len(source.chosen), dtype=torch.float64))
                    share[part.places] += right / cells
        return shares

    def macs(self, image_size: int) -> dict[str, int]:
        """Return for each way the multiply-accumulates on one image."""
        shared, whole = count_macs(self.model.trunk, image_size), count_macs(self.model, image_size)
        classes = self.model.num_classes
        head, expert = classes * self.head.n_features_in_, (whole - shared) / classes
        some = {
            f"experts of the {count} likeliest": shared + head + round(count * expert) for count in range(2, classes)
        }
        return {"head alone": shared + head, ALL: whole, "vote of both": whole + head} | some


def line(way: str, macs: int, clean: Tensor, corrupted: dict[str, Tensor]) -> list[str]:
    """Return the cells of one line: MMACs, accuracies in percent, and how far it is from all experts."""
    share, difference = corrupted[way], corrupted[way] - corrupted[ALL]
    error = standard_error(difference.numpy())
    apart = "" if way == ALL or error is None else f"{100 * difference.mean():+.2f} +/- {error:.2f}"
    return [way, f"{macs / 1e6:.1f}", f"{100 * clean.double().mean():.2f}", f"{100 * share.mean():.2f}", apart]


def measure(config: ValidateConfig) -> None:
    """Fit the head of the model, score it in each way, and print the table.

    Raises:
        BadInput: if the model is no MoCSE with shared stages and an expert for each of at least 3 classes, or see
            :func:`mocse_timm.evaluation.settings.check_flags` and :func:`mocse_timm.evaluation.run.prepare`.
    """
    check_flags(config)
    scorer, data = prepare(config, Accelerator(), attacks=())
    model = scorer.model
    if not isinstance(model, MoCSE) or max(model.group_sizes) > 1 or not model.shared_stages or model.num_classes < 3:
        raise BadInput(f"{config.model} is no MoCSE with shared stages and an expert for each of at least 3 classes")
    source = choose_source(scorer, data)
    scorer.place()
    with evaluating(model), scorer.saying_what_does_not_fit():
        features, _, labels = hear_all(model, scorer.shared_loader(data.train))
        judge = Judge(model, fit_head(features, labels))
        features, scores, labels = hear_all(model, scorer.shared_loader(data.validation))
        clean, macs = judge.right(features, scores, labels), judge.macs(scorer.image_size)
        corrupted = judge.under(source)
    for note in source.notes:
        print(note)
    title = f"mean of {len(source.corruptions)} corruptions"
    head = ["", "MMACs", "clean %", f"{title} %", f"less {ALL}"]
    print("\n".join(align([head, *(line(way, macs[way], clean[way], corrupted) for way in clean)])))


@command
def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the trained model")
    parser.add_argument("--corruption-images", type=int, default=2000, help="images a cell; 2000")
    parser.add_argument("--frost-dir", help="folder of frost's textures, see validate.py")
    given = parser.parse_args()
    measure(
        ValidateConfig(
            model=str(given.run),
            corruptions="15",
            corruption_images=given.corruption_images,
            frost_dir=given.frost_dir,
        )
    )


if __name__ == "__main__":
    sys.exit(main())

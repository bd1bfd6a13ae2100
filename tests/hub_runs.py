"""A run's folder as training and validation leave it, made in a moment: small weights, invented scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from corruption_scores import scores_of

from mocse_timm.checkpoints.tensors import sha256
from mocse_timm.data import Resizing
from mocse_timm.evaluation.comparison import compare
from mocse_timm.evaluation.computation import Computation
from mocse_timm.evaluation.corruption_run import CorruptionResults
from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.failure_signs import judge
from mocse_timm.evaluation.metrics import ExpertScores, Scores
from mocse_timm.evaluation.report import RunFacts, result_row, robust_row, write_results
from mocse_timm.evaluation.robustness import RobustScores, RoutingScores
from mocse_timm.evaluation.sanity import Check
from mocse_timm.models.saving import save_model
from mocse_timm.provenance import versions

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SMALL: dict[str, dict[str, Any]] = {
    "cifar_preact18": {"width": 0.0625},
    "mocse_preact18": {"expert_width": 0.0625},
    "mocse_preact18_shared": {"width": 0.125, "expert_width": 0.0625},
    "advmoe_resnet18": {"width": 0.125},
    "ensemble": {"num_experts": 2, "expert_width": 0.0625},
}


def corrupted(seed: int = 0, **changes: Any) -> CorruptionScores:
    """Return scores of 37 images, right in about 70 % of the cells."""
    generator = np.random.default_rng(seed)
    answers, clean = generator.random((19, 5, 37)) < 0.7, generator.random(37) < 0.9
    return scores_of(answers, clean=clean, dataset=changes.pop("dataset", "folder:cifar10_jpeg"), **changes)


def attacked(*, passed: bool = True, names: tuple[str, ...] = ("pgd50", "autoattack", "router")) -> RobustScores:
    """Return made-up scores under attack of a network with two routed experts, without the single images' answers."""
    top1 = {name: 31.3 + 3.7 * place for place, name in enumerate(names)}
    steps = {"steps": 50, "step_size": 2 / 255}
    return RobustScores(
        num_images=1000,
        epsilon=8 / 255,
        norm="linf",
        clean_top1=61.2,
        robust_top1=top1,
        checks=[Check("gradients are not zero", passed, "zero for 3.1 % of 64 images")],
        routing=RoutingScores(
            [43.75, 56.25], {name: [12.5, 87.5] for name in CLASSES}, 0.537, dict.fromkeys(names, 7.3)
        ),
        options={name: {"version": "standard"} if name == "autoattack" else steps for name in names},
    )


def clean_scores(*, experts: bool) -> Scores:
    """Return made-up clean scores, those of experts among them."""
    found = [ExpertScores(name, 0.71 + 0.013 * i, 0.63 + 0.017 * i, 0.93) for i, name in enumerate(CLASSES)]
    accuracies: dict[str, float | None] = {name: 81.07 + 1.01 * i for i, name in enumerate(CLASSES)}
    return Scores(10_000, 85.6149, 99.3812, 0.44718, 1.84986, accuracies, found if experts else None)


def write_run_results(
    folder: Path,
    *,
    corruptions: CorruptionScores | None = None,
    baseline: CorruptionScores | None = None,
    robustness: RobustScores | None = None,
    experts: bool = True,
    dataset: str = "folder:cifar10_jpeg",
    **cost: Any,
) -> None:
    """Write results.json for the weights in ``folder``."""
    scores = clean_scores(experts=experts)
    row = result_row(RunFacts("output/run", dataset, "validation", 0.1, 0.00123, 32, Resizing(1.0), 813.48), scores)
    found = None
    if corruptions is not None:
        found = CorruptionResults(corruptions)
        if baseline is not None:
            compared = compare(corruptions, baseline, "dense")
            verdict = judge(compared.clean, compared.means["all"], mixture_against_dense=True)
            found = CorruptionResults(corruptions, compared, verdict)
        row |= found.row()
    if robustness is not None:
        row |= robust_row(robustness)
    weights = folder / "model.safetensors"
    facts: dict[str, Any] = {
        "parameters": 0,
        "macs": 87_214_000,
        "images_per_second": 1813.48,
        "batch_size": 256,
        "precision": "float32",
        "channels_last": True,
        "num_processes": 1,
        "threads": 2,
        "hardware": "2 cores of AMD EPYC 7763",
        "command": "python validate.py RUN --corruptions all",
        "weights_sha256": sha256(weights),
        "versions": versions(),
    }
    parts = {"corruptions": found and found.json(), "robustness": robustness}
    model = timm.create_model(f"local-dir:{folder}", device="meta")
    facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    write_results(folder / "results.json", row, scores, **parts, computation=Computation(**(facts | cost)))


def make_weights(folder: Path, model: str = "mocse_preact18", **facts: Any) -> Path:
    """Make ``folder`` with weights and config of an untrained small model."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    told: dict[str, Any] = {
        "recipe": "standard",
        "command": f"python train.py --model {model} --dataset folder:cifar10_jpeg --epochs 8 --lr 0.4 --seed 3",
        "dataset": "folder:cifar10_jpeg",
        "epochs": 8,
        "seed": 3,
        "weights": "last",
        "validation": {"top1": 85.5},
        "hardware": "2 cores of AMD EPYC 7763",
        "versions": versions(),
    }
    save_model(timm.create_model(model, **SMALL[model]), folder, facts=told | facts, class_names=CLASSES)
    return folder


def make_run(
    folder: Path, model: str = "mocse_preact18", facts: Mapping[str, Any] | None = None, **scores: Any
) -> Path:
    """Make ``folder`` with weights, config and results.json; by default with corruptions and a baseline."""
    make_weights(folder, model, **(facts or {}))
    if not scores:
        scores = {"corruptions": corrupted(mixture=True), "baseline": corrupted(seed=1)}
    scores.setdefault("experts", model.startswith("mocse"))
    write_run_results(folder, **scores)
    return folder


def edit_json(file: Path, *path: Any, value: Any) -> None:
    """Set one value inside a JSON file."""
    content = json.loads(file.read_text())
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    file.write_text(json.dumps(content, indent=2))

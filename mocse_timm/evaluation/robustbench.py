"""A model's entry in the format of RobustBench's ``model_info`` files.

Source: github.com/RobustBench/robustbench, model_info/cifar10/corruptions.
"""

import json
from collections.abc import Sequence
from typing import Any

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import BENCHMARK, SEVERITIES
from mocse_timm.evaluation.corruption_scores import CorruptionScores

__all__ = ["check_complete", "robustbench_info"]


def check_complete(corruptions: Sequence[str], severities: Sequence[int]) -> None:
    """Raise BadInput unless these are all that RobustBench's number is the mean of."""
    missing = [name for name in BENCHMARK if name not in corruptions]
    lacking = [severity for severity in SEVERITIES if severity not in severities]
    if missing or lacking:
        what = f"{missing[0]} is missing" if missing else f"severity {lacking[0]} is missing"
        raise BadInput(
            f"--robustbench-json needs RobustBench's 15 corruptions at severities 1 to 5, but {what}; "
            "leave it out, or score --corruptions 15 with the pictures that frost needs"
        )


def robustbench_info(scores: CorruptionScores, *, architecture: str, clean_top1: float) -> str:
    """Return the text of a ``model_info`` file.

    What only people know (link, name, authors, venue, additional data, what a paper reported) is null, to be filled in.
    The footnote says where the corrupted images come from and how many there are; RobustBench's own numbers are of
    the official archives, whole.

    Args:
        scores: complete for the 15; see :func:`check_complete`.
        architecture: the model's name in timm.
        clean_top1: percent, on the whole clean set.
    """
    check_complete(scores.corruptions, scores.severities)
    mean = scores.mean("benchmark")
    assert mean is not None, "they are complete"
    info: dict[str, Any] = {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": scores.dataset,
        "venue": None,
        "architecture": architecture,
        "eps": None,
        "clean_acc": f"{clean_top1:.2f}",
        "reported": None,
        "corruptions_acc": f"{mean.top1:.2f}",
        "unreliable": False,
        "footnote": f"Corruptions: {scores.source}, {scores.num_images} images in each cell.",
    }
    return json.dumps(info, indent=2) + "\n"

"""The models on the Hub that carry our tag, with the scores that their cards claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.repocard_data import model_index_to_eval_results

from mocse_timm.checkpoints.hub_failures import FAILURES, refusal
from mocse_timm.checkpoints.patience import patiently
from mocse_timm.evaluation.report import align

__all__ = ["TAG", "ListedModel", "list_models", "render_models"]

TAG = "mocse_timm"
MEAN_OF_15 = "mean of 15 corruptions"  # the configuration under which our cards have it, see card_scores.py


@dataclass(frozen=True)
class ListedModel:
    """One model on the Hub."""

    name: str
    """``user/name``."""
    downloads: int | None
    """In the last 30 days, as the Hub counts."""
    likes: int | None
    last_modified: datetime | None
    accuracy: float | None
    """Percent of clean images, where the card's model-index has it."""
    corrupted: float | None
    """Mean percent over the 15 corruptions of CIFAR-10-C's benchmark, where the card's model-index has it for all."""


def _claimed(model_index: Any) -> dict[str | None, float]:
    """Return the first accuracy of each configuration in a card's model-index, in percent.

    Whoever wrote the card may have erred: of what cannot be read, or is no percentage, there is none.
    """
    try:
        _, results = model_index_to_eval_results(model_index)
        found = [(r.dataset_config, float(r.metric_value)) for r in results if r.metric_type == "accuracy"]
        return {config: value for config, value in dict(reversed(found)).items() if 0 <= value <= 100}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return {}


def _row(info: ModelInfo) -> ListedModel:
    claimed = _claimed(info.model_index) if info.model_index else {}
    return ListedModel(
        name=info.id,
        downloads=info.downloads,
        likes=info.likes,
        last_modified=info.last_modified,
        accuracy=claimed.get(None),
        corrupted=claimed.get(MEAN_OF_15),
    )


def list_models(author: str | None = None) -> list[ListedModel]:
    """Return the models on the Hub with the tag ``mocse_timm``, the most downloaded first.

    Args:
        author: only those of this user or organisation.

    Raises:
        BadInput: if the Hub cannot be asked.
    """
    wanted = ["downloads", "likes", "lastModified", "model-index"]

    def request() -> list[ModelInfo]:
        return list(HfApi().list_models(filter=TAG, author=author, expand=wanted))  # pyright: ignore[reportArgumentType]  (names are literals there)

    try:
        infos = patiently(request)
    except FAILURES as error:
        raise refusal(error, TAG, "list the models tagged") from None
    return sorted(map(_row, infos), key=lambda model: (-(model.downloads or 0), model.name))


def _cell(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def render_models(models: Sequence[ListedModel]) -> str:
    """Return the models as a text table; ``-`` stands for what a card or the Hub does not say."""
    if not models:
        return f"no model on {constants.ENDPOINT} has the tag {TAG}"
    table = [["model", "accuracy %", "15 corruptions %", "downloads", "likes", "last modified"]]
    for model in models:
        day = "-" if model.last_modified is None else f"{model.last_modified:%Y-%m-%d}"
        scores = [_cell(model.accuracy, 2), _cell(model.corrupted, 2)]
        table.append([model.name, *scores, _cell(model.downloads), _cell(model.likes), day])
    return "\n".join([*align(table), "", "scores as the cards claim them; `check user/name` compares card and results"])

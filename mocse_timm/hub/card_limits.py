"""What the numbers of a card do not say, in sentences."""

from collections.abc import Iterator

from mocse_timm.corruptions.names import SEVERITIES
from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.robustness import RobustScores
from mocse_timm.hub.card_scores import budget
from mocse_timm.hub.data_names import data_name
from mocse_timm.hub.facts import Facts
from mocse_timm.hub.results import Results

__all__ = ["limits"]

LAST_WEIGHTS = {
    "last": "the weights of the last epoch are published",
    "average": "the average of the weights at the last epoch is published",
}
BEST_WEIGHTS = {
    "best": "The weights of the epoch with the best validation accuracy are published",
    "best average": "The average of the weights at the epoch with the best validation accuracy is published",
}


def _of_data(facts: Facts, results: Results) -> Iterator[str]:
    data, trained = data_name(results.row.dataset), data_name(facts.training.dataset)
    if data.jpeg_copy:
        both = "trained and scored" if trained.slug == data.slug else "scored"
        original = data.title.removesuffix(" (JPEG copy)")
        yield (
            f"**A lossy copy.** The model was {both} on a copy of {original} whose images went through "
            f"JPEG. Compare accuracies with those of models on the same copy, not with published ones on {original}."
        )
    elif data.slug == "digits":
        yield "**A toy.** These digits are few and easy: high accuracy says that everything works, and no more."
    if trained.slug != data.slug:
        yield f"**Other data.** Training was on {trained.title}, scores are of {data.title}."
    alike = trained.slug == data.slug or (trained.repository is not None and trained.repository == data.repository)
    if results.row.split == "train" and alike:  # a copy has the same images
        yield "**Seen images.** The scores are of the split that the model was trained on: new images are harder."


def _of_seeds(facts: Facts, results: Results) -> Iterator[str]:
    chosen = LAST_WEIGHTS.get(facts.training.weights)
    not_chosen = f" No checkpoint was picked by its score: {chosen}." if chosen else ""
    errors = " Standard errors are over the images alone." if results.corruptions is not None else ""
    yield (
        f"**One training.** The numbers are of one seed, {facts.training.seed}. Another training would land elsewhere, "
        f"and how far they do not say; tenths of a point mean nothing.{not_chosen}{errors}"
    )


def _of_choice(facts: Facts, results: Results) -> Iterator[str]:
    chosen = BEST_WEIGHTS.get(facts.training.weights)
    if chosen is None:
        return
    trained, scored = data_name(facts.training.dataset), data_name(results.row.dataset)
    same = trained.slug == scored.slug and results.row.split == "validation"
    flatters = " It was chosen on the very images that it is scored on, so its score flatters." if same else ""
    yield f"**A picked epoch.** {chosen}.{flatters}"


def _of_corruptions(scores: CorruptionScores | None, total: int) -> Iterator[str]:
    if scores is None:
        yield "**Corruptions** have not been measured."
        return
    if "generated" in scores.source:
        yield (
            f"**Generated corruptions.** The corrupted images are not a published archive's: {scores.source}. "
            "Strengths are those of the archives, the random draws are not."
        )
    if scores.num_images != total:
        yield (
            f"**A part of the images.** Each corruption at each severity was scored on {scores.num_images:,} of the "
            f"{total:,} images."
        )
    if scores.missing:
        names = ", ".join(name.replace("_", " ") for name in scores.missing)
        yield f"**Left out:** {names}. Means are over the others and cannot be compared with complete ones."
    if set(scores.severities) != set(SEVERITIES):
        yield f"**Severities** {', '.join(map(str, scores.severities))} alone: means are over these."


def _of_attacks(robust: RobustScores | None, total: int) -> Iterator[str]:
    if robust is None:
        yield "**Attacks** have not been measured; nothing here promises that the model withstands one."
        return
    for check in robust.checks:
        if not check.passed:
            yield (
                f'**A check failed:** "{check.name}" ({check.found}). Gradients may be hidden from the attacks, and '
                "the robust accuracies too high."
            )
    if robust.num_images != total:
        yield f"**Attacked images.** Attacks were made on {robust.num_images:,} of the {total:,} images."
    if "autoattack" not in robust.robust_top1:
        yield "**No AutoAttack.** Stronger attacks may find more mistakes: read these accuracies as upper bounds."
    yield f"**One threat.** Robust accuracies are for {budget(robust)}; other norms and sizes were not tried."
    if "router" in robust.robust_top1:
        yield (
            "**The attack on the router** only tries to change routes. Its accuracy stands beside the others and is no "
            "measure of robustness."
        )


def limits(facts: Facts, results: Results) -> list[str]:
    """Return the sentences that hold for this model, each with a title in bold."""
    total = results.scores.num_images
    return [
        *_of_data(facts, results),
        *_of_seeds(facts, results),
        *_of_choice(facts, results),
        *_of_corruptions(results.corruptions, total),
        *_of_attacks(results.robustness, total),
    ]

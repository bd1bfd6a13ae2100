"""The sentences of a card; every number in them comes from results.json or config.json."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from mocse_timm.hub.card_scores import attack_title, budget, pixels
from mocse_timm.hub.card_tables import millions, speed, table
from mocse_timm.hub.data_names import data_name
from mocse_timm.hub.facts import Facts
from mocse_timm.hub.results import Results

__all__ = [
    "attacks",
    "baseline",
    "checks",
    "clean",
    "commands",
    "corruption_source",
    "costs",
    "experts",
    "introduction",
    "licence",
    "measured_on",
    "router",
    "training",
    "verdict",
]

WIDTH = 90  # characters after which a command is broken
WHAT = {
    "mocse": (
        "A mixture of class-specific experts, [MoCSE](https://arxiv.org/abs/2311.10177): {experts}, trained to say "
        '"mine" or "not mine"; their answers are combined without parameters.'
    ),
    "advmoe": (
        "A mixture of experts inside every layer, [AdvMoE](https://arxiv.org/abs/2308.10110): a router gives each "
        "image one path, at the cost of one expert."
    ),
    "ensemble": (
        "An ensemble of {networks} that each tell all classes, their probabilities averaged: the control to "
        "mixtures of class-specific experts."
    ),
    "dense": "A dense network: one of the baselines that mixtures of experts are measured against.",
    "timm": "One of timm's own networks.",
}
WEIGHTS = {
    "last": "the weights of the last epoch",
    "average": "the average of the weights at the last epoch",
    "best": "the weights of the epoch with the best validation accuracy",
    "best average": "the average of the weights at the epoch with the best validation accuracy",
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(results: Results) -> str:
    return f"{results.row.img_size}x{results.row.img_size}"


def introduction(facts: Facts, results: Results) -> str:
    """Say what the model is."""
    count = facts.options.get("num_experts")
    what = WHAT[facts.kind if facts.ours else "timm"].format(
        experts=f"{count} experts that share out the classes" if facts.grouped else "one expert for each class",
        networks="networks" if count is None else f"{count} networks",
    )
    options = ", ".join(f"`{name}={json.dumps(value)}`" for name, value in facts.options.items())
    made = f"`{facts.architecture}`" + (f" with {options}" if options else "")
    return (
        f"{what} For [timm](https://github.com/huggingface/pytorch-image-models): {made}; {facts.num_classes} classes, "
        f"images of {_size(results)} pixels, trained on {data_name(facts.training.dataset).title}."
    )


def _subject(results: Results) -> str:
    data = data_name(results.row.dataset)
    return f"{results.scores.num_images:,} images of {data.title}, {results.row.split} split"


def measured_on(results: Results) -> str:
    """Say what the scores at the top are."""
    errors = results.corruptions is not None and results.corruptions.correct is not None
    more = " ± is one standard error over the images." if errors else ""
    return f"Accuracies are top-1; the clean one is of {_subject(results)}.{more}"


def clean(results: Results) -> str:
    """Say all clean scores."""
    scores = results.scores
    return (
        f"Clean, {_subject(results)}: top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} %, cross-entropy "
        f"{scores.loss:.3f} nats, calibration error {scores.ece:.2f} %."
    )


def corruption_source(results: Results) -> str:
    """Say which corrupted images were scored, and how the same images do without corruption."""
    scores = results.corruptions
    if scores is None:
        return ""
    same = "the same images" if scores.clean_correct is not None else f"all {scores.clean_images:,} images"
    return (
        f"Images: {scores.source}; {scores.num_images:,} of {data_name(scores.dataset).title}, {scores.split} split, "
        f"for each corruption and severity. Of {same} without corruption, {scores.clean_top1:.2f} % are named right."
    )


def baseline(results: Results) -> str:
    """Say what the model is compared with."""
    compared = results.comparison
    if compared is None:
        return ""
    how = (
        f"paired over the {compared.num_images:,} images that both saw"
        if compared.paired
        else "binomial, as the two did not see the same images"
    )
    return f"This model minus `{compared.baseline}`, in points of accuracy; standard errors are {how}."


def verdict(results: Results) -> str:
    """Say how the comparison ends."""
    compared, judged = results.comparison, results.verdict
    if compared is None or judged is None:
        return ""
    which = "benchmark" if "benchmark" in compared.mce else "all"
    mce, more = compared.mce.get(which), compared.effective_robustness
    errors = "" if mce is None else f"; mCE {mce:.1f} %, with the baseline in AlexNet's place"
    return (
        f"Verdict: {judged.words}. Effective robustness, points gained on corrupted images minus points gained on "
        f"clean ones: {more.points:+.2f} ± {more.standard_error:.2f}{errors}."
    )


def _how(name: str, options: Mapping[str, Any], norm: str) -> str:
    steps, size = options.get("steps"), options.get("step_size")
    title = attack_title(name).partition(",")[0]
    if not isinstance(steps, int) or not isinstance(size, int | float):
        return f"{title}: " + ", ".join(f"{option} {value}" for option, value in options.items())
    return f"{title}: {steps} steps of {pixels(size, norm)}"


def attacks(results: Results) -> str:
    """Say how the model was attacked."""
    robust = results.robustness
    if robust is None:
        return ""
    how = [_how(name, robust.options.get(name) or {}, robust.norm) for name in robust.robust_top1]
    return f"{budget(robust)} (pixels in [0, 1]), {robust.num_images:,} images. {'; '.join(how)}."


def checks(results: Results) -> str:
    """Say what was found of the gradients that the attacks follow."""
    if results.robustness is None:
        return ""
    lines = [
        f"- {'passed' if check.passed else '**failed**'}: {check.name} ({check.found})"
        for check in results.robustness.checks
    ]
    return "Do the attacks mean anything? Checks:\n\n" + "\n".join(lines) if lines else ""


def experts(results: Results) -> str:
    """Say how well the experts tell their own classes, all together."""
    row, scored = results.row, results.scores.experts
    if not scored or None in (row.expert_precision, row.expert_recall, row.expert_auroc):
        return ""
    return (
        f"Each expert on its own question, its class or not, at confidence {scored[0].threshold:g}: precision "
        f"{row.expert_precision:.3f}, recall {row.expert_recall:.3f}, AUROC {row.expert_auroc:.3f}, means over all."
    )


def router(results: Results) -> str:
    """Say how the router shares out clean images."""
    routing = results.robustness.routing if results.robustness is not None else None
    if routing is None:
        return ""
    use = ", ".join(f"{share:.1f} %" for share in routing.use)
    return f"Images sent to each expert: {use}. Mean entropy of the router's choice: {routing.entropy:.3f} nats."


def training(facts: Facts) -> str:
    """Say how the model was trained, beside the command."""
    told = facts.training
    where = f" on {told.hardware}" if told.hardware else ""
    weights = WEIGHTS.get(told.weights, told.weights)
    versions = ", ".join(f"{name} {version}" for name, version in (told.versions or {}).items())
    software = f" Software: {versions}." if versions else ""
    data, epochs = data_name(told.dataset).title, _count(told.epochs, "epoch")
    return f"Recipe `{told.recipe}`, {epochs} on {data}, seed {told.seed}{where}; {weights}.{software}"


def licence(facts: Facts) -> str:
    """Say under which licence the weights are."""
    if facts.license is None:
        return "No licence is stated: that of the weights which the training began from holds."
    return "Apache-2.0." if facts.license == "apache-2.0" else f"{facts.license}, as config.json has it."


def costs(results: Results) -> str:
    """Return what the model costs, with the machine its speed was measured on."""
    cost = results.computation
    processes = f", {cost.num_processes} processes" if cost.num_processes > 1 else ""
    layout = ", channels_last" if cost.channels_last else ""
    numbers = table(
        ["parameters", f"MACs for one image of {_size(results)}", "images/s"],
        [millions(cost.parameters), millions(cost.macs), speed(cost.images_per_second)],
    )
    return (
        f"{numbers}\n\nSpeed in inference, loading included, on {cost.hardware}: {cost.precision}{layout}, batches of "
        f"{_count(cost.batch_size, 'image')}, {_count(cost.threads, 'thread')}{processes}."
    )


def commands(facts: Facts) -> str:
    """Return the command that trained the model, or all of them where it was continued with other flags."""
    last = f"```bash\n{_command(facts.training.command)}\n```"
    earlier = facts.training.earlier_commands
    if not earlier:
        return last
    lines = ["The training was continued with other flags; these commands made the weights, one after the other."]
    for part in earlier:
        steps = f" and {_count(part.steps, 'step')}" if part.steps else ""
        lines += [f"Until {_count(part.epochs, 'epoch')}{steps} were done:", f"```bash\n{_command(part.command)}\n```"]
    return "\n\n".join([*lines, "From there on, with `--resume`:", last])


def _command(typed: str) -> str:
    """Return a long command on several lines, broken between its words, as a shell reads it."""
    try:
        words = shlex.split(typed)
    except ValueError:  # no command of a shell: as it stands
        return typed
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if len(lines[-1]) + len(quoted) > WIDTH and word.startswith("--"):
            lines.append("   ")
        lines[-1] += f" {quoted}"
    return " \\\n".join(lines).strip()

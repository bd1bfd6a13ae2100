"""The card: every number of it is in the files, every fact it must not hide is said, and its code runs."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import pytest
import timm
import torch
import yaml
from hub_runs import CLASSES, SMALL, attacked, corrupted, edit_json, make_run, make_weights
from huggingface_hub import ModelCard
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS
from mocse_timm.hub import card_text, citations
from mocse_timm.hub.card import build_card, card_values, template, write_card
from mocse_timm.hub.data_names import data_name
from mocse_timm.hub.facts import read_facts
from mocse_timm.hub.results import read_results

NAME = "user/small"
KINDS = {
    "corruptions": ("mocse_preact18", {}),
    "no scores but clean ones": ("mocse_preact18_shared", {"experts": True}),
    "an ensemble": ("ensemble", {"corruptions": corrupted()}),
    "attacks": ("advmoe_resnet18", {"robustness": attacked()}),
    "dense, on an archive": ("cifar_preact18", {"corruptions": corrupted(source="CIFAR-10-C", dataset="cifar10")}),
    "without frost": (
        "cifar_preact18",
        {"corruptions": corrupted().only([name for name in CORRUPTIONS if name != "frost"], (1, 3))},
    ),
}


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model, scores = KINDS[request.param]
    return make_run(tmp_path / "small", model, **scores)


def index_of(card: str) -> list[dict]:
    return yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]


def numbers_of_json(value: object) -> list[float]:
    """Return every number of a JSON file, those inside its strings and the lengths of its lists too."""
    if isinstance(value, dict):
        return [len(value), *(n for pair in value.items() for item in pair for n in numbers_of_json(item))]
    if isinstance(value, list):
        return [len(value), *range(len(value)), *(number for item in value for number in numbers_of_json(item))]
    if isinstance(value, str):
        return [float(number) for number in re.findall(r"\d+\.?\d*", value)]
    return [] if value is None or isinstance(value, bool) else [float(value)]  # type: ignore[arg-type]


def test_every_number_of_the_card_is_in_results_or_config(run: Path) -> None:
    """Written anew for this test, more simply than the rule in the package: each word of the text is looked at."""
    held = [
        number
        for name in ("results.json", "config.json")
        for number in numbers_of_json(json.loads((run / name).read_text()))
    ]
    text = re.sub(
        r"```.*?```|\(https?:[^)]*\)|\(mocse_timm [^)]*\)|CIFAR-\d+(-C)?|\[0, 1\]",
        "",
        build_card(run, repo_id=NAME),
        flags=re.DOTALL,
    )
    looked_at = 0
    for word in re.split(r"[\s|`()\[\]*]+", text):
        word = word.strip(",.;:'\"%").replace(",", "")
        for part in re.fullmatch(r"(\d+)x(\d+)", word).groups() if re.fullmatch(r"(\d+)x(\d+)", word) else [word]:  # type: ignore[union-attr]
            if not re.fullmatch(r"[-+]?\d+(\.\d+)?(e-\d+)?(/255)?", part):
                continue
            number, _, pixels = part.partition("/")
            digits = len(number.partition(".")[2])
            value = abs(float(number)) / (255 if pixels else 1)
            candidates = [*held, *(n / 1e6 for n in held)]
            close = 0.5 * 10**-digits / (255 if pixels else 1) + 1e-9
            assert any(abs(abs(n) - value) <= close for n in candidates), part
            looked_at += 1
    assert looked_at > 30


def test_the_card_begins_with_the_import_and_its_code_runs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = build_card(run, repo_id=NAME).split("```python\n")[1].split("```")[0]
    assert code.startswith("import mocse_timm")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), "red").save("picture.png")
    names: dict = {}
    exec(code.replace(f"hf-hub:{NAME}", f"local-dir:{run}"), names)
    assert capsys.readouterr().out.strip() in CLASSES
    assert names["picture"].shape == (1, 3, 32, 32) and 0 <= names["picture"].min() <= names["picture"].max() <= 1


def test_a_number_that_no_file_holds_cannot_be_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_text, "measured_on", lambda results: "It beats others by 12.34 points.")
    with pytest.raises(BadInput, match=r"would say 12\.34, which neither results.json nor config.json holds"):
        write_card(run)
    assert not (run / "README.md").exists()


def test_the_template_asks_for_nothing_that_is_not_given_and_has_no_number(run: Path) -> None:
    """A name that nobody fills in would be left empty without a word: jinja's way."""
    asked = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(template()))
    assert asked - {"card_data"} == card_values(read_facts(run), read_results(run), NAME).keys()
    assert not re.search(r"\d{2}|\d\.\d", re.sub(r"Apache-2\.0", "", template()))


def test_metadata_hold_every_score_each_under_a_name_of_its_own(tmp_path: Path) -> None:
    scores = corrupted(mixture=True)
    run = make_run(tmp_path / "run", "advmoe_resnet18", corruptions=scores, robustness=attacked())
    card = build_card(run, repo_id=NAME)
    found = {(part["dataset"]["type"], part["dataset"].get("config")): part for part in index_of(card)}
    values = {key: part["metrics"][0]["value"] for key, part in found.items()}
    assert (
        all(len(part["metrics"]) == 1 for part in found.values())
        and len(found) == len(index_of(card)) == 1 + 2 + 19 + 3
    )
    assert values["cifar10-jpeg", None] == 85.61
    assert values["cifar10-jpeg-corrupted", "mean of 15 corruptions"] == pytest.approx(
        scores.top1[:15].mean(), abs=0.005
    )
    assert values["cifar10-jpeg-corrupted", "mean of 19 corruptions"] == pytest.approx(scores.top1.mean(), abs=0.005)
    for name, line in zip(CORRUPTIONS, scores.top1, strict=True):
        assert values["cifar10-jpeg-corrupted", name] == pytest.approx(line.mean(), abs=0.005)
    assert values["cifar10-jpeg", "autoattack, Linf 8/255"] == 35.0
    arguments = found["cifar10-jpeg", "pgd50, Linf 8/255"]["dataset"]["args"]
    assert arguments == {
        "attack": "pgd50",
        "norm": "linf",
        "epsilon": 8 / 255,
        "num_images": 1000,
        "steps": 50,
        "step_size": 2 / 255,
    }
    assert len(ModelCard(card).data.eval_results) == 25  # type: ignore[union-attr]


def test_what_the_experts_give_is_said_of_groups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert '(1, experts, 2): "not mine" and "mine"' in card_of(tmp_path / "single")
    monkeypatch.setitem(SMALL, "mocse_preact18", {"expert_width": 0.0625, "num_experts": 4})
    card = card_of(tmp_path / "groups", experts=False)
    assert "4 experts that share out the classes" in card and "not mine" not in card.split("```python")[1]
    assert '(1, experts, 1 + largest group): "none of mine", then the expert\'s classes, padded with -inf' in card
    model: Any = timm.create_model("mocse_preact18", **SMALL["mocse_preact18"]).eval()
    found = model.forward_experts(torch.rand(1, 3, 32, 32))  # 10 classes: 3, 3, 2, 2
    assert found.shape == (1, 4, 1 + 3) and found[0, :, 3].isinf().tolist() == [False, False, True, True]


@pytest.mark.parametrize(("count", "words"), [({"num_experts": 2}, "of 2 networks"), ({}, "of networks")])
def test_an_ensemble_is_counted_where_its_config_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: dict[str, int], words: str
) -> None:
    monkeypatch.setitem(SMALL, "ensemble", {"expert_width": 0.0625} | count)
    assert f"An ensemble {words} that each tell all classes, their" in card_of(tmp_path, "ensemble", experts=False)


@pytest.mark.parametrize(
    ("model", "mixture"),
    [("mocse_preact18", True), ("advmoe_resnet18", True), ("ensemble", False), ("cifar_preact18", False)],
)
def test_tags_say_what_it_is(tmp_path: Path, model: str, mixture: bool) -> None:
    data = yaml.safe_load(build_card(make_run(tmp_path / "run", model, experts=False), repo_id=NAME).split("---")[1])
    assert ("mixture-of-experts" in data["tags"]) == mixture
    assert {"timm", "image-classification", "robustness", "mocse_timm"} <= set(data["tags"])
    assert (data["license"], data["pipeline_tag"], data["library_name"]) == (
        "apache-2.0",
        "image-classification",
        "mocse_timm",
    )
    assert data["datasets"] == ["uoft-cs/cifar10"]


def card_of(tmp_path: Path, model: str = "mocse_preact18", facts: dict | None = None, **scores: object) -> str:
    return build_card(make_run(tmp_path / "run", model, facts, **scores), repo_id=NAME)


def test_limits_follow_from_the_facts(tmp_path: Path) -> None:
    bare = card_of(tmp_path / "bare", experts=True, dataset="cifar10", facts={"dataset": "cifar10"})
    assert "**Corruptions** have not been measured" in bare and "**Attacks** have not been measured" in bare
    assert "The numbers are of one seed, 3." in bare
    assert not any(
        word in bare for word in ("JPEG", "Generated", "A part of the images", "Standard errors", "AutoAttack")
    )
    full = card_of(tmp_path / "full", "advmoe_resnet18", corruptions=corrupted(), robustness=attacked(passed=False))
    assert "went through JPEG" in full and "**Generated corruptions.**" in full
    assert "scored on 37 of the 10,000 images" in full and "Attacks were made on 1,000 of the 10,000" in full
    assert '**A check failed:** "gradients are not zero" (zero for 3.1 % of 64 images)' in full
    assert "no measure of robustness" in full
    pgd = card_of(tmp_path / "pgd", "cifar_preact18", robustness=attacked(names=("pgd50",)))
    assert "**No AutoAttack.**" in pgd and "The attack on the router" not in pgd


def test_incomplete_corruptions_cannot_pass_for_complete_ones(tmp_path: Path) -> None:
    scores = corrupted().only([name for name in BENCHMARK if name != "frost"], (1, 3))
    card = card_of(tmp_path, corruptions=scores)
    assert "mean of 14 of 15" in card and "mean of the 15" not in card
    assert "**Left out:** frost" in card and "**Severities** 1, 3 alone" in card
    assert "mean accuracy, 14 of 15 corruptions, %" in card


def test_a_published_archive_keeps_its_name_and_generated_images_never_get_it(tmp_path: Path) -> None:
    official = card_of(tmp_path / "a", corruptions=corrupted(source="CIFAR-10-C", dataset="cifar10"), dataset="cifar10")
    assert {part["dataset"]["type"] for part in index_of(official)} == {"cifar10", "cifar-10-c"}
    assert "Generated corruptions" not in official
    assert "cifar-10-c" not in card_of(tmp_path / "b", corruptions=corrupted(dataset="cifar10"), dataset="cifar10")


def test_the_papers_are_those_of_architecture_and_recipe(tmp_path: Path) -> None:
    cited = {
        ("mocse_preact18", "standard"): ["2311.10177"],
        ("mocse_preact18", "trades"): ["2311.10177", "1901.08573"],
        ("advmoe_resnet18", "advmoe"): ["2308.10110", "1901.08573"],
        ("cifar_preact18", "standard"): [],
        ("ensemble", "standard"): [],
    }
    for place, ((model, recipe), papers) in enumerate(cited.items()):
        text = card_of(tmp_path / str(place), model, facts={"recipe": recipe}, experts=False)
        assert re.findall(r"arXiv:(\d+\.\d+)", text) == papers


def test_the_papers_are_as_in_the_citation_file() -> None:
    file = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text())
    for entry, reference in zip((citations.MOCSE, citations.ADVMOE, citations.TRADES), file["references"], strict=True):
        plain = " ".join(entry.split())
        assert reference["title"] in plain and str(reference["year"]) in plain
        assert reference["identifiers"][0]["value"] in plain
        names = [f"{author['family-names']}, {author['given-names']}" for author in reference["authors"]]
        assert " and ".join(names) in plain


@pytest.mark.parametrize(
    ("name", "title", "repository"),
    [
        ("cifar10", "CIFAR-10", "uoft-cs/cifar10"),
        ("torch/cifar100", "CIFAR-100", "uoft-cs/cifar100"),
        ("folder:cifar10_jpeg", "CIFAR-10 (JPEG copy)", "uoft-cs/cifar10"),
        ("folder:CIFAR-100-small", "CIFAR-100 (folder CIFAR-100-small)", "uoft-cs/cifar100"),
        ("folder:Tiny ImageNet200", "Tiny-ImageNet (folder Tiny ImageNet200)", "zh-plus/tiny-imagenet"),
        ("folder:cifar10_32x32", "CIFAR-10 (folder cifar10_32x32)", "uoft-cs/cifar10"),
        ("folder:cifar10.1", "cifar10.1", None),
        ("folder:cifar1000", "cifar1000", None),
        ("digits", "handwritten digits of scikit-learn", None),
        ("folder:digits", "digits", None),
        ("folder:my pets", "my pets", None),
        ("hfds/user/cifar10-pets", "user/cifar10-pets", "user/cifar10-pets"),
    ],
)
def test_data_sets_have_names_for_people(name: str, title: str, repository: str | None) -> None:
    assert (data_name(name).title, data_name(name).repository) == (title, repository)


def test_a_run_that_does_not_say_how_it_was_trained_gets_no_card(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", experts=False)
    edit_json(run / "config.json", "mocse_timm", value={"seed": 0})
    with pytest.raises(BadInput, match="does not say how the model was trained"):
        build_card(run, repo_id=NAME)


def test_scores_of_other_weights_get_no_card(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run", "cifar_preact18", experts=False), make_weights(tmp_path / "other")
    (run / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match="scored other weights"):
        write_card(run)
    edit_json(run / "results.json", "computation", "weights_sha256", value=None)
    with pytest.raises(BadInput, match="does not say which weights it scored"):
        write_card(run)
    assert not (run / "README.md").exists()


def test_write_card_puts_card_and_heatmap_into_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "small")
    file = write_card(run)
    assert file == run / "README.md" and "USER/small" in file.read_text()
    with Image.open(run / "heatmap.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    assert write_card(run, repo_id=NAME).read_text() == build_card(run, repo_id=NAME)
    file.write_text("# My notes\n")
    with pytest.raises(BadInput, match="no card of ours"):
        write_card(run)
    assert file.read_text() == "# My notes\n"
    file.unlink()
    file.mkdir()
    with pytest.raises(BadInput, match="README.md is a folder; move it away first"):
        write_card(run)


@pytest.mark.parametrize(("speed", "said"), [(84.24, "84.2"), (99.97, "100.0"), (100.4, "100"), (0.31, "0.3")])
def test_a_slow_model_has_its_card(run: Path, speed: float, said: str) -> None:
    edit_json(run / "results.json", "computation", "images_per_second", value=speed)
    assert f"| {said} |" in build_card(run, repo_id="user/slow")

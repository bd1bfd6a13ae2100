"""What a card says of the published epoch, of a class without images, and under names that are no plain words."""

from dataclasses import replace
from pathlib import Path

import pytest
from corruption_scores import scores_of
from hub_runs import CLASSES, attacked, edit_json, make_run

from mocse_timm.hub.card import build_card, write_card
from mocse_timm.hub.check import check
from mocse_timm.hub.publication import assemble
from mocse_timm.hub.results import read_results

NAME = "user/small"


@pytest.mark.parametrize(
    ("weights", "limit", "training"),
    [
        (
            "best",
            "The weights of the epoch with the best validation accuracy are published.",
            "the weights of the epoch with the best validation accuracy.",
        ),
        (
            "best average",
            "The average of the weights at the epoch with the best validation accuracy is published.",
            "the average of the weights at the epoch with the best validation accuracy.",
        ),
    ],
)
def test_a_picked_epoch_is_no_last_one_and_its_score_flatters(
    tmp_path: Path, weights: str, limit: str, training: str
) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", {"weights": weights}, experts=False)
    card = build_card(run, repo_id=NAME)
    flatters = "It was chosen on the very images that it is scored on, so its score flatters."
    assert f"**A picked epoch.** {limit} {flatters}" in card
    assert f"seed 3 on 2 cores of AMD EPYC 7763; {training}" in card
    assert "No checkpoint was picked" not in card
    other = make_run(tmp_path / "other", "cifar_preact18", {"weights": weights, "dataset": "cifar10"}, experts=False)
    assert f"**A picked epoch.** {limit}\n" in build_card(other, repo_id=NAME)


@pytest.mark.parametrize("weights", ["last", "average"])
def test_the_last_epoch_was_not_picked(tmp_path: Path, weights: str) -> None:
    card = build_card(make_run(tmp_path, "cifar_preact18", {"weights": weights}, experts=False), repo_id=NAME)
    assert "No checkpoint was picked by its score" in card and "A picked epoch" not in card


def test_a_training_that_was_continued_with_other_flags_tells_all_its_commands(tmp_path: Path) -> None:
    plain = build_card(make_run(tmp_path / "plain", "cifar_preact18", experts=False), repo_id=NAME)
    assert "continued" not in plain
    earlier = [
        {"command": "python train.py --lr 0.2", "epochs": 1, "steps": 31},
        {"command": "python train.py --lr 0.1", "epochs": 4, "steps": 0},
    ]
    run = make_run(tmp_path / "run", "cifar_preact18", {"earlier_commands": earlier}, experts=False)
    card = build_card(run, repo_id=NAME)
    last = plain.partition("## How it was trained\n\n")[2].partition("\n\nRecipe")[0]
    blocks = [
        "The training was continued with other flags; these commands made the weights, one after the other.",
        "Until 1 epoch and 31 steps were done:",
        "```bash\npython train.py --lr 0.2\n```",
        "Until 4 epochs were done:",
        "```bash\npython train.py --lr 0.1\n```",
        "From there on, with `--resume`:",
        last,
    ]
    assert "\n\n".join(["## How it was trained", *blocks]) in card


@pytest.mark.parametrize("name", ["48213377", "0.731"])
def test_a_name_may_be_a_number(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / name, "cifar_preact18", experts=False)
    file = write_card(run, repo_id=f"48213378/{name}")
    assert f"# {name}\n" in file.read_text()
    assert check(str(run)).failures == ()
    file.write_text(file.read_text() + "\nMy own words.\n")
    assert check(str(run)).failures == ()
    file.write_text(file.read_text() + "\nIt is right for 0.731 % more images.\n")
    assert check(str(run)).failures == ("README.md says 0.731, which neither results.json nor config.json holds",)
    write_card(run)
    (tmp_path / "out").mkdir()
    assemble(run, tmp_path / "out", repo_id=f"48213378/{name}")
    write_card(run)


def test_a_class_without_attacked_images_has_no_shares(tmp_path: Path) -> None:
    robust = attacked()
    assert robust.routing is not None
    uses = robust.routing.use_by_class | {CLASSES[0]: None}
    robust = replace(robust, routing=replace(robust.routing, use_by_class=uses))
    run = make_run(tmp_path, "advmoe_resnet18", robustness=robust)
    assert read_results(run).robustness == robust
    card = build_card(run, repo_id=NAME)
    assert f"| {CLASSES[0]} |  |  |\n| {CLASSES[1]} | 12.5 | 87.5 |" in card


def test_names_of_classes_cannot_break_a_table_or_mark_words_in_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", corruptions=scores_of([[[True, False]]]))
    names = {"a|b": 50.0, "c\nd": None, "*e* <b>[f](g_h)": 12.5}
    edit_json(run / "results.json", "scores", "per_class_accuracy", value=names)
    edit_json(run / "results.json", "scores", "experts", value=None)
    card = build_card(run, repo_id=NAME)
    assert "| a\\|b | 50.00 |\n| c d |  |\n| \\*e\\* \\<b\\>\\[f\\](g\\_h) | 12.50 |" in card


@pytest.mark.parametrize(
    ("folder", "name"),
    [("run-1_a.b", "run-1_a.b"), ("my run (2)", "my-run-2"), ("a..b--c", "a.b-c"), ("läuft", "l-uft")],
)
def test_a_card_names_a_repository_that_may_be_whatever_the_folders_name(
    folder: str, name: str, tmp_path: Path
) -> None:
    assert f'"hf-hub:USER/{name}"' in write_card(make_run(tmp_path / folder)).read_text()


def with_cfg(run: Path, **changes: object) -> Path:
    for name, value in changes.items():
        edit_json(run / "config.json", "pretrained_cfg", name, value=value)
    return run


def test_a_licence_that_the_hub_does_not_know_is_other_with_its_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", experts=False)
    for name, written in (("dinov3-license", "dinov3-license"), ("Our Own, 2026", "our-own-2026")):
        card = build_card(with_cfg(run, license=name), repo_id=NAME)
        assert f"\nlicense: other\nlicense_name: {written}\n" in card and f"\n{name}, as config.json has it." in card
    assert "\nlicense: mit\n" in build_card(with_cfg(run, license="MIT"), repo_id=NAME)


def test_the_licence_is_that_of_config_json(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", experts=False)
    card = build_card(run, repo_id=NAME)
    assert "\nlicense: apache-2.0\n" in card and "\nApache-2.0." in card
    card = build_card(with_cfg(run, license="cc-by-nc-4.0"), repo_id=NAME)
    assert "\nlicense: cc-by-nc-4.0\n" in card and "\ncc-by-nc-4.0, as config.json has it." in card
    assert "apache" not in card.lower()
    card = build_card(with_cfg(run, license=None), repo_id=NAME)
    assert "\nlicense:" not in card and "\nNo licence is stated: that of the weights" in card


def test_one_of_timms_networks_is_not_called_ours(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", experts=False)
    assert "import mocse_timm" in build_card(run, repo_id=NAME)
    edit_json(run / "config.json", "architecture", value="resnet18")
    edit_json(run / "config.json", "model_args", value={})
    card = build_card(run, repo_id=NAME)
    assert "One of timm's own networks." in card and "\nimport timm\nimport torch\n" in card
    for phrase in ("import mocse_timm", "from_hub", "baselines", "pixels in [0, 1]"):
        assert phrase not in card, phrase


def test_data_that_were_only_scored_do_not_pass_for_those_of_the_training(tmp_path: Path) -> None:
    def card(name: str, trained: str, split: str) -> str:
        run = make_run(tmp_path / name, "cifar_preact18", {"dataset": trained}, experts=False)
        edit_json(run / "results.json", "row", "split", value=split)
        return build_card(run, repo_id=NAME)

    same = card("same", "folder:cifar10_jpeg", "train")
    assert "The model was trained and scored on a copy of CIFAR-10" in same and "**Seen images.**" in same
    assert "**Other data.**" not in same
    original = card("original", "cifar10", "train")  # other files of the same images
    assert "The model was scored on a copy of CIFAR-10" in original and "**Seen images.**" in original
    assert "**Other data.** Training was on CIFAR-10, scores are of CIFAR-10 (JPEG copy)." in original
    assert "**Seen images.**" not in card("digits", "digits", "train")
    assert "**Seen images.**" not in card("validation", "cifar10", "validation")

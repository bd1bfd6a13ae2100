"""``validate.py`` from a run's folder to the table, the results file and the exit code."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import torch
import yaml
from timm.models import save_for_hf

from mocse_timm.checks import BadInput
from mocse_timm.data import MemoryImages, load_data
from mocse_timm.evaluation import run as evaluation_run
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.run import main, validate
from mocse_timm.models.normalized import normalized

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    model = timm.create_model("cifar_preact18", width=0.125)
    save_for_hf(model, str(folder), safe_serialization=True)
    settings = {"model": "cifar_preact18", "dataset": "digits", "data_dir": None, "img_size": 16, "batch_size": 8}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mixture")
    model = timm.create_model("mocse_preact18", expert_width=0.125)
    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def test_scores_are_those_of_a_plain_loop(run: Path) -> None:
    scores = validate(ValidateConfig(str(run), device="cpu", batch_size=100))
    digits = load_data("digits", model_size=16).validation
    assert isinstance(digits, MemoryImages)
    model = timm.create_model(f"local-dir:{run}", pretrained=True).eval()
    with torch.inference_mode():
        chosen = model(digits.images.float() / 255).argmax(dim=1)
    assert scores.num_images == 355
    assert scores.top1 == pytest.approx(100 * (chosen == digits.labels).double().mean().item(), rel=1e-6)
    assert list(scores.per_class_accuracy) == list("0123456789")


def test_mixture_from_flags_to_results_file(mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scores.json"
    flags = ["--dataset", "digits", "--img-size", "8", "-b", "128", "-j", "0", "--device", "cpu"]
    assert main([str(mixture), *flags, "--results-file", str(file)]) == 0
    saved = json.loads(file.read_text())
    assert (saved["row"]["num_images"], saved["row"]["img_size"]) == (355, 8)
    assert saved["row"]["model"] == mixture.name  # never where it lies on this machine
    assert len(saved["scores"]["experts"]) == 10
    printed = capsys.readouterr().out
    assert "data set    digits (validation)" in printed
    assert "class  accuracy %  precision  recall   AUROC" in printed


def test_the_memory_layout_does_not_change_the_scores(run: Path) -> None:
    plain = validate(ValidateConfig(str(run), device="cpu"))
    channels_last = validate(ValidateConfig(str(run), device="cpu", channels_last=True))
    assert channels_last.loss == pytest.approx(plain.loss, rel=1e-5)
    assert channels_last.top1 == pytest.approx(plain.top1)


def test_the_training_images_can_be_scored(run: Path) -> None:
    assert validate(ValidateConfig(str(run), device="cpu", split="train")).num_images == 1442


def test_models_that_do_not_normalise_get_a_layer_that_does() -> None:
    plain = timm.create_model("resnet10t", num_classes=10).eval()
    images = torch.rand(2, 3, 64, 64)
    config = timm.data.resolve_data_config(model=plain)
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        torch.testing.assert_close(normalized(plain)(images), plain((images - mean) / std))
    ours = timm.create_model("cifar_preact18", width=0.125)
    assert normalized(ours) is ours


def test_a_model_that_does_not_normalise_is_scored_on_normalised_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    scores = validate(ValidateConfig(str(tmp_path), dataset="digits", img_size=32, device="cpu"))
    digits = load_data("digits", model_size=32).validation
    assert isinstance(digits, MemoryImages)
    with torch.inference_mode():
        logits = normalized(model.eval())(digits.images.float() / 255)
    assert scores.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, digits.labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--img-size", "0"], "--img-size must be at least 1, got 0"),
        (["--seed", "99999999999999999999"], "--seed must be from 0 to 4294967295, got 99999999999999999999"),
        (["--seed", "-1"], "--seed must be from 0 to 4294967295, got -1"),
        (["--amp-dtype", "float16"], "--amp-dtype is about 16 bits; add --amp"),
        (["--attack", "pgd1", "--results-file", f"{'a' * 225}.json"], "cannot write"),
        (["--results-file", "scores.txt"], "must end in .json or .csv"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
        (["--dataset", "digit"], "unknown data set 'digit' (did you mean 'digits'?)"),
        (["--checkpoint", "weights.pth"], "is a pickle"),
        (["--num-classes", "100"], "has 10 classes, the model 100"),
    ],
)
def test_bad_flags_are_one_sentence_and_exit_code_2(
    flags: list[str], sentence: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), *flags]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("name", ["config.json", "summary.csv"])
def test_results_do_not_replace_what_the_model_is_made_of(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "config.json").read_bytes()
    assert main([str(run), "--device", "cpu", "--results-file", str(run / name)]) == 2
    assert f"--results-file and the model's {name} are the same file" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before


def spoiled(run: Path, folder: Path, **files: Any) -> Path:
    """Copy ``run`` to ``folder``, with ``config.yaml`` or keys of ``config.json`` changed."""
    for file in run.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if "yaml" in files:
        (folder / "config.yaml").write_text(files["yaml"])
    if "json" in files:
        config = json.loads((folder / "config.json").read_text()) | files["json"]
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"yaml": "img_size: 16"}, "--dataset is missing"),
        *(
            ({"yaml": "img_size: 16", "json": {"mocse_timm": {"dataset": name}}}, f"it was trained on {name!r}; add it")
            for name in ("folder:pets", "HFDS/user/pets", "torch/mnist")
        ),
        ({"yaml": "img_size: 16", "json": {"mocse_timm": {"dataset": ["digits"]}}}, "--dataset is missing"),
        ({"yaml": "- digits"}, "must hold 'flag: value' lines, got a list"),
        ({"yaml": "{"}, "config.yaml cannot be read"),
        ({"json": {"label_names": list("1023456789")}}, "the model's classes in another order ('0' first, the model"),
    ],
)
def test_runs_that_mislead_are_refused(
    files: dict[str, Any], sentence: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(spoiled(run, tmp_path, **files))]) == 2
    assert sentence in capsys.readouterr().err


def test_weights_alone_are_scored_on_the_set_that_config_json_names(run: Path, tmp_path: Path) -> None:
    weights = spoiled(run, tmp_path, json={"mocse_timm": {"dataset": "digits"}})
    (weights / "config.yaml").unlink()
    assert validate(ValidateConfig(str(weights), device="cpu")).num_images == 355


def test_the_best_weights_go_by_the_flags_of_their_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = tmp_path / "best"
    best.mkdir()
    spoiled(run, best, json={"mocse_timm": {"dataset": "folder:pets"}})
    (best / "config.yaml").rename(tmp_path / "config.yaml")
    with pytest.raises(BadInput, match="says only that it was trained on 'folder:pets'"):  # beside it is no run
        validate(ValidateConfig(str(best), device="cpu"))
    (tmp_path / "summary.csv").touch()
    expected = validate(ValidateConfig(str(run), device="cpu"))
    assert validate(ValidateConfig(str(best), device="cpu")) == expected
    monkeypatch.chdir(best)
    assert validate(ValidateConfig(".", device="cpu")) == expected


def test_what_was_not_typed_comes_from_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(dataset: str, **options: Any) -> Any:
        asked.append((dataset, *(options[key] for key in ("data_dir", "val_split", "image_size"))))
        raise BadInput("seen enough")

    monkeypatch.setattr(evaluation_run, "load_data", load)
    settings = {"dataset": "hfds/pets", "data_dir": "pets", "val_split": "test", "img_size": 48}
    folder = str(spoiled(run, tmp_path, yaml=yaml.safe_dump(settings)))
    own, other = ["--dataset", "hfds/pets"], ["--dataset", "digits"]
    for flags in ([], ["--val-split", "extra", "--img-size", "8"], own, [*own, "--data-dir", "moved"], other):
        assert main([folder, *flags]) == 2
    assert asked == [
        ("hfds/pets", "pets", "test", 48),
        ("hfds/pets", "pets", "extra", 8),
        ("hfds/pets", "pets", "test", 48),
        ("hfds/pets", "moved", "test", 48),
        ("digits", None, "validation", 48),
    ]


def test_data_with_another_number_of_classes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = timm.create_model("cifar_preact18", width=0.125, num_classes=7)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    assert main([str(tmp_path), "--dataset", "digits"]) == 2
    assert "data set 'digits' has 10 classes, the model 7" in capsys.readouterr().err


def test_image_size_of_a_model_that_knows_one_only_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, depth=1)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    assert main([str(tmp_path), "--dataset", "digits", "--img-size", "64"]) == 2
    assert "takes 224x224 images only; leave the flag out" in capsys.readouterr().err


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "validate.py")
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_script_itself(run: Path) -> None:
    good = call(str(run), "--device", "cpu")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("model ")
    bad = call("runs/never")
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: model folder 'runs/never' does not exist")
    assert bad.stderr.count("\n") == 1


def test_a_missing_extra_is_named_with_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("run", "settings"):
        monkeypatch.delitem(sys.modules, f"mocse_timm.evaluation.{module}")
    monkeypatch.setitem(sys.modules, "yaml", None)  # what importing it now raises is what a missing one raises
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "validate.py"), run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: yaml is not installed; run pip install "mocse_timm[train]"\n'

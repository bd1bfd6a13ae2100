"""The size a model is trained at goes with its weights: validate.py, predict and timm take it from config.json."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import torch
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image

import mocse_timm.training.run as run
from mocse_timm.data import MemoryImages, Resizing, load_data
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.per_image_transforms import file_transform
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.run import validate
from mocse_timm.hub.predict import _read, load_by_name, predict_picture
from mocse_timm.models.saving import save_model
from mocse_timm.training.build import image_facts
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.results import _correct_timm_facts


def trained(folder: Path, *flags: str) -> Path:
    """Train for an epoch and return a copy of the best weights, far from the run's own flags."""
    short = ["--epochs", "1", "--workers", "0", "--output", str(folder), "--experiment", "run"]
    assert run.main([*flags, *short]) == 0
    return Path(shutil.copytree(folder / "run" / "best", folder / "weights"))


@pytest.mark.parametrize(
    ("flags", "image"),
    [
        ("--model cifar_preact18 --model-kwargs width=0.125 --img-size 12", (3, 12, 12)),
        ("--model test_vit --img-size 32", (3, 32, 32)),
        ("--model test_resnet --in-chans 1 --img-size 24 --model-ema", (1, 24, 24)),
        ("--model mocse --model-kwargs backbone=test_vit num_experts=2 --img-size 32", (3, 32, 32)),
        ("--model advmoe_resnet18 --model-kwargs width=0.125 --img-size 12", (3, 12, 12)),
    ],
)
def test_weights_alone_are_scored_at_the_size_of_their_training(
    flags: str, image: tuple[int, int, int], tmp_path: Path
) -> None:
    weights = trained(tmp_path, *flags.split())
    scores = validate(ValidateConfig(str(weights), device="cpu"))
    told = json.loads((weights / "config.json").read_text())["mocse_timm"]["validation"]
    assert (scores.num_images, scores.loss) == (355, pytest.approx(told["loss"], rel=1e-4))
    facts = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{weights}", pretrained=True))
    assert (facts["input_size"], facts["crop_pct"]) == (image, 1.0)


def test_a_picture_is_shown_to_the_model_at_the_size_of_its_training(tmp_path: Path) -> None:
    model = load_by_name(str(trained(tmp_path, *"--model test_vit --img-size 32".split())))
    pixels = random_pixels(0, 32, 32)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    image = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5  # that model's mean and deviation
    with torch.inference_mode():
        expected = model(image).softmax(dim=1)[0].tolist()
    assert predict_picture(model, tmp_path / "picture.png").probabilities == pytest.approx(expected, rel=1e-4)


def test_the_transform_that_timm_makes_of_config_json_is_that_of_validation(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", height=80, width=80)  # too large to be kept in memory, so they are cut
    flags = ["--model", "test_vit", "--img-size", "32", "--dataset", f"folder:{tmp_path / 'data'}", "--batch-size", "4"]
    model = timm.create_model(f"local-dir:{trained(tmp_path, *flags)}", pretrained=True)
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    picture = Image.fromarray(random_pixels(0, 90, 120))
    ours = file_transform(32, Augmentation(), training=False, resizing=Resizing(0.95, interpolation="bicubic"))(picture)
    torch.testing.assert_close(transform(picture), (ours / 255 - 0.5) / 0.5)


@pytest.mark.parametrize(("name", "size"), [("cifar_preact18", 20), ("cifar_vgg16_bn", 64), ("convnext_atto", 32)])
def test_the_last_map_is_told_as_large_as_it_is(name: str, size: int) -> None:
    model: Any = timm.create_model(name, num_classes=10)
    config = TrainConfig(model=name, img_size=size)
    _correct_timm_facts(model, image_facts(config, load_data("digits", model_size=size)))
    with torch.inference_mode():
        assert model.pretrained_cfg["pool_size"] == model.forward_features(torch.zeros(1, 3, size, size)).shape[2:]


def test_a_model_trained_at_its_own_size_has_the_config_json_it_had(tmp_path: Path) -> None:
    model, files = timm.create_model("cifar_preact18", width=0.125), []
    for _ in range(2):
        save_model(model, tmp_path)
        files.append((tmp_path / "config.json").read_text())
        _correct_timm_facts(model, image_facts(TrainConfig(), load_data("digits", model_size=32)))
    assert files[0] == files[1]


@pytest.mark.parametrize("odd", ["all", "one for training"])
def test_small_images_that_are_no_squares_are_seen_as_in_training(odd: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "data", height=32, width=64 if odd == "all" else 32)  # kept in memory, squashed
    write_image(tmp_path / "data/train/ant/2.png", random_pixels(9, 32, 64))
    data = load_data(f"folder:{tmp_path / 'data'}", model_size=32, image_size=32)
    model: Any = timm.create_model("cifar_preact18", width=0.0625, num_classes=data.num_classes)
    facts = image_facts(TrainConfig(model="cifar_preact18", img_size=32), data)
    assert facts["crop_mode"] == "squash"
    _correct_timm_facts(model, facts)
    (tmp_path / "run").mkdir()
    save_model(model, tmp_path / "run", class_names=data.class_names)
    loaded = load_by_name(str(tmp_path / "run"))
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded), is_training=False)
    assert isinstance(data.validation, MemoryImages)
    for path, image in zip(sorted((tmp_path / "data" / "val").rglob("*.png")), data.validation.images, strict=True):
        torch.testing.assert_close(_read(path, loaded)[0], image / 255)
        torch.testing.assert_close(transform(Image.open(path)), image / 255)

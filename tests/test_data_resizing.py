"""Images from files become squares as the model's cfg says: by timm's own transform, wherever they are shown to it."""

from pathlib import Path
from typing import Any

import pytest
import timm
import timm.data
import torch
from accelerate import Accelerator
from images_on_disk import write_folder
from PIL import Image
from timm.models import PretrainedCfg

from mocse_timm.checks import BadInput
from mocse_timm.data import DataSplits, Resizing, load_data
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.scorer import Scorer
from mocse_timm.training import build
from mocse_timm.training.config import TrainConfig

WAYS = [(0.875, "center", "bilinear"), (0.9, "squash", "bicubic"), (1.0, "squash", "nearest"), (1.0, "border", "box")]
ways = pytest.mark.parametrize(("crop_pct", "crop_mode", "interpolation"), WAYS)


@pytest.fixture
def data(tmp_path: Path) -> DataSplits:
    write_folder(tmp_path, height=80, width=110)  # too large to be kept in memory
    return load_data(f"folder:{tmp_path}", model_size=72)


def shown_by_timm(folder: Path, model: Any) -> torch.Tensor:
    """Return timm's validation images, (4, 3, 72, 72) in [0, 1]."""
    facts = timm.data.resolve_model_data_config(model) | {"mean": (0.485, 0.456, 0.406)}  # of the border, ImageNet's
    transform: Any = timm.data.create_transform(**facts, is_training=False, normalize=False)
    pictures = [Image.open(path).convert("RGB") for path in sorted((folder / "val").rglob("*.png"))]
    return torch.stack([transform(picture) for picture in pictures]) / 255


@ways
def test_validation_shows_images_as_timm_does(
    data: DataSplits, tmp_path: Path, crop_pct: float, crop_mode: str, interpolation: str
) -> None:
    model: Any = timm.create_model("cifar_preact18", width=0.0625, num_classes=2)
    ours = {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
    model.pretrained_cfg = model.pretrained_cfg | ours | {"input_size": (3, 72, 72)}
    scorer = Scorer(ValidateConfig("model", workers=0), model, torch.device("cpu"), Accelerator())
    images = torch.cat([images for images, _ in scorer.shared_loader(data.validation)])
    torch.testing.assert_close(images, shown_by_timm(tmp_path, model))


@ways
def test_training_validates_on_what_it_writes_into_config_json(
    data: DataSplits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    crop_pct: float,
    crop_mode: str,
    interpolation: str,
) -> None:
    cfg = PretrainedCfg(input_size=(3, 72, 72), crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation)
    monkeypatch.setattr("timm.get_pretrained_cfg", lambda _: cfg)
    config = TrainConfig(model="cifar_preact18", img_size=72, workers=0, batch_size=2)
    loader = build.build_loaders(config, data, Accelerator())[1]
    facts = build.image_facts(config, data)
    assert (facts["crop_pct"], facts["crop_mode"], facts["interpolation"]) == (crop_pct, crop_mode, interpolation)
    model: Any = timm.create_model("cifar_preact18", width=0.0625, num_classes=2)
    model.pretrained_cfg = model.pretrained_cfg | facts
    torch.testing.assert_close(torch.cat([images for images, _ in loader]), shown_by_timm(tmp_path, model))


def test_a_mixture_is_shown_images_as_its_backbone() -> None:
    for name in ("mocse", "advmoe"):
        model: Any = timm.create_model(name, backbone="tf_efficientnetv2_b3", num_classes=2, device="meta")
        facts = timm.data.resolve_model_data_config(model)
        assert facts["crop_mode"] == "squash"
        cfg: Any = timm.get_pretrained_cfg("tf_efficientnetv2_b3")
        assert Resizing.of_cfg(facts) == Resizing(cfg.crop_pct, cfg.crop_mode, cfg.interpolation)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"crop_pct": 0.0}, "crop_pct is 0.0: give the part of the side that is kept, such as 0.875"),
        ({"crop_pct": float("nan")}, "crop_pct is nan"),
        ({"crop_mode": "middle"}, "crop_mode is 'middle': it has to be one of center, squash, border"),
        ({"interpolation": "random"}, "interpolation is 'random': it has to be one of nearest, bilinear, bicubic"),
    ],
)
def test_words_that_timm_does_not_know_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=f"^{said}"):
        Resizing(**wrong)

"""What a picture shows: the classes, each expert's confidence, and the pictures that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from images_on_disk import random_pixels
from PIL import Image
from torch import nn

from mocse_timm.checks import BadInput
from mocse_timm.hub.predict import Prediction, load_by_name, predict_picture, render_prediction
from mocse_timm.models.saving import save_model

PIXELS = random_pixels(0, 32, 32)


def as_batch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def mixture() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("mocse_preact18", expert_width=0.0625, num_classes=3).eval()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_picture_of_the_model_s_size_is_answered_as_the_model_answers(mixture: nn.Module, picture: Path) -> None:
    found = predict_picture(mixture, picture)
    with torch.inference_mode():
        expected = mixture(as_batch(PIXELS)).softmax(dim=1)[0].tolist()
    assert found.probabilities == pytest.approx(expected, rel=1e-6)
    assert found.class_names == ["class 0", "class 1", "class 2"]


def test_a_large_picture_is_shown_as_timm_shows_it(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=3).eval()  # made for bicubic resizing
    facts = timm.data.resolve_model_data_config(model)
    Image.fromarray(random_pixels(0, 300, 400)).save(tmp_path / "large.png")
    transform: Any = timm.data.create_transform(**facts, is_training=False)
    with Image.open(tmp_path / "large.png") as image, torch.inference_mode():
        expected = model(transform(image)[None]).softmax(dim=1)[0].tolist()
    assert facts["interpolation"] == "bicubic"
    assert predict_picture(model, tmp_path / "large.png").probabilities == pytest.approx(expected, abs=1e-5)


def test_an_expert_s_confidence_is_its_own_softmax(mixture: nn.Module, picture: Path) -> None:
    with torch.inference_mode():
        logits = mixture.forward_experts(as_batch(PIXELS))[0]  # pyright: ignore[reportCallIssue]
    by_hand = [1 / (1 + np.exp(float(other - mine))) for other, mine in logits]
    assert predict_picture(mixture, picture).confidences == pytest.approx(by_hand, rel=1e-5)


def test_a_dense_model_s_answer_has_no_experts_and_names_from_its_config(picture: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_model(timm.create_model("cifar_preact18", width=0.0625, num_classes=2), run, class_names=["cat", "dog"])
    found = predict_picture(load_by_name(str(run)), picture)
    assert (found.class_names, found.confidences, found.route) == (["cat", "dog"], None, None)


def test_a_router_s_choice_is_told(picture: Path) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("advmoe_vgg16_bn", width=0.0625, num_experts=3).eval()
    found = predict_picture(model, picture)
    assert found.route is not None and sum(found.route) == pytest.approx(1)
    with torch.inference_mode():
        chosen = int(model.route(as_batch(PIXELS)).argmax())
    assert f"path: expert {chosen} of 3 (the router gives it {100 * max(found.route):.1f} %)" in render_prediction(
        found, 5
    )


def test_a_photograph_is_turned_as_its_camera_was_held(mixture: nn.Module, picture: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(np.rot90(PIXELS).copy()).save(tmp_path / "held.png", exif=exif)
    upright, turned = (predict_picture(mixture, path) for path in (picture, tmp_path / "held.png"))
    assert turned.probabilities == upright.probabilities


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_any_kind_of_picture_and_any_size_is_read(mode: str, mixture: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / ("large.tif" if mode == "CMYK" else "large.png")
    Image.fromarray(random_pixels(1, 90, 61)).convert(mode).save(file)
    assert sum(predict_picture(mixture, file).probabilities) == pytest.approx(1)


def test_a_gray_model_takes_a_coloured_picture(picture: Path) -> None:
    model = timm.create_model("cifar_preact18", width=0.0625, in_chans=1).eval()
    assert len(predict_picture(model, picture).probabilities) == 10


def test_what_is_no_picture_is_refused(mixture: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="picture .*missing.png does not exist"):
        predict_picture(mixture, tmp_path / "missing.png")
    (tmp_path / "words.png").write_text("not a picture")
    with pytest.raises(BadInput, match="words.png cannot be read .*; give a JPEG or PNG file"):
        predict_picture(mixture, tmp_path / "words.png")


def test_a_model_without_classes_is_refused(picture: Path) -> None:
    with pytest.raises(BadInput, match="no classes, only features"):
        predict_picture(timm.create_model("cifar_preact18", width=0.0625, num_classes=0).eval(), picture)


def test_the_likeliest_come_first_and_every_expert_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Prediction(["cat", "horse", "dog"], [0.25, 0.0, 0.75], [0.5, 0.0, 1.0], None)
    monkeypatch.setattr("mocse_timm.hub.predict.sys.stdout", type("Terminal", (), {"encoding": "ascii"})())
    assert render_prediction(found, 2).splitlines() == [
        "class  probability",
        "dog         75.0 %",
        "cat         25.0 %",
        "",
        'how sure each expert is of "mine"',
        "cat     50.0 %  " + 15 * "#",
        "horse    0.0 %",
        "dog    100.0 %  " + 30 * "#",
    ]


def test_names_of_classes_cannot_move_the_cursor() -> None:
    text = render_prediction(Prediction(["cat\x1b[2J", "dog\u2028cow"], [0.25, 0.75], [0.5, 0.5], None), 2)
    assert r"cat\x1b[2J" in text and r"dog\u2028cow" in text
    assert text.replace("\n", "").isprintable()


def test_of_many_experts_the_surest_are_shown() -> None:
    names = [f"class {index}" for index in range(30)]
    found = Prediction(names, [1 / 30] * 30, [index / 30 for index in range(30)], None)
    text = render_prediction(found, 1)
    assert 'how sure the 20 surest of 30 are of "mine"' in text
    assert "class 29" in text and "class 9 " not in text


def test_asking_for_no_class_is_refused() -> None:
    with pytest.raises(BadInput, match="--top is 0: give at least 1"):
        render_prediction(Prediction(["a"], [1.0], None, None), 0)

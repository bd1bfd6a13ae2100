"""A saved model is the same model in another process, for every name this package registers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

import mocse_timm.models  # noqa: F401  (registers the models)

NAMES = [name for name in timm.list_models() if timm.model_entrypoint(name).__module__.startswith("mocse_timm.")]
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

RELOAD = """
import sys, timm, torch, mocse_timm
from pathlib import Path
from safetensors.torch import load_file, save_file
torch.set_num_threads(int(sys.argv[2]))
root = Path(sys.argv[1])
images = load_file(root / "images.safetensors")["images"]
logits = {}
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    logits[folder.name] = model(images).detach().contiguous()
save_file(logits, root / "reloaded.safetensors")
"""


def narrow(name: str, **arguments: Any) -> Any:
    """Build ``name`` at an eighth of the width."""
    widths: dict[str, Any] = {"expert_width": 0.125} if name.startswith(("mocse", "ensemble")) else {"width": 0.125}
    if name.endswith("_shared"):
        widths["width"] = 0.125
    torch.manual_seed(0)
    return timm.create_model(name, **(widths | arguments))


CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in NAMES} | {
    "groups": ("mocse", {"num_experts": 3, "num_classes": 7, "aggregation": "log_confidence"}),
    "timm_backbone": (
        "mocse",
        {"backbone": "test_resnet", "backbone_args": {"stem_width": 8}, "expert_width": None, "num_classes": 2},
    ),
    "routed_timm_backbone": ("advmoe", {"backbone": "test_vit", "width": None, "num_experts": 3, "img_size": 32}),
    "no_classes": ("mocse", {"num_classes": 0, "num_experts": 4}),
    "shared_ensemble": ("ensemble", {"num_experts": 3, "width": 0.125, "shared_stages": 2}),
    "two_classes": ("mocse_preact18_shared", {"num_classes": 2}),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases in one folder, with the logits they gave here and those a fresh process got."""
    root = tmp_path_factory.mktemp("saved")
    logits = {}
    for case, (name, arguments) in CASES.items():
        model = narrow(name, **arguments).train()
        model(torch.rand(4, 3, 32, 32))  # so that the running statistics are not those of a new model
        save_for_hf(model, str(root / case), safe_serialization=True)
        logits[case] = model.eval()(IMAGES).detach().contiguous()  # safetensors takes no strided views
    save_file(logits, root / "logits.safetensors")
    save_file({"images": IMAGES}, root / "images.safetensors")
    subprocess.run([sys.executable, "-c", RELOAD, str(root), str(torch.get_num_threads())], check=True)
    return root


@pytest.mark.parametrize("case", CASES)
def test_fresh_process_gives_equal_bits(case: str, saved: Path) -> None:
    assert torch.equal(load_file(saved / "reloaded.safetensors")[case], load_file(saved / "logits.safetensors")[case])
    assert [path.name for path in (saved / case).iterdir() if path.suffix in (".bin", ".pt", ".pth")] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_its_cfg(name: str) -> None:
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None
    assert (cfg.mean, cfg.std, cfg.crop_pct) == ((0, 0, 0), (1, 1, 1), 1.0)


@pytest.mark.parametrize(
    "name", ["cifar_preact18", "mocse_preact18", "mocse_preact18_shared", "two_classes", "advmoe_resnet18"]
)
def test_reload_adapts_classes_and_channels(name: str, saved: Path) -> None:
    source = f"local-dir:{saved / name}"
    original: Any = timm.create_model(source, pretrained=True).eval()
    for classes in (5, 12):
        model: Any = timm.create_model(source, pretrained=True, num_classes=classes).eval()
        assert model(IMAGES).shape == (2, classes)
        body = {k: v for k, v in model.state_dict().items() if "head.fc" not in k}
        for key, value in original.state_dict().items():
            assert key not in body or torch.equal(body[key], value), key
    headless = timm.create_model(source, pretrained=True, num_classes=0).eval()
    features = original.forward_head(original.forward_features(IMAGES), pre_logits=True)
    assert torch.equal(headless(IMAGES), features)
    gray: Any = timm.create_model(source, pretrained=True, in_chans=1)
    kernels = [m for m in original.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3]
    for kernel, gray_kernel in zip(
        kernels, [m for m in gray.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 1], strict=True
    ):
        torch.testing.assert_close(gray_kernel.weight, kernel.weight.sum(1, keepdim=True))


def test_more_classes_start_from_copies_of_the_saved_experts(saved: Path) -> None:
    saved_state = load_file(saved / "mocse_preact18" / "model.safetensors")
    model = timm.create_model(f"local-dir:{saved / 'mocse_preact18'}", pretrained=True, num_classes=12)
    for index in (10, 11):
        key = "stages.0.0.conv1.weight"
        assert torch.equal(model.state_dict()[f"experts.{index}.{key}"], saved_state[f"experts.{index - 10}.{key}"])


@pytest.mark.parametrize("classes", [0, 2, 12])
def test_a_changed_classifier_is_saved_as_it_is_now(classes: int, tmp_path: Path) -> None:
    model = narrow("mocse", num_experts=3, num_classes=3)
    model.reset_classifier(classes, "max")
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    again: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(again(IMAGES), model.eval()(IMAGES))
    assert again.global_pool == "max"


def test_config_records_what_was_chosen_and_the_aggregation_always(saved: Path) -> None:
    arguments = json.loads((saved / "mocse_preact18" / "config.json").read_text())["model_args"]
    chosen = {"expert_width": 0.125, "in_chans": 3, "num_classes": 10, "global_pool": "avg"}
    # the default aggregation may change, and weights trained for one are wrong for another
    assert arguments == {**chosen, "aggregation": "log_confidence"}


def test_a_tag_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"Invalid pretrained tag \(nope\)"):
        timm.create_model("mocse_preact18.nope")

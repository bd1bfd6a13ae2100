"""Cost of a model, and the facts beside its scores."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import nn

from mocse_timm.evaluation.computation import count_macs
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.run import main
from mocse_timm.flags import parse_flags
from mocse_timm.provenance import hardware, versions


class Small(nn.Module):
    """A convolution of stride 2 and a linear layer, whose cost is known by hand."""

    in_chans = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(images).mean(dim=(2, 3)))


def test_macs_are_those_counted_by_hand() -> None:
    model = Small().train()
    assert count_macs(model, 8) == 4 * 4 * 4 * 3 * 9 + 4 * 10
    assert model.training


def test_macs_of_attention_are_those_counted_by_hand() -> None:
    options: dict[str, Any] = {"patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3, "num_classes": 10}
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, **options)
    tokens, width = 16 + 1, 12
    products = 2 * tokens * tokens * width  # queries by keys, and their answer by values, over all heads
    linear = tokens * width * (3 * width + width + 4 * width + 4 * width)
    assert count_macs(model, 32) == 16 * (3 * 8 * 8) * width + 2 * (products + linear) + width * 10


def test_macs_of_an_image_do_not_grow_with_the_number_of_routed_experts() -> None:
    costs = [count_macs(timm.create_model("advmoe_vgg16_bn", width=0.25, num_experts=e), 32) for e in (1, 2, 8)]
    assert max(costs) - min(costs) <= 64 * 8  # the router's last layer alone


def test_the_results_say_what_they_were_measured_with(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run, file = tmp_path / "run", tmp_path / "results.json"
    run.mkdir()
    model = timm.create_model("cifar_preact18", width=0.125)
    save_for_hf(model, str(run), safe_serialization=True)
    assert main([str(run), "--dataset", "digits", "-b", "100", "--channels-last", "--results-file", str(file)]) == 0
    content = json.loads(file.read_text())
    found = content["computation"]
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert found["macs"] == count_macs(model, 32) == pytest.approx(content["row"]["gmacs"] * 1e9, abs=1e5)
    assert found["weights_sha256"] == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert (found["precision"], found["channels_last"], found["batch_size"]) == ("float32", True, 100)
    assert found["hardware"] == hardware(torch.device("cpu")) and "core" in found["hardware"]
    assert found["versions"] == versions()
    assert found["images_per_second"] == pytest.approx(content["row"]["images_per_second"], abs=0.01)


def test_the_command_beside_the_scores_has_every_flag_but_the_paths(tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "results.json"
    run.mkdir()
    save_for_hf(timm.create_model("cifar_preact18", width=0.125), str(run), safe_serialization=True)
    flags = ["--dataset", "digits", "--attack", "pgd1", "--attack-images", "5", "--epsilon", "1/255", "--device", "cpu"]
    assert main([str(run), *flags, "--results-file", str(file)]) == 0
    program, script, *again = shlex.split(json.loads(file.read_text())["computation"]["command"])
    assert (program, script, again[0]) == ("python", "validate.py", "RUN")
    assert parse_flags(ValidateConfig, again, description="") == ValidateConfig(
        "RUN", dataset="digits", attack="pgd1", attack_images=5, epsilon=1 / 255, device="cpu"
    )


@pytest.mark.parametrize(("threads", "processes", "cores"), [(1, 1, "1 core"), (3, 2, "6 cores"), (3, 4, "8 cores")])
def test_hardware_counts_the_cores_that_are_used(
    monkeypatch: pytest.MonkeyPatch, threads: int, processes: int, cores: str
) -> None:
    monkeypatch.setattr("mocse_timm.provenance._cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert hardware(torch.device("cpu"), processes).startswith(f"{cores} of ")

"""Which experts run as one grouped network, and which one by one."""

from typing import Any

import pytest
from class_mixtures import images, mocse
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mocse_timm.models.grouped_experts as grouped_experts
from mocse_timm.models.grouped_experts import grouped


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_experts, "DEVICES", ("cpu",))


def _hook(model: Any) -> None:
    model.experts[2].stages[0].register_forward_hook(lambda *_: None)


def _one_frozen_norm(model: Any) -> None:
    model.experts[0].norm.eval()


def _group_norms(model: Any) -> None:
    for expert in model.experts:
        expert.norm = nn.Sequential(nn.GroupNorm(4, expert.num_features), nn.ReLU())


def _a_norm_with_another_momentum(model: Any) -> None:
    model.experts[1].norm.momentum = 0.5


class AcrossChannels(nn.Module):
    """Layers of known kinds, and what they give mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x).softmax(dim=1)


def _a_softmax(model: Any) -> None:
    for expert in model.experts:
        expert.norm = nn.Sequential(expert.norm, AcrossChannels())


def _norms_that_average_over_all_batches(model: Any) -> None:
    """As torch.optim.swa_utils.update_bn makes them."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None


REASONS = {
    "norms that average over all batches": _norms_that_average_over_all_batches,
    "other norms": _group_norms,
    "a softmax": _a_softmax,
    "a norm with another momentum": _a_norm_with_another_momentum,
    "two poolings at once": lambda model: model.reset_classifier(3, "catavgmax"),
    "a hook": _hook,
    "a frozen batch norm": _one_frozen_norm,
    "activation checkpointing": lambda model: model.set_grad_checkpointing(),
    "dropout": lambda model: setattr(model.experts[1].head.drop, "p", 0.5),
    "another number of outputs": lambda model: model.experts[1].reset_classifier(5),
    "a compiled expert": lambda model: model.experts[1].compile(backend="eager"),
    "no classifier": lambda model: model.reset_classifier(0),
}


@pytest.mark.parametrize("reason", REASONS)
def test_experts_run_one_by_one_with(reason: str) -> None:
    model = mocse(expert_width=0.125)
    assert grouped(model.experts, images()) is not None
    REASONS[reason](model)
    assert grouped(model.experts, images()) is None


def _named(model: Any) -> None:
    for name, layer in model.named_modules():
        layer.name = name


def _once_hooked(model: Any) -> None:
    model.experts[0].stages[0].register_full_backward_hook(lambda *_: None).remove()


def _noted(model: Any) -> None:
    model.experts[0].norm.notes = ({"layers": 1},)


@pytest.mark.parametrize("change", [_named, _once_hooked, _noted])
def test_what_is_no_setting_of_a_layer_changes_nothing(change: Any) -> None:
    model = mocse(expert_width=0.125)
    change(model)
    assert grouped(model.experts, images()) is not None


@pytest.mark.parametrize(
    "register", [f"register_module_{name}_hook" for name in ("forward_pre", "forward", "full_backward")]
)
def test_experts_run_one_by_one_with_a_hook_on_all_modules(register: str) -> None:
    model = mocse(expert_width=0.125)
    assert grouped(model.experts, images()) is not None
    handle = getattr(nn.modules.module, register)(lambda *_: None)
    try:
        assert grouped(model.experts, images()) is None
    finally:
        handle.remove()
    assert grouped(model.experts, images()) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "cifar_densenet", "expert_width": 0.25},
        {"backbone": "resnet18"},
        {"num_classes": 4, "num_experts": 3, "expert_width": 0.125},
        {"num_classes": 2, "num_experts": 1, "expert_width": 0.125},
    ],
)
def test_networks_of_another_kind_run_one_by_one(options: dict[str, Any]) -> None:
    model = mocse("mocse" if "backbone" in options else "mocse_preact18", **options)
    assert grouped(model.experts, images()) is None


def test_they_run_one_by_one_where_something_follows_them_or_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mocse(expert_width=0.125)
    with FlopCounterMode(display=False):
        assert grouped(model.experts, images()) is None
    monkeypatch.setattr(grouped_experts, "DEVICES", ("cuda",))
    assert grouped(model.experts, images()) is None

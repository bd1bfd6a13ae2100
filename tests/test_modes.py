"""Train and eval flags, and which parameters learn, are put back one by one."""

import pytest
import torch
from torch import nn

from mocse_timm.modes import evaluating, held, without_gradients


def test_a_frozen_batch_norm_stays_frozen() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model[0].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True]


def test_flags_come_back_after_an_error() -> None:
    model = nn.Dropout()
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        raise RuntimeError("stop")
    assert model.training


def test_held_modules_change_in_no_bit_while_others_learn() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with held([model[1], model[2]]):
        model(torch.randn(8, 2)).square().sum().backward()
        assert [module.training for module in model] == [True, False, False]
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight", "0.bias"}
    assert all(module.training for module in model)
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, True, True, False]


@pytest.mark.parametrize("autocast", [False, True])
def test_a_pass_without_gradients_takes_none_from_the_next(autocast: bool) -> None:
    """Of torch 2.6 it would: there the 16-bit weight of the first pass serves the second."""
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with without_gradients(x):
            first = layer(x)
        second = layer(x)
    assert first.dtype == second.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert not first.requires_grad and torch.equal(first, second)
    second.sum().backward()
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad, torch.ones(2, 2))

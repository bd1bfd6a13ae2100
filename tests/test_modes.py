"""Train and eval flags are put back one by one."""

import pytest
from torch import nn

from mocse_timm.modes import evaluating


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

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import mocse_timm.models  # noqa: F401  (registers the models)


class LiteralBlock(nn.Module):
    """The pre-activation block as arXiv:1603.05027, figure 4 (e), draws it."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.norm1(x).relu()
        shortcut = self.shortcut(activated) if hasattr(self, "shortcut") else x
        return self.conv2(self.norm2(self.conv1(activated)).relu()) + shortcut


@pytest.mark.parametrize(("stage", "block", "stride"), [(0, 0, 1), (1, 0, 2), (1, 1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_blocks_equal_the_published_block_to_the_last_bit(stage: int, block: int, stride: int, training: bool) -> None:
    torch.manual_seed(0)
    network: Any = timm.create_model("cifar_preact18", width=0.25)
    ours = network.stages[stage][block].train(training)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):  # else weight 1 and bias 0 would hide a norm in the wrong place
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    inputs, outputs = ours.conv1.in_channels, ours.conv1.out_channels
    literal = LiteralBlock(inputs, outputs, stride).train(training)
    literal.load_state_dict({k.replace("downsample.conv", "shortcut"): v for k, v in ours.state_dict().items()})
    x = torch.randn(2, inputs, 8, 8)
    torch.testing.assert_close(ours(x), literal(x), rtol=0, atol=0)

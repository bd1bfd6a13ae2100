"""Losses as pure functions of tensors: none runs a model or touches an optimiser."""

from mocse_timm.losses.mocse import MoCSELoss as MoCSELoss
from mocse_timm.losses.mocse import expert_loss as expert_loss
from mocse_timm.losses.mocse import mocse_loss as mocse_loss
from mocse_timm.losses.mocse import multi_label_loss as multi_label_loss

"""Losses as pure functions of tensors: none runs a model or touches an optimiser."""

from mocse_timm.losses.consistency import consistency_loss as consistency_loss
from mocse_timm.losses.distillation import distillation_loss as distillation_loss
from mocse_timm.losses.mocse import MoCSELoss as MoCSELoss
from mocse_timm.losses.mocse import expert_loss as expert_loss
from mocse_timm.losses.mocse import mocse_loss as mocse_loss
from mocse_timm.losses.mocse import multi_label_loss as multi_label_loss
from mocse_timm.losses.routing import balance_loss as balance_loss
from mocse_timm.losses.routing import class_routing_loss as class_routing_loss
from mocse_timm.losses.routing import expert_shares as expert_shares
from mocse_timm.losses.trades import agreement_loss as agreement_loss
from mocse_timm.losses.trades import trades_loss as trades_loss

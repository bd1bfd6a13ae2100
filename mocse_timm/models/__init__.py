"""Importing this room registers every model with timm."""

from mocse_timm.models import mocse_zoo as mocse_zoo
from mocse_timm.models.cifar_densenet import CifarDenseNet as CifarDenseNet
from mocse_timm.models.cifar_preact import CifarPreAct as CifarPreAct
from mocse_timm.models.cifar_resnet import CifarResNet as CifarResNet
from mocse_timm.models.cifar_vgg import CifarVGG as CifarVGG
from mocse_timm.models.mocse import MoCSE as MoCSE

"""Importing this room registers every model with timm."""

from mocse_timm.models import advmoe_zoo as advmoe_zoo
from mocse_timm.models import mixture_zoo as mixture_zoo
from mocse_timm.models.advmoe import AdvMoE as AdvMoE
from mocse_timm.models.cifar_densenet import CifarDenseNet as CifarDenseNet
from mocse_timm.models.cifar_preact import CifarPreAct as CifarPreAct
from mocse_timm.models.cifar_resnet import CifarResNet as CifarResNet
from mocse_timm.models.cifar_vgg import CifarVGG as CifarVGG
from mocse_timm.models.ensemble import Ensemble as Ensemble
from mocse_timm.models.mixture import Mixture as Mixture
from mocse_timm.models.mocse import MoCSE as MoCSE

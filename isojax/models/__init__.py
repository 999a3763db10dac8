"""Flax modules: backbones, heads, and the siamese network built from them."""

from isojax.models.backbones import BACKBONES as BACKBONES
from isojax.models.heads import MLP as MLP
from isojax.models.heads import LinearMap as LinearMap
from isojax.models.normalization import BatchNorm as BatchNorm
from isojax.models.own_backbone import check_backbone as check_backbone
from isojax.models.own_backbone import describe_module as describe_module
from isojax.models.resnet import ResNet18 as ResNet18
from isojax.models.resnet import ResNet34 as ResNet34
from isojax.models.resnet import ResNet50 as ResNet50
from isojax.models.siamese import LEARNED_PREDICTORS as LEARNED_PREDICTORS
from isojax.models.siamese import NetworkSettings as NetworkSettings
from isojax.models.siamese import SiameseNetwork as SiameseNetwork
from isojax.models.siamese import build_network as build_network
from isojax.models.vit import ViT as ViT
from isojax.models.vit import ViTSmall as ViTSmall
from isojax.models.vit import ViTTiny as ViTTiny

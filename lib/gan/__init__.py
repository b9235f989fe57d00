"""Step two: an AttentionGAN-v2 with noise inputs and the non-mask change loss makes fake masks look real."""

from .batches import Batch, TrainData, make_batch
from .checkpoints import CheckpointError, list_checkpoints, load_network, read_meta
from .config import TrainConfig, pick_device, stable_seed
from .infer import Translation, Translator, load_generator
from .losses import adversarial_d, adversarial_g, l1, non_mask_change
from .networks import Discriminator, Generator, NoiseConfig, Parts, init_weights
from .pool import ImagePool
from .trainer import Model, Result, TrainError, train, train_step

__all__ = [
    "Batch",
    "CheckpointError",
    "Discriminator",
    "Generator",
    "ImagePool",
    "Model",
    "NoiseConfig",
    "Parts",
    "Result",
    "TrainConfig",
    "TrainData",
    "TrainError",
    "Translation",
    "Translator",
    "adversarial_d",
    "adversarial_g",
    "init_weights",
    "l1",
    "list_checkpoints",
    "load_generator",
    "load_network",
    "make_batch",
    "non_mask_change",
    "pick_device",
    "read_meta",
    "stable_seed",
    "train",
    "train_step",
]

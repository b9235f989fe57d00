"""Step two: an AttentionGAN-v2 with noise inputs and the non-mask change loss makes fake masks look real."""

from .batches import Batch, TrainData, make_batch
from .checkpoints import CheckpointError, list_checkpoints, load_network, read_meta
from .config import TrainConfig, pick_device, pick_precision, stable_seed
from .infer import Translation, Translator, load_generator, seconds_per_face
from .losses import adversarial_d, adversarial_g, l1, non_mask_change
from .networks import Discriminator, Generator, NoiseConfig, Parts, init_weights
from .official import load_attentiongan
from .pool import ImagePool
from .ranks import Ranks
from .released import list_released, load_released, pack_released
from .step import Model, train_step
from .trainer import Result, TrainError, train

__all__ = [
    "Batch",
    "CheckpointError",
    "Discriminator",
    "Generator",
    "ImagePool",
    "Model",
    "NoiseConfig",
    "Parts",
    "Ranks",
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
    "list_released",
    "load_attentiongan",
    "load_generator",
    "load_network",
    "load_released",
    "make_batch",
    "non_mask_change",
    "pack_released",
    "pick_device",
    "pick_precision",
    "read_meta",
    "seconds_per_face",
    "stable_seed",
    "train",
    "train_step",
]

"""The configuration of one training stage, and the seeds derived from it."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields

import torch

from .losses import ATTENTION_LOSSES, DISTANCES, NMC_NORMS, NMC_PROFILES
from .networks import UPSAMPLING, NoiseConfig

PRECISIONS = ("fp32", "bf16")
HOW = ("device", "compile", "graphs")  # fields that say how, not what
# Fields that came later: while they stand at their default they are no part of the hash, so that what was trained
# before is still known.
LATER = (
    *("method", "nmc_profile", "nmc_growth", "lambda_attention", "attention_loss"),
    *("lambda_distance", "distance_of", "one_sided", "average"),
)
METHODS = ("attentiongan", "cyclegan", "iamgan", "cut")  # lib.gan.methods


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return _whole(value) or isinstance(value, float)


KINDS = {  # a field's type → in words, and whether a value is of it
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("a whole number", _whole),
    int | None: ("a whole number or None", lambda value: value is None or _whole(value)),
    float: ("a number", _number),
    tuple[int, ...]: ("whole numbers", lambda value: isinstance(value, tuple) and all(map(_whole, value))),
    tuple[float, float]: ("two numbers", lambda value: isinstance(value, tuple) and all(map(_number, value))),
    NoiseConfig: ("a NoiseConfig", lambda value: isinstance(value, NoiseConfig)),
}


@dataclass(frozen=True)
class TrainConfig:
    """One stage of training. Defaults are the first row of the paper's Table 1 at the paper's size."""

    stage: str = "stage1"
    epochs: tuple[int, ...] = tuple(range(1, 61))  # paper Table 1: labels in the paper's numbering, one pass each
    steps_per_epoch: int | None = None  # None: one pass over the larger set (AttentionGAN's default)
    batch_size: int = 4  # paper §4
    lr: float = 2e-4  # paper §4. Constant: the stacked timeline (§4.3) never states a decay
    betas: tuple[float, float] = (0.5, 0.999)  # paper §4 gives 0.5; 0.999 is AttentionGAN's default
    lambda_A: float = 10.0  # weight of the cycle loss on A. Paper Table 1: 10 until epoch 90, then 8
    lambda_B: float = 10.0  # likewise on B
    identity_ratio: float = 0.5  # identity loss weighs identity_ratio · λ: AttentionGAN's default
    lambda_nmc: float = 0.0  # 0 = off, paper Table 1 until epoch 140. Its weight later: not given in the paper
    nmc_norm: str = "region"  # not given in the paper; chosen because it depends on no size (see losses)
    noise: NoiseConfig = field(default_factory=NoiseConfig)  # paper §4.2: sigma (0, 1, 0.2) from epoch 299
    # Not given in the paper; True chosen because §4 describes one generator "in each translation direction" and §4.2
    # changes "the generator".
    noise_in_G_BA: bool = True
    ngf: int = 64  # AttentionGAN's default
    ndf: int = 64  # AttentionGAN's default
    n_blocks: int = 9  # paper §4
    upsampling: str = "transposed"  # paper Fig. 2; "resize" is a deviation of ours (see networks.ResizeConv2d)
    # "fp32" or "bf16" (autocast; weights, losses and optimisers stay float32). Not given in the paper; "fp32" chosen
    # because the published code trains in it.
    precision: str = "fp32"
    size: int = 256  # paper §4, px
    pool_size: int = 50  # AttentionGAN's default
    flip: bool = True  # AttentionGAN's default; the non-mask tensor flips along
    seed: int = 0  # not given in the paper; chosen because any will do
    # The rest is not given in the paper and leaves the weights as they are (but for rounding on another device).
    keep_epochs: tuple[int, ...] = ()  # labels whose weights stay on disk; the newest two always do
    sample_count: int = 8  # in the fixed sample strip; chosen because one, as §4.2 has it, shows no spread
    tick_steps: int = 50  # a row of metrics per so many, and one at each epoch's end; chosen for a readable curve
    # Decay of a running mean of net_G_AB's weights, kept beside them as net_G_AB_average; 0 = none. Not the paper's:
    # the mean takes no part in training.
    average: float = 0.0
    method: str = "attentiongan"  # the paper's; for the others see lib.gan.methods
    # The paper's future work, all off (see losses). None of its numbers is given in the paper.
    nmc_profile: str = "flat"  # how the weight of a change grows with the distance from the mask
    nmc_growth: float = 0.0  # by how much over one side of the picture
    lambda_attention: float = 0.0  # weight of the attention's error against the mask region
    attention_loss: str = "l1"
    lambda_distance: float = 0.0  # weight of DistanceGAN's constraint
    distance_of: str = "halves"  # or "pairs", of pictures of a batch
    # No G_BA, no cycle loss, no D_A: these networks stay in the checkpoint as they were. Identity: of B alone.
    one_sided: bool = False
    device: str = "auto"  # "auto" = CUDA where there is one, else CPU. Not part of the hash
    compile: bool = False  # torch.compile: other rounding, the same training. Not part of the hash
    graphs: bool = False  # CUDA graphs: the same kernels, started in one go. Not part of the hash

    def __post_init__(self) -> None:
        self._settle_types()
        beyond = self.nmc_profile != "flat" or self.lambda_distance or self.one_sided or self.average
        able = ("attentiongan",) if self.lambda_attention else ("attentiongan", "cyclegan") if beyond else METHODS
        rules = {
            "stage": (bool(self.stage), "a name"),
            "epochs": (
                len(self.epochs) > 0 and list(self.epochs) == sorted(set(self.epochs)) and self.epochs[0] >= 0,
                "at least one epoch label, rising",
            ),
            "keep_epochs": (set(self.keep_epochs) <= set(self.epochs), "labels out of epochs"),
            "steps_per_epoch": (self.steps_per_epoch is None or self.steps_per_epoch > 0, "None or at least 1"),
            "lr": (0 < self.lr < math.inf, "above 0 and finite"),
            "betas": (len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)"),
            "nmc_norm": (self.nmc_norm in NMC_NORMS, f"one of {NMC_NORMS}"),
            "upsampling": (self.upsampling in UPSAMPLING, f"one of {', '.join(UPSAMPLING)}"),
            "precision": (self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            # 24: the least that leaves the discriminator a score
            "size": (self.size % 4 == 0 and self.size >= 24, "divisible by 4 and at least 24"),
            "pool_size": (self.pool_size >= 0, "at least 0"),
            "sample_count": (self.sample_count >= 0, "at least 0"),
            "average": (0 <= self.average < 1, "in [0, 1)"),
            "method": (
                self.method in able,
                f"one of {', '.join(METHODS)}; of these attentiongan alone with lambda_attention, it or cyclegan with "
                "nmc_profile, lambda_distance, one_sided or average",
            ),
            # What a weight of 0 makes idle is refused: it would change nothing but the hash.
            "nmc_profile": (
                self.nmc_profile in NMC_PROFILES and (self.nmc_profile == "flat" or self.lambda_nmc != 0),
                f"one of {', '.join(NMC_PROFILES)}; another than flat only with lambda_nmc above 0",
            ),
            "nmc_growth": (
                0 <= self.nmc_growth < math.inf and (self.nmc_growth > 0) == (self.nmc_profile != "flat"),
                "0 with nmc_profile flat, else above 0 and finite",
            ),
            "attention_loss": (
                self.attention_loss in ATTENTION_LOSSES and (self.attention_loss == "l1" or self.lambda_attention != 0),
                f"one of {', '.join(ATTENTION_LOSSES)}; another than l1 only with lambda_attention above 0",
            ),
            "distance_of": (
                self.distance_of in DISTANCES
                and (self.distance_of == "halves" or (self.batch_size > 1 and self.lambda_distance != 0)),
                f"one of {', '.join(DISTANCES)}; pairs only with lambda_distance above 0 and a batch_size above 1",
            ),
        }
        for name in ("batch_size", "ngf", "ndf", "n_blocks", "tick_steps"):
            rules[name] = (getattr(self, name) > 0, "at least 1")
        for name in ("lambda_A", "lambda_B", "identity_ratio", "lambda_nmc", "lambda_attention", "lambda_distance"):
            rules[name] = (0 <= getattr(self, name) < math.inf, "at least 0 and finite")
        for name, (holds, expected) in rules.items():
            if not holds:
                raise ValueError(f"TrainConfig.{name}: expected {expected}, got {getattr(self, name)!r}")

    def _settle_types(self) -> None:
        """Lists to tuples, a dict to NoiseConfig; ValueError for a field of another type."""
        for name in ("epochs", "betas", "keep_epochs"):
            if isinstance(getattr(self, name), (list, range)):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.noise, dict):
            try:
                object.__setattr__(self, "noise", NoiseConfig(**self.noise))
            except (TypeError, ValueError) as error:
                names = ", ".join(f.name for f in fields(NoiseConfig))
                raise ValueError(f"TrainConfig.noise: expected {names}, got {self.noise!r} ({error})") from error
        for f in fields(self):
            expected, holds = KINDS[f.type]
            if not holds(getattr(self, f.name)):
                raise ValueError(f"TrainConfig.{f.name}: expected {expected}, got {getattr(self, f.name)!r}")

    def steps_in_epoch(self, count_A: int, count_B: int) -> int:
        """Steps of one epoch: as configured, or one pass over the larger set (the last batch is filled up)."""
        return self.steps_per_epoch or -(-max(count_A, count_B) // self.batch_size)

    def to_dict(self) -> dict:
        """JSON-able; `from_dict` is its inverse."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """ValueError for a name that is no field."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"TrainConfig has no field {', '.join(unknown)}")
        return cls(**values)

    def hash(self) -> str:
        """16 hex digits over everything that shapes the result (all fields but device, compile and graphs)."""
        plain = TrainConfig().to_dict()
        values = {
            name: value
            for name, value in self.to_dict().items()
            if name not in HOW and (name not in LATER or value != plain[name])
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, other: "TrainConfig") -> list[str]:
        """Lines "name: mine, not theirs" for the fields that would change the hash."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{k}: {mine[k]!r}, not {theirs[k]!r}" for k in mine if k not in HOW and mine[k] != theirs[k]]


def stable_seed(*parts: str | int) -> int:
    """A 63-bit seed out of what it is for, e.g. (seed, stage, "flip", step): the same on every machine and run.

    All randomness of training is drawn from generators seeded this way, so a resumed run needs no generator state.
    (torch's CPU generators use the lowest 32 bits of a seed, NumPy's all of it.)
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def pick_precision(device: torch.device) -> str:
    """ "bf16" on CUDA and on CPUs with bfloat16 instructions, else "fp32": without them autocast only costs time."""
    # torch has no public question for the CPU's instructions; the names are stable within the pinned version.
    fast = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return "bf16" if fast else "fp32"


def pick_device(name: str) -> torch.device:
    """ "auto" → CUDA where there is one, else CPU; "cpu", "cuda" or "cuda:N" as they are.

    ValueError for a device that torch does not know or that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device and (device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < count)):
        return device
    there = ", ".join(f"cuda:{i}" for i in range(count)) or "none is"
    raise ValueError(f"device {str(name)!r}: expected auto, cpu, or a CUDA device that is there ({there})")

"""What is trained, on what, at which size: Table 1 of the paper as data, and the profiles.

A profile changes sizes and counts, never code paths. Epochs keep the paper's numbering under every profile: a
compressed stage has fewer passes over the data, and each pass carries the label of the paper's epoch it stands for, so
a checkpoint 313 exists everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

PICKED_EPOCHS = (313, 476)  # paper §5: the two checkpoints picked by eye
PAPER_NOISE_SIGMA = (
    0.0,
    1.0,
    0.2,
)  # paper §4.2: σ 1 at the second, 0.2 at the last content layer


class StudyError(RuntimeError):
    """Something the user can mend: the message says what is missing and what to run."""


@dataclass(frozen=True)
class Stage:
    """One row of Table 1 (or the pretraining of §4.3)."""

    name: str
    notebook: str
    first_epoch: int
    last_epoch: int
    lambda_cycle: float  # paper Table 1, "LambdaA / LambdaB", equal in both directions
    noise: bool
    nmc: bool
    dataset_size: int  # images per set, paper Table 1
    restriction: str  # "Training Data Selection Restrictions Added to B"
    set_A: str  # which prepared sets this stage trains on (lib.study.datasets)
    set_B: str
    parent: str | None  # the stage whose last weights it starts from

    @property
    def paper_epochs(self) -> int:
        """Number of epochs the paper trained this stage for."""
        return self.last_epoch - self.first_epoch + 1


PRETRAINING = Stage(
    "pretraining", "04_pretraining_multiface", 1, 60,
    # The λ values are lost from the paper's text (§4.3 "set to , , and"); chosen: 10, AttentionGAN's default.
    10.0, False, False, 25_000, "multi-face pictures, FDDB → MAFA", "scenes", "scenes", None,
)  # fmt: skip
TABLE_1 = (
    Stage("stage1", "05_stage1", 1, 60, 10.0, False, False, 9_517,
          "Simple mask, fully occluded", "A", "stage1", "pretraining"),
    Stage("stage2", "06_stage2", 61, 90, 10.0, False, False, 8_938,
          "Front facing", "A", "stage2", "stage1"),
    Stage("stage3", "07_stage3", 91, 140, 8.0, False, False, 1_695,
          "No pitch/roll, light-colored medical mask", "A", "stage3", "stage2"),
    Stage("stage4", "08_stage4", 141, 298, 8.0, False, True, 1_695, "None", "A", "stage3", "stage3"),
    Stage("stage5", "09_stage5", 299, 510, 8.0, True, True, 1_695, "None", "A", "stage3", "stage4"),
)  # fmt: skip
TIMELINE = (PRETRAINING, *TABLE_1)
STAGES = {stage.name: stage for stage in TIMELINE}


@dataclass(frozen=True)
class Profile:
    """Sizes and counts of a run. `passes` = trained epochs per stage; None = the paper's number."""

    name: str
    size: int  # pixels, pictures are size × size; the paper: 256 (§4)
    ngf: int  # width of the generators; AttentionGAN's default 64
    ndf: int
    batch_size: int  # the paper: 4 (§4)
    passes: dict[str, int] | None
    steps_per_epoch: int | None  # None = one pass over the larger set, as the public code does
    wide_B: int  # face world: pictures of the unfiltered pool, as heterogeneous as MAFA
    tidy_B: int  # face world: pictures that a hand-picker would keep most of
    count_A: int  # full faces for set A
    count_test: int  # held-out faces per set, never trained on
    count_scenes: int  # multi-face pictures per set, for the pretraining
    sample_count: int  # fixed faces whose translation is drawn after every pass
    keep_every: int  # weights of every n-th pass are kept, beside the named ones
    note: str = ""
    upsampling: str = "transposed"  # lib.gan.networks.UPSAMPLING
    precision: str = "auto"  # "fp32", "bf16", or "auto": bf16 where the device computes it faster (lib.gan.config)
    identity_ratio: float = 0.5  # this and the next two: see lib.gan.TrainConfig
    lambda_attention: float = 0.0  # from stage 1 on, where the mask is known
    average: float = 0.0


def _passes(pretraining: int, *stages: int) -> dict[str, int]:
    return dict(zip((stage.name for stage in TIMELINE), (pretraining, *stages)))


PROFILES = {
    "smoke": Profile(
        "smoke", 64, 8, 8, 4, _passes(2, 2, 2, 2, 4, 6), 10, 48, 56, 80, 12, 10, 4, 1,
        "everything, CPU, minutes: proves the code, not the method", precision="fp32",
    ),
    "laptop": Profile(
        "laptop", 64, 16, 16, 4, _passes(4, 4, 4, 6, 10, 16), 50, 240, 400, 400, 48, 48, 8, 2,
        "the effect is visible, CPU, half an hour to an hour",
    ),
    # Batch 1 and resize-convolutions, because they gave far better pictures in the same minutes (LOG.md).
    "evening": Profile(
        "evening", 128, 16, 16, 1, _passes(2, 2, 1, 2, 8, 14), 200, 480, 700, 640, 48, 150, 8, 2,
        "the best that two cores can do in about an hour", upsampling="resize",
    ),
    # What keeps the attention awake at this size on photographs: telling it where the mask is (LOG.md).
    "gpu_short": Profile(
        "gpu_short", 256, 64, 64, 1, _passes(1, 2, 2, 2, 3, 8), 560, 1_200, 1_800, 1_695, 200, 400, 12, 1,
        "six minutes of training on one GPU; made the released gpu-256", upsampling="resize", precision="bf16",
        identity_ratio=0.1, lambda_attention=3.0, average=0.999,
    ),
    "gpu": Profile(
        "gpu", 256, 64, 64, 4, _passes(6, 8, 6, 8, 24, 32), 250, 1_200, 1_800, 1_695, 200, 400, 12, 4,
        "the timeline compressed, about an hour on one GPU",
    ),
    "paper": Profile(
        "paper", 256, 64, 64, 4, None, None, 9_517, 1_900, 9_517, 200, 25_000, 12, 10,
        "Table 1 to the letter",
    ),
}  # fmt: skip
DATA_SOURCES = ("faceworld", "folders", "paper")
ROOTS = {  # folders each data source must be told
    "faceworld": (),
    "folders": ("a", "b"),
    "paper": ("mafa", "cmfd", "ffhq", "fddb"),
}
OPTIONAL_ROOTS = {"faceworld": (), "folders": ("scenes_a", "scenes_b"), "paper": ("selection", "stock")}

# NMC: weight and normalisation are not given in the paper. Chosen: the mean over non-mask pixels (independent of the
# mask's size), weight 10, the value joliGEN gives the same idea (its `mask_out_mask` loss) and that of the cycle loss.
# In short trainings 10 was the smallest weight that did anything and cost nothing inside (lib.study.sweep, LOG.md).
LAMBDA_NMC = 10.0
NMC_NORM = "region"


def get_profile(name: str) -> Profile:
    """The profile called `name`. Raises StudyError that lists the known ones."""
    if name not in PROFILES:
        raise StudyError(f"profile {name!r} is unknown; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def epoch_labels(stage: Stage, passes: int | None) -> tuple[int, ...]:
    """Labels, in the paper's numbering, of the passes of a compressed stage.

    Evenly spread from the stage's first to its last epoch; the picked epochs 313 and 476 replace their nearest label.
    `passes=None` gives every epoch. A single pass carries the last label.

    Raises StudyError when `passes` is not between 1 (stage 5: 3, for its two picks) and the paper's number.
    """
    first, last = stage.first_epoch, stage.last_epoch
    picks = [epoch for epoch in PICKED_EPOCHS if first <= epoch <= last]
    least = len(picks) + 1
    if passes is None:
        return tuple(range(first, last + 1))
    if not least <= passes <= stage.paper_epochs:
        raise StudyError(
            f"{stage.name} can have {least} to {stage.paper_epochs} passes, not {passes}: set `epochs` accordingly"
        )
    if passes == 1:
        return (last,)
    labels = [round(first + (last - first) * k / (passes - 1)) for k in range(passes)]
    for pick in picks:
        if pick not in labels:
            # never the last label, and the first only where nothing else is left
            movable = [k for k in range(passes > least, passes - 1) if labels[k] not in picks]
            labels[min(movable, key=lambda k: abs(labels[k] - pick))] = pick
    return tuple(sorted(labels))


def table_1_rows() -> list[dict]:
    """Table 1 of the paper as a list of rows with its column names."""
    return [
        {
            "Epochs": f"{s.first_epoch}–{s.last_epoch}",
            "LambdaA/LambdaB": f"{s.lambda_cycle:g}/{s.lambda_cycle:g}",
            "Noise Input": "Yes" if s.noise else "No",
            "Non-Mask Change Loss": "Yes" if s.nmc else "No",
            "Dataset Size": f"{s.dataset_size:,}",
            "Restrictions Added to B": s.restriction,
        }
        for s in TABLE_1
    ]


def cost_rows(profile: Profile, seconds_per_step: float | None = None) -> list[dict]:
    """What each stage of a profile trains: epochs, steps, images (of both sets), hours at a measured rate.

    A full epoch is one pass over the stage's set at the paper's count, as it is trained on where MAFA's test part gives
    the held-out faces (`lib.study.sources.held_out_B`); hours are None without a rate.
    """
    rows = []
    for stage in TIMELINE:
        epochs = profile.passes[stage.name] if profile.passes else stage.paper_epochs
        steps = epochs * (profile.steps_per_epoch or -(-stage.dataset_size // profile.batch_size))
        hours = None if seconds_per_step is None else steps * seconds_per_step / 3600
        rows.append({"stage": stage.name, "epochs": epochs, "steps": steps, "images": 2 * steps * profile.batch_size,
                     "hours": hours})  # fmt: skip
    return rows


def profile_dict(profile: Profile) -> dict:
    """The profile as plain JSON values."""
    return asdict(profile)

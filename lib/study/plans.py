"""Which trainings the experiments are made of, at each profile: variants, seeds, steps.

Every case is one training from scratch that differs from its plan's base in the few fields that its experiment is
about. Cases of one seed start from the same weights and see the same pictures in the same order, so that they can be
compared in pairs.

    corners   non-mask change loss on/off × noise on/off, measured at 313, 476 and the end
    filters   neither, on the set B of stage 1 or 2 (that of stage 3 is the corner "plain")
    noise     the loss on, noise at one content layer, for some σ (no noise and the paper's are corners, too)
    future    the paper's future work (§5.3): each variant beside the corner "nmc"; `FUTURE_QUESTIONS`
    generators  other methods: without step one (set A bare full faces) CycleGAN, AttentionGAN, an IAMGAN-style one; on
              rule-based masks CUT with the non-mask change loss. They are judged beside the corners nmc and nmc+noise
    reference not trained: the rule-based input, real masks and, in the face world, the truth
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lib.gan import NoiseConfig, TrainConfig
from lib.study.config import LAMBDA_NMC, NMC_NORM, PAPER_NOISE_SIGMA, PICKED_EPOCHS, STAGES, StudyError, epoch_labels
from lib.study.runs import Study

REFERENCE = "reference"
EVIDENCE = (REFERENCE, "corners", "filters", "noise")  # behind the claims C1 to C6 (notebooks 12 and 13)
BEYOND = ("future", "generators")  # beyond the paper
NMC = {"lambda_nmc": LAMBDA_NMC}
NOISE = {"noise": {"sigma": list(PAPER_NOISE_SIGMA)}}
DIRECT = ("cyclegan", "attentiongan", "iamgan")
FUTURE = {
    "linear": NMC | {"nmc_profile": "linear", "nmc_growth": 4.0},
    "exponential": NMC | {"nmc_profile": "exponential", "nmc_growth": 4.0},
    # λ of both: of the two tried for 400 steps (1 and 10) the one whose attention came nearer to the mask.
    "attention l1": NMC | {"lambda_attention": 10.0},
    "attention bce": NMC | {"lambda_attention": 1.0, "attention_loss": "bce"},
    "distance": NMC | {"lambda_distance": 1.0},
    "one-sided": NMC | {"one_sided": True},
    "one-sided distance": NMC | {"one_sided": True, "lambda_distance": 1.0},
}
FUTURE_QUESTIONS = {
    "linear": "Does a penalty that grows with the distance from the mask leave the face more as it was?",
    "exponential": "Does a steeper one?",
    "attention l1": "Told where the mask is, does the attention keep to it, and does less change outside?",
    "attention bce": "Is cross-entropy the better way to tell it?",
    "distance": "Does DistanceGAN's constraint add anything beside the cycle?",
    "one-sided": "With the non-mask change loss, is the cycle needed at all? (a third of the cost)",
    "one-sided distance": "Can the distance constraint take the cycle's place?",
}
CORNERS = {"plain": {}, "nmc": NMC, "noise": NOISE, "nmc+noise": NMC | NOISE}


@dataclass(frozen=True)
class Case:
    """One training of an experiment with one seed, or (experiment "reference") what is measured without one."""

    experiment: str
    variant: str
    seed: int
    changes: dict = field(default_factory=dict)  # TrainConfig's fields, as JSON, that differ from the plan's base
    set_B: str = "stage3"  # whose filters set B has passed
    at: tuple[int, ...] = ()  # epoch labels measured beside the last one
    set_A: str = "rule"  # "rule": rule-based masks; "full": bare faces, without non-mask tensors ("direct")

    @property
    def folder_name(self) -> str:
        """The case's folder: letters, digits, "+", "." and "-" only."""
        plain = re.sub(r"[^A-Za-z0-9+.]+", "-", self.variant.replace("σ", "sigma"))
        return f"{plain.strip('-')}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a profile has time for. Sizes of pictures and networks are the profile's own."""

    passes: int
    steps_per_pass: int
    batch_size: int
    seeds: dict[str, int]  # of each experiment
    sigmas: tuple[float, ...]  # of the noise experiment, at each of the three content layers
    upsampling: str
    # Named and not "auto": which one a machine computes faster would change what is trained.
    precision: str


# σ: the paper's 1 and 0.2, and as far above 1 as 0.2 is below it, about.
SIGMAS = (0.2, 1.0, 4.0)
THREE = {"corners": 3, "filters": 3, "noise": 3, "future": 3, "generators": 3}
TWO = {"corners": 2, "filters": 2, "noise": 1, "future": 1, "generators": 1}
PLANS = {
    "smoke": Plan(4, 5, 2, TWO, (1.0,), "transposed", "fp32"),
    # Batch 1 and resize-convolutions, because they gave far better pictures in the same minutes (LOG.md).
    "laptop": Plan(12, 100, 1, THREE, SIGMAS, "resize", "fp32"),
    "evening": Plan(12, 150, 1, THREE, SIGMAS, "resize", "bf16"),
    "gpu_short": Plan(20, 200, 1, THREE, SIGMAS, "resize", "bf16"),
    "gpu": Plan(20, 200, 4, THREE | {"corners": 5}, SIGMAS, "transposed", "bf16"),
    "paper": Plan(20, 200, 4, THREE | {"corners": 5}, SIGMAS, "transposed", "fp32"),
}


def plan_of(study: Study) -> Plan:
    """The plan of a study's profile. Raises StudyError for a profile that has none."""
    if study.profile.name not in PLANS:
        raise StudyError(f"profile {study.profile.name!r} has no plan of experiments; choose {', '.join(PLANS)}")
    return PLANS[study.profile.name]


def cases_of(study: Study, experiments: Iterable[str] | None = None) -> list[Case]:
    """Every case of some experiments (None: `EVIDENCE`), each once, in the order they are best trained in: everything
    of one seed before the next, so that a run stopped early has whole pairs.

    Raises StudyError for an unknown experiment.
    """
    plan = plan_of(study)
    references = ["rule-based", "real B", *(["truth"] if study.data == "faceworld" else [])]
    known = {
        REFERENCE: [Case(REFERENCE, name, 0) for name in references],
        "corners": [Case("corners", name, 0, changes, at=PICKED_EPOCHS) for name, changes in CORNERS.items()],
        "filters": [Case("filters", stage, 0, set_B=stage) for stage in ("stage1", "stage2")],
        "noise": [
            Case("noise", f"layer{layer} σ{sigma:g}", 0, NMC | _noise_at(layer, sigma))
            for sigma in plan.sigmas
            for layer in (1, 2, 3)
        ],
        "future": [Case("future", name, 0, changes) for name, changes in FUTURE.items()],
        "generators": [
            *(Case("generators", f"{m} direct", 0, {"method": m}, set_A="full") for m in DIRECT),
            Case("generators", "cut+nmc", 0, NMC | {"method": "cut"}),
        ],
    }
    chosen = list(dict.fromkeys(EVIDENCE if experiments is None else experiments))
    if unknown := sorted(set(chosen) - set(known)):
        raise StudyError(f"no experiment is called {', '.join(map(repr, unknown))}; choose from {', '.join(known)}")
    seeds = plan.seeds | {REFERENCE: 1}
    return [
        replace(case, seed=seed)
        for seed in range(max(seeds.values()))
        for name in chosen
        for case in known[name]
        if seed < seeds[name]
    ]


def _noise_at(layer: int, sigma: float) -> dict:
    return {"noise": {"sigma": [sigma if k == layer else 0.0 for k in (1, 2, 3)]}}


def case_config(study: Study, case: Case, device: str = "auto") -> TrainConfig:
    """The training configuration of a case: stage 5's labels and λ (paper Table 1), neither loss nor noise unless the
    case says so."""
    plan, profile, stage = plan_of(study), study.profile, STAGES["stage5"]
    labels = epoch_labels(stage, plan.passes)
    base = TrainConfig(
        stage="experiment",
        epochs=labels,
        steps_per_epoch=plan.steps_per_pass,
        batch_size=plan.batch_size,
        lambda_A=stage.lambda_cycle,
        lambda_B=stage.lambda_cycle,
        lambda_nmc=0.0,
        nmc_norm=NMC_NORM,
        noise=NoiseConfig(),
        ngf=profile.ngf,
        ndf=profile.ndf,
        size=profile.size,
        upsampling=plan.upsampling,
        precision=plan.precision,
        seed=case.seed,
        keep_epochs=tuple(sorted({*case.at, labels[-1]})),
        sample_count=profile.sample_count,
        tick_steps=max(1, plan.steps_per_pass // 5),
        device=device,
    )
    return replace(base, **case.changes)

"""What all measurements of a study share (test faces, true masks, feature network, critics, landmarks), loaded or made
once per process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.study import critic, feature_net, identity, metrics
from lib.study.comparison import find_landmarks
from lib.study.config import StudyError
from lib.study.critic import Critic, LearningSet
from lib.study.datasets import TestSet, load_test_set
from lib.study.runs import Study
from lib.study.truths import Truths, load_truths, outlines

CRITICS = 3  # of each kind; the same for all seeds: judges do not change with what is judged
IDENTITIES = 12  # faces whose identity is measured: dlib takes 0.1 s a face


@dataclass(frozen=True, eq=False)
class Bench:
    """What measuring a study's runs needs, loaded when it is first asked for."""

    study: Study

    @cached_property
    def test(self) -> TestSet:
        return load_test_set(self.study)

    @cached_property
    def truths(self) -> Truths | None:
        return load_truths(self.study, self.test)

    @cached_property
    def net(self) -> feature_net.FeatureNet:
        return feature_net.load(self.study, progress=False)

    @cached_property
    def learning(self) -> LearningSet:
        return critic.learning_set(self.study)

    @cached_property
    def critics(self) -> dict[str, list[Critic]]:
        load = critic.load_critic
        return {kind: [load(self.study, k, kind, self.learning) for k in range(CRITICS)] for kind in critic.KINDS}

    @cached_property
    def landmarks(self) -> list[np.ndarray | None]:
        return find_landmarks(self.study, self.test)[:IDENTITIES]

    @cached_property
    def bare_vectors(self) -> np.ndarray:
        return identity.embed(self.test.full[:IDENTITIES], self.landmarks)

    @cached_property
    def outline(self) -> np.ndarray:
        """The rule-based masks without shadow: bool [N, S, S]."""
        return outlines(self.test) if self.truths is None else self.truths.rule_region

    @cached_property
    def core(self) -> np.ndarray:
        """Pixels that nearly every mask covers, on both sides of `colour_wasserstein`: bool [S, S]."""
        return metrics.core_region(self.outline)

    def core_colours(self, images: np.ndarray) -> np.ndarray:
        return metrics.mask_colour_lab(images, np.broadcast_to(self.core, images.shape[:3]))

    @cached_property
    def colours_B(self) -> np.ndarray:
        return self.core_colours(self.test.B)


_BENCHES: dict[tuple[Path, int], Bench] = {}  # one at a time: a study's pictures and networks take some 100 MB


def bench(study: Study) -> Bench:
    """What measuring this study needs; the same object as long as its set A is the same.

    Raises StudyError when step one has not run yet.
    """
    done = study.data_dir / "A" / "rule" / "done.json"
    if not done.is_file():
        raise StudyError(f"{done.parent}: set A has no rule-based images yet; run notebook 02_rule_based_warping first")
    key = (study.root, done.stat().st_mtime_ns)
    if key not in _BENCHES:
        _BENCHES.clear()
        _BENCHES[key] = Bench(study)
    return _BENCHES[key]


def prepare(study: Study) -> None:
    """Make what takes time (true masks, feature network, critics) before several processes measure at once."""
    shared = bench(study)
    for name in ("truths", "net", "critics"):
        getattr(shared, name)

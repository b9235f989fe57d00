"""One tiny trained study for all tests of this room: 32 px, four channels, one or two steps per pass."""

import shutil

import pytest
import torch

from lib.study.config import PROFILES, STAGES, Profile
from lib.study.datasets import prepare_A, prepare_B, prepare_scenes
from lib.study.rule_based import warp_A
from lib.study.runs import Study, open_study
from lib.study.timeline import run_stage

PASSES = {"pretraining": 1, "stage1": 2, "stage2": 1, "stage3": 1, "stage4": 2, "stage5": 4}
TINY = Profile(
    "tiny", size=32, ngf=4, ndf=4, batch_size=2, passes=PASSES, steps_per_epoch=2, wide_B=8, tidy_B=11, count_A=9,
    count_test=3, count_scenes=2, sample_count=2, keep_every=1,
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _tiny_profile():
    """The profile "tiny" is known while these tests run; one thread, for bit-exact repetition."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    PROFILES["tiny"] = TINY
    yield
    del PROFILES["tiny"]
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, _tiny_profile) -> Study:
    """A finished study of the face world. Read only: change a `copy_of` it."""
    study = open_study("tiny", "tiny", runs_dir=tmp_path_factory.mktemp("runs"))
    prepare_B(study, progress=False)
    prepare_A(study, progress=False)
    warp_A(study, progress=False)
    prepare_scenes(study, progress=False)
    for stage in STAGES:
        run_stage(study, stage, progress=False)
    return study


@pytest.fixture
def copy_of(tmp_path):
    """copy_of(study) → the same study in another folder (with the rendered pictures), to be changed at will."""

    def copy(study: Study) -> Study:
        shutil.copytree(study.root, tmp_path / "copy" / study.name)
        shutil.copytree(study.root.parent / "cache", tmp_path / "copy" / "cache")
        return open_study(study.name, study.profile.name, study.data, study.seed, study.roots, tmp_path / "copy")

    return copy


@pytest.fixture
def empty(tmp_path) -> Study:
    """A study in which nothing has been done yet."""
    return open_study("empty", "tiny", runs_dir=tmp_path / "runs")

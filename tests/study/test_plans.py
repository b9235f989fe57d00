"""The grid of the experiments: pairs that differ in one thing, folders of their own, the paper's labels."""

from dataclasses import replace

import pytest

from lib.study.config import PROFILES, StudyError
from lib.study.plans import BEYOND, EVIDENCE, FUTURE, FUTURE_QUESTIONS, PLANS, Case, case_config, cases_of, plan_of


def at(study, profile):
    return replace(study, profile=PROFILES[profile])


@pytest.mark.parametrize("profile", sorted(PLANS))
def test_every_profile_has_its_grid_with_folders_of_their_own(empty, profile):
    study = at(empty, profile)
    plan, cases = plan_of(study), cases_of(study, EVIDENCE + BEYOND)
    counts = {name: sum(case.experiment == name for case in cases) for name in (*plan.seeds, "reference")}
    assert counts == {
        "corners": 4 * plan.seeds["corners"],
        "filters": 2 * plan.seeds["filters"],
        "noise": 3 * len(plan.sigmas) * plan.seeds["noise"],
        "future": len(FUTURE) * plan.seeds["future"],
        "generators": 4 * plan.seeds["generators"],
        "reference": 3,
    }
    assert cases_of(study) == cases_of(study, EVIDENCE)
    folders = [(case.experiment, case.folder_name) for case in cases]
    assert len(set(folders)) == len(cases)
    assert all(name.isascii() and " " not in name for _, name in folders)
    assert [case.seed for case in cases] == sorted(case.seed for case in cases)
    trained = [case_config(study, case, "cpu") for case in cases if case.experiment != "reference"]
    assert all({313, 476} < set(config.epochs) for config in trained)
    assert len({(config.hash(), case.set_A, case.set_B) for config, case in zip(trained, cases[3:])}) == len(trained)


def test_cases_of_a_seed_differ_in_what_their_experiment_is_about_alone(empty):
    study = at(empty, "laptop")
    of = {
        (c.experiment, c.variant): case_config(study, c, "cpu")
        for c in cases_of(study, ["corners", "noise"])
        if not c.seed
    }
    plain = of["corners", "plain"]
    assert (plain.lambda_nmc, plain.noise.sigma, plain.batch_size, plain.lambda_A) == (0, (0, 0, 0), 1, 8)
    fields = {name: [line.split(":")[0] for line in config.differences(plain)] for name, config in of.items()}
    assert fields["corners", "nmc"] == ["lambda_nmc"]
    assert fields["corners", "noise"] == ["noise"]
    assert fields["corners", "nmc+noise"] == ["lambda_nmc", "noise"]
    assert of["corners", "nmc+noise"].noise.sigma == (0, 1, 0.2)
    assert of["noise", "layer2 σ0.2"].noise.sigma == (0, 0.2, 0)
    assert plain.keep_epochs == (313, 476, 510)


def test_what_is_beyond_the_paper_differs_from_the_corner_it_is_compared_with(empty):
    study = at(empty, "laptop")
    nmc = case_config(study, next(c for c in cases_of(study, ["corners"]) if c.variant == "nmc"), "cpu")
    fields = {
        c.variant: sorted(
            {line.split(":")[0] for line in case_config(study, c, "cpu").differences(nmc)} - {"keep_epochs"}
        )
        for c in cases_of(study, BEYOND)
        if not c.seed
    }
    assert fields["linear"] == ["nmc_growth", "nmc_profile"]
    assert fields["one-sided distance"] == ["lambda_distance", "one_sided"]
    assert fields["cut+nmc"] == ["method"]
    assert fields["attentiongan direct"] == ["lambda_nmc"]  # bare faces have no non-mask region
    assert FUTURE_QUESTIONS.keys() == FUTURE.keys() < fields.keys()


def test_a_variants_name_makes_a_safe_folder():
    assert Case("noise", "layer2 σ0.2", 3).folder_name == "layer2-sigma0.2-seed3"
    assert Case("corners", "nmc+noise", 0).folder_name == "nmc+noise-seed0"


def test_what_is_not_known_is_told_with_what_is(empty):
    with pytest.raises(StudyError, match="no plan of experiments; choose smoke, laptop"):
        cases_of(empty)
    with pytest.raises(StudyError, match="no experiment is called 'corner'; choose from reference, corners"):
        cases_of(at(empty, "smoke"), ["corner"])
    assert cases_of(at(empty, "smoke"), ["corners", "noise", "corners"]) == cases_of(at(empty, "smoke"), EVIDENCE[1::2])
    assert not any(c.variant == "truth" for c in cases_of(replace(at(empty, "smoke"), data="folders")))

"""The model card, made from model.json alone."""

import pytest

from lib.study.card import LICENCE, digits, duration, flatten, render_card
from lib.study.config import DATA_SOURCES


def stage(name: str, epochs: list[int], steps: int, **changes) -> dict:
    return {
        "stage": name,
        "epochs": epochs,
        "passes": 3,
        "steps": steps,
        "batch_size": 4,
        "lambda_cycle": 8.0,
        "lambda_nmc": 0.0,
        "noise": [0.0, 0.0, 0.0],
        "images": {"A": 1695, "B": 1680},
        "seconds": 3000.0,
        **changes,
    }


@pytest.fixture
def model():
    return {
        "name": "tidy",
        "size_px": 256,
        "network": {
            "ngf": 64,
            "n_blocks": 9,
            "n_content": 9,
            "upsampling": "resize",
            "noise": {"sigma": [0.0, 1.0, 0.2], "shape": "pixel", "place": "input"},
        },
        "parameters": 11_378_179,
        "bytes": 22_760_000,
        "sha256": "ab" * 32,
        "parts": [{}, {}],
        "trained_on": "1,695 faces of somewhere.",
        "note": "Picked by eye.",
        "run": {
            "study": "night",
            "profile": "gpu",
            "data": "folders",
            "seed": 3,
            "stage": "stage5",
            "epoch": 476,
            "status": "not trained to its end",
            "precision": "bf16",
            "devices": ["a card", "another"],
            "versions": {"torch": "2.11.0"},
            "commit": "0123abcd",
            "dirty": True,
            "config_hash": "beef",
        },
        "timeline": [
            stage("stage4", [141, 298], 12_345),
            stage("stage5", [299, 476], 6_000, lambda_nmc=10.0, noise=[0.0, 1.0, 0.2], seconds=2025.0),
        ],
        "measured": {
            "change": {"outside": 0.0123456, "n": 1234, "interval": [0.01, 0.02], "by": {"A / B": [3, 4]}},
            "unknown": None,
        },
        "limits": ["Beards were rare."],
        "licence": "For research.",
        "figure": {"file": "figure.png", "caption": "Left: input"},
    }


def test_every_number_is_told(model):
    text = render_card(model)
    for words in (
        "# tidy\n",
        "256 × 256 px",
        "Picked by eye.",
        "![Left: input](figure.png)",
        "--checkpoint tidy",
        'Translator("tidy")',
        "1,695 faces of somewhere.",
        "Study `night`, profile `gpu`, data source `folders`, seed 3: stage5, epoch 476, after 6,000 steps of that "
        "stage and 18,345 in all. The stage itself was not trained to its end.",
        "| stage4 | 141–298 | 3 | 12,345 | 4 | 8 | – | – | 1,695 / 1,680 | 50 min |",
        "| stage5 | 299–476 | 3 | 6,000 | 4 | 8 | 10 | 0, 1, 0.2 | 1,695 / 1,680 | 34 min |",
        "ngf 64, 9 residual blocks, 9 contents, upsampling resize, noise σ 0, 1, 0.2 (pixel, input); 11,378,179",
        "precision bf16, on a card; another; 1 h 24 min of training steps in all, checkpoints and samples not counted.",
        "torch 2.11.0; code 0123abcd (changed since); configuration beef",
        "22,760,000 bytes in 2 part(s)",
        "ab" * 32,
        "| unknown | – |\n| **change** |  |\n| outside | 0.01235 |\n| n | 1,234 |\n| interval | 0.01 to 0.02 |\n"
        "| by · A / B | 3 / 4 |\n",
        "- Beards were rare.",
        "For research.",
        "arXiv:2512.15774",
    ):
        assert words in text, words
    assert "{" not in text


def test_what_is_not_known_is_left_out_or_said(model):
    model |= {"note": "", "figure": None, "measured": {}, "limits": []}
    model["timeline"][0]["seconds"] = None
    model["run"] |= {"commit": None, "dirty": None}
    text = render_card(model)
    assert "![" not in text
    assert "\n\n\n" not in text
    assert "another; an unknown time of training steps in all" in text
    assert "| time not known |" in text
    assert "code of an unknown commit;" in text
    assert "Nothing was measured." in text


def test_where_it_fails_stands_before_the_limits(model):
    assert "## Where it fails" not in render_card(model)
    row = {"what": "tints, ΔE", "faces": 47, "seen past": 1.0, "failed": 10, "failed from": 5.2, "median": 3.9,
           "worst": 6.5}  # fmt: skip
    found = {"trait": "skin", "kind": "dark", "what": "tints, ΔE", "failed": 9, "faces": 17, "rate": 9 / 17,
             "low": 0.31, "high": 0.738, "rest": 0.189, "place": 0.7, "p": 0.03}  # fmt: skip
    model["failures"] = {"faces": 47, "study": "night", "data": "folders", "size_px": 256, "share": 0.2, "alpha": 0.05,
                         "tests": 144, "place_needed": 0.697, "kinds": ["skin", "|yaw|"], "measures": [row],
                         "untested": ["glasses yes (3)"], "found": []}  # fmt: skip
    text = render_card(model)
    assert text.index("## Where it fails") < text.index("## Limits")
    assert "| tints, ΔE | 47 | 1 | 10 | 5.2 | 3.9 | 6.5 |" in text
    assert "as bad as the worst 20% of these faces and past the value from which on one could see the fault" in text
    assert "The worst 20% are relative" in text
    assert "No kind of face was found to do worse, by skin, |yaw|: 144 comparisons" in text
    assert "worse than 70% of all, on average." in text
    assert "glasses yes (3)." in text
    model["failures"] |= {"found": [found], "untested": []}
    model["failures"]["measures"].append(row | {"input": 5.0, "worse than input": 47, "low": 0.9, "high": 1.0})
    text = render_card(model)
    assert (
        "- skin dark: tints, ΔE. On average worse than 70% of all faces, p 0.03. 9 of 17 failed, 53% (95 % interval "
        "31% to 74%), of all others 19%." in text
    )
    assert "| tints, ΔE | 47 | 1 | 10 | 5.2 | 3.9 | 6.5 | – | – |" in text
    assert "| 5 | 100% (90% to 100%) |" in text
    assert "Too few" not in text


def test_a_bar_in_a_name_does_not_break_the_table(model):
    model["measured"] = {"|output − input|": 1}
    assert "| \\|output − input\\| | 1 |" in render_card(model)


def test_durations_read_well():
    told = [duration(seconds) for seconds in (None, 0.4, 119, 120, 3569, 3571, 5025, 90_000)]
    assert told == ["time not known", "0 s", "119 s", "2 min", "59 min", "1 h 0 min", "1 h 24 min", "25 h 0 min"]


def test_nested_numbers_become_rows():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == [("a · b", 1), ("a · c · d", 2), ("e", 3)]


def test_numbers_with_four_digits():
    told = [digits(x) for x in (0.01234567, 1234, True, None, float("nan"), "text", [1, 2, 3], 1.0, 0.99991, 1.00001)]
    assert told == ["0.01235", "1,234", "True", "–", "–", "text", "1, 2, 3", "1", "0.9999", "1"]
    assert digits(1 - 2e-10) == "1 − 2e-10"
    assert (digits([0.5, 0.25], "inside / outside"), digits([0.5, 0.25], "interval")) == ("0.5 / 0.25", "0.5 to 0.25")


def test_every_data_source_has_its_licence_note():
    assert set(LICENCE) == set(DATA_SOURCES)
    for source in ("folders", "paper"):
        assert "real people" in LICENCE[source]
        assert "does not extend" in LICENCE[source]

from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from stages.core import metrics, summary

CLASSES = ["basophil", "eosinophil"]


def evaluation(unseen=("east", "a_hospital_with_a_very_long_name"), n=40):
    """What evaluate writes for two training hospitals and the named unseen ones."""
    rng = np.random.default_rng(1)
    frames = []
    for name, part, rate in [
        ("north", "test", 0.9),
        ("south", "test", 0.95),
        *((name, "unseen", 0.7 - 0.2 * place) for place, name in enumerate(unseen)),
    ]:
        truth = rng.choice(CLASSES, n)
        wrong = np.where(truth == CLASSES[0], CLASSES[1], CLASSES[0])
        frames.append(
            pd.DataFrame(
                {
                    "hospital": name,
                    "part": part,
                    "label": truth,
                    "predicted": np.where(rng.random(n) < rate, truth, wrong),
                    "group": [f"{name}/{i // 4}" for i in range(n)],
                    "unit": "patient",
                }
            )
        )
    scores = metrics.score_hospitals(
        pd.concat(frames), CLASSES, defaultdict(lambda: "basophil"), 200, 1
    )
    return metrics.report(scores, CLASSES)


SPLIT = {"leaks": {"share_of_test_with_twin_in_train": 0.0}}


def test_summary_picks_its_numbers_from_evaluate():
    """Nothing is computed twice: each number is the one of metrics/evaluate.json."""
    content = evaluation()
    picked = summary.summarise(content, SPLIT, ["north"])
    for ours, theirs in (
        ("in_domain", "mean_in_domain"),
        ("unseen_mean", "mean_unseen"),
        ("unseen_worst", "worst_unseen"),
    ):
        assert picked[ours]["macro_f1"] == content[theirs]["metrics"]["macro_f1"]
        assert picked[ours]["accuracy"] == content[theirs]["metrics"]["accuracy"]
        assert picked[ours]["n_images"] == content[theirs]["n_images"]
        assert picked[ours]["n_groups"] == content[theirs]["n_groups"]
        assert picked[ours]["baseline_macro_f1"] == content[theirs]["baseline"]["macro_f1"]
    assert picked["unseen_worst"]["hospital"] == "a_hospital_with_a_very_long_name"
    assert picked["drop"]["value"] == pytest.approx(
        picked["in_domain"]["macro_f1"]["value"] - picked["unseen_mean"]["macro_f1"]["value"]
    )
    assert picked["leak_share"] == 0.0
    assert picked["simulated"] == ["north"]
    assert not [key for key in picked if key.endswith("_reason")]


def test_what_cannot_be_told_is_null_with_a_reason():
    picked = summary.summarise(evaluation(unseen=()), {}, [])
    assert picked["unseen_mean"] is picked["unseen_worst"] is picked["drop"] is None
    assert "train_hospitals" in picked["unseen_reason"]
    assert picked["leak_share"] is None
    assert "metrics/split.json" in picked["leak_share_reason"]


@pytest.mark.parametrize("n", [40, 4])
@pytest.mark.parametrize("unseen", [(), ("east",), ("east", "a_hospital_with_a_very_long_name")])
def test_table_is_narrow_and_its_columns_stand_in_line(unseen, n):
    """At most 100 columns; every row of scores puts its decimal points under one another."""
    text = summary.lay_out(evaluation(unseen, n), ["north", "south"])
    lines = text.split("\n")
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("In domain: ")
    assert "unseen: " in lines[0]
    ends = [place for place, line in enumerate(lines) if line == summary.RULE]
    rows = [line for line in lines[ends[0] : ends[-1]] if line != summary.RULE]
    assert len(rows) == 3 + len(unseen) + (len(unseen) > 1)
    heading = next(line for line in lines if line.startswith("hospital"))
    for title, right_aligned in (("accuracy", True), ("macro F1", True), ("95 %", False)):
        place = heading.index(title)
        for row in rows:
            cell = row[place : place + 8]
            assert cell[-1].isdigit() if right_aligned else cell[0] in "01n"


def test_table_shows_the_numbers_of_evaluate():
    content = evaluation()
    text = summary.lay_out(content, [])
    east = content["by_hospital"]["east"]
    row = next(line for line in text.split("\n") if line.startswith("east")).split()
    assert row[:5] == ["east", "unseen", "40", "10", "(patient)"]
    macro_f1 = east["metrics"]["macro_f1"]
    expected = [east["metrics"]["accuracy"]["value"], macro_f1["value"], macro_f1["low"]]
    assert [float(row[i]) for i in (5, 6, 7)] == pytest.approx(expected, abs=5.1e-4)
    assert row[8] == "to"
    assert f"unseen: {content['drop']['metrics']['macro_f1']['value']:.3f}" in text
    assert "one answer for every picture (basophil at " in text


def test_simulated_hospitals_are_warned_of_by_name():
    """No score of drawn pictures is shown without saying what it is not."""
    text = summary.lay_out(evaluation(), ["south", "north"])
    assert text.endswith("not evidence of accuracy on real cells (north, south).")
    assert "simulated" not in summary.lay_out(evaluation(), [])


def test_a_missing_interval_shows_as_none():
    text = summary.lay_out(evaluation(("east",), n=4), [])
    row = next(line for line in text.split("\n") if line.startswith("east"))
    assert row.split()[7:9] == ["no", "interval"]
    assert "(no interval)" in text


def test_without_an_unseen_hospital_the_table_says_why():
    assert "No drop can be given: every hospital" in summary.lay_out(evaluation(()), [])

"""The table at the end of a run: narrow, in line, and every warning in a frame below it."""

import pytest

from stages.evaluation import scoreboard, summary
from tests import results


def lay_out(evaluation=None, simulated=(), probe=None, bias=None, experts=None):
    evaluation = evaluation or results.evaluation()
    probe = probe or results.probe()
    bias = bias or results.bias()
    picked = summary.summarise(evaluation, results.split(), probe, bias, list(simulated))
    return scoreboard.lay_out(evaluation, picked, probe, experts or {})


@pytest.mark.parametrize("n", [40, 4])
@pytest.mark.parametrize("unseen", [(), ("east",), ("east", results.UNKNOWN)])
def test_table_is_narrow_and_its_columns_stand_in_line(unseen, n):
    """At most 100 columns; every row of scores puts its decimal points under one another."""
    lines = lay_out(results.evaluation(unseen, n), ["north", "south"]).split("\n")
    assert max(map(len, lines)) <= scoreboard.WIDTH
    assert lines[0].startswith("In domain: ")
    assert "unseen: " in lines[0]
    ends = [place for place, line in enumerate(lines) if line == scoreboard.RULE]
    rows = [line for line in lines[ends[0] : ends[-1]] if line != scoreboard.RULE]
    assert len(rows) == 3 + len(unseen) + (len(unseen) > 1)
    heading = next(line for line in lines if line.startswith("hospital"))
    for title in ("accuracy", "macro F1", "baseline"):
        place = heading.index(title)
        for row in rows:
            assert row[place + 7].isdigit(), row
    assert all(row[heading.index("interval")] in "01t" for row in rows)


def test_table_shows_the_numbers_of_evaluate_and_probe():
    content = results.evaluation()
    text = lay_out(content)
    east = content["by_hospital"]["east"]
    row = next(line for line in text.split("\n") if line.startswith("east")).split()
    assert row[:5] == ["east", "unseen", "40", "10", "patient"]
    macro_f1 = east["metrics"]["macro_f1"]
    expected = [east["metrics"]["accuracy"]["value"], macro_f1["value"]]
    assert [float(row[i]) for i in (5, 6)] == pytest.approx(expected, abs=5.1e-4)
    low, high = map(float, row[7].split("-"))
    assert macro_f1["low"] - 0.001 <= low <= macro_f1["low"] < macro_f1["high"] <= high
    assert len(row) == 9  # labels of unseen images are not read, so they have no shortcut score
    north = next(line for line in text.split("\n") if line.startswith("north")).split()
    assert north[-1] == "0.580"
    assert f"unseen: {content['drop']['metrics']['macro_f1']['value']:.3f}" in text
    text = text.replace("\n", " ")
    assert "one answer for every image (basophil at " in text
    assert "0.610 (0.550 to 0.670); chance is 0.500" in text
    assert "0.250 (0.100 to 0.500) of its 16 most confident calls" in text
    assert "over the classes that the hospital holds, 95 %, by redrawing the groups" in text
    assert "of this one training: another seed may land outside of it" in text


def score_of(value, low=None, high=None):
    return {"macro_f1": {"value": value, "low": low, "high": high}}


def test_what_labels_on_site_are_worth_is_said_by_number():
    """Calibration, then few labels before many; a method without an answer says why."""
    content = results.evaluation()
    content["by_hospital"]["east"]["on_site"] = {
        "labels_10": {
            "metrics": score_of(0.8371, 0.7912, 0.8811), "gain": score_of(0.3563, 0.3012, 0.4101),
            "note": "fewer than 10 of basophil 2",
        },
        "labels_3": {"metrics": None, "reason": "only a network is tuned"},
        "calibrated": {
            "metrics": score_of(0.5), "gain": score_of(-0.02), "interval_reason": "few groups",
        },
    }  # fmt: skip
    content["by_hospital"]["north"]["on_site"] = None
    text = " ".join(lay_out(content).split())
    places = [
        text.index(sentence)
        for sentence in (
            "Calibrated without labels: macro F1 on the images that are left, and gain over the "
            "plain model there: east 0.500 (no interval: few groups), -0.020.",
            "With 3 labels a class on site: ",
            "east none: only a network is tuned.",
            "With 10 labels a class on site: ",
            "east 0.837 (0.791 to 0.882), +0.356 (0.301 to 0.411); fewer than 10 of basophil 2.",
        )
    ]
    assert places == sorted(places)
    assert "on site" not in lay_out()


def share_of(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def test_what_becomes_of_a_promise_is_said():
    """Home before elsewhere, at unseen hospitals alone; what has no number says why."""
    content = results.evaluation()
    kept = {
        "wished_error": 0.1, "threshold": 0.8, "accepted": share_of(0.75),
        "error_of_accepted": share_of(0.0512, 0.0271, 0.0808), "promise": "kept",
    }  # fmt: skip
    nothing = kept | {"threshold": None, "reason": "too few are right"}
    unsure = kept | {"error_of_accepted": share_of(None), "promise": None}
    names = ("north", "east", results.UNKNOWN)
    doubts = ((kept, None), (kept, nothing), (unsure, kept | {"wished_error": 0.05}))
    for name, (home, elsewhere) in zip(names, doubts, strict=True):
        content["by_hospital"][name]["doubt"] = {"home": home, "elsewhere": elsewhere}
    text = " ".join(lay_out(content).split())
    home = (
        f"Calls accepted for an error of 0.1, learnt at home: {results.UNKNOWN} none is so sure; "
        "east 0.750, error 0.051 (0.027 to 0.081), kept."
    )
    assert home in text
    assert "learnt at other unseen hospitals: east none: too few are right." in text
    assert f"an error of 0.05, learnt at other unseen hospitals: {results.UNKNOWN} 0.750" in text
    assert "Calls accepted" not in lay_out()


def test_each_score_of_a_leaky_split_carries_its_leak():
    content = results.evaluation()
    sentence = "leaky: 12.0 % of test images have a twin in train, 80.0 % share a slide or patient"
    blocks = [*content["by_hospital"].values(), content["mean_in_domain"], content["mean_unseen"]]
    for block in blocks:
        block["leaky"] = sentence
    lines = lay_out(content).split("\n")
    named = ("north ", "south ", "mean ")
    rows = [place for place, line in enumerate(lines) if line.startswith(named)]
    assert len(rows) == 4
    assert all(lines[place + 1].strip() == sentence for place in rows)


def test_warnings_stand_in_a_frame_at_the_end():
    """No score of drawn images is shown without saying what it is not."""
    probe = results.probe(warnings=["healthy comes from barcelona only, so " + "very " * 40])
    lines = lay_out(simulated=["south", "north"], probe=probe).split("\n")
    start = next(place for place, line in enumerate(lines) if " 2 WARNINGS " in line)
    assert all(line.startswith("!") for line in lines[start:])
    assert lines[-1] == "!" * scoreboard.WIDTH
    assert "cells (north, south)." in lines[-2]
    assert "WARNING" not in lay_out()


def test_what_is_missing_says_why():
    text = lay_out(results.evaluation(("east",), n=4))
    row = next(line for line in text.split("\n") if line.startswith("east"))
    assert row.split()[7:9] == ["too", "few"]
    assert "Too few: 6 groups of each hospital are needed." in text.replace("\n", " ")
    assert "(no interval: fewer than 6 groups at north, south, east)" in text.replace("\n", " ")
    assert "Too few" not in lay_out()
    assert "No drop can be given: every hospital" in lay_out(results.evaluation(()))
    probe = results.probe(shortcut_score=None, shortcut_score_reason="one class has one group")
    assert "No shortcut score: one class has one group." in lay_out(probe=probe)
    hidden = {"keeps_confident_call": None, "keeps_confident_call_reason": "x"}
    assert "Hidden cells: x." in lay_out(bias=results.bias(all=hidden))


def test_units_that_do_not_fit_are_told_by_the_hospitals():
    content = results.evaluation()
    content["mean_unseen"]["unit"] = "image + patient + slide + twins"
    assert " 20 of many kinds " in lay_out(content)


def test_experts_patients_and_missed_sick_have_a_line():
    content = results.evaluation()
    content["by_hospital"]["north"]["per_patient"] = {
        "n_patients": 9,
        "accuracy": {"value": 0.5, "low": 0.2, "high": 0.8, "n": 9},
    }
    content["screening"] = {
        "test": {
            "n_sick": 90, "sick_called_healthy": 2, "n_healthy": 40, "healthy_called_sick": 1,
            "sensitivity": {"value": 88 / 90, "low": 0.92, "high": 0.99, "n": 90},
        },
        "unseen": None,
    }  # fmt: skip
    experts = {
        "north": {
            "n_images": 50,
            "agreement": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 50},
            "kappa": {"value": 0.81, "low": 0.7, "high": 0.9},
        },
        "gone": {},
    }
    text = lay_out(content, experts=experts).replace("\n", " ")
    assert "By patient at north: accuracy 0.500 (0.200 to 0.800) of 9 patients." in text
    assert "Sick called healthy (test part): 2 of 90 images, sensitivity 0.978" in text
    assert "Two experts at north agree on 0.900 of 50 images (kappa 0.810)" in text


def worth(right, low, counts, f1):
    """The sentence on a hospital of so many images, of which a share is right."""
    block = {
        "metrics": {"accuracy": {"value": right, "low": low}},
        "n_images": sum(counts.values()),
        "n_groups": 3,
        "n_by_class": counts,
        "per_class": {name: {"n": counts[name], "f1": f1[name]} for name in counts},
    }
    return scoreboard._say_worth("lisbon", block)


def test_a_model_that_one_answer_beats_is_called_useless():
    """The rival is the best answer there, whatever trained; the weakest class that is there."""
    counts = {"basophil": 10, "blast": 0, "neutrophil": 90}
    f1 = {"basophil": 0.07, "blast": 0.0, "neutrophil": 0.8}
    told = worth(0.51, 0.4, counts, f1)
    assert told == (
        "lisbon: 51% right; the one answer neutrophil for all: 90%: not useful here, as far as "
        "these images tell; weakest class: basophil (F1 0.07); none of: blast."
    )
    assert "not useful" in worth(0.95, 0.89, counts, f1)
    assert "not useful" in worth(0.9, None, counts, f1)
    assert "too few groups (3) to say how sure that is; weakest" in worth(0.95, None, counts, f1)
    assert "not useful" in worth(0.95, 0.0, counts, f1)
    assert "not useful" not in worth(0.95, 0.91, counts, f1)


def test_of_few_images_nothing_is_said():
    told = worth(1.0, 1.0, {"basophil": 1, "neutrophil": 0}, {"basophil": 1.0, "neutrophil": 0.0})
    assert told.endswith("too few images (1) to say.")


def test_intervals_that_are_too_narrow_are_marked_and_explained():
    """In the rows of the hospital and its mean, and in the sentences that it is in."""
    content = results.evaluation()
    note = {"interval_note": "no patients are published: too narrow"}
    for block in (content["by_hospital"]["east"], content["mean_unseen"], content["drop"]):
        block |= note
    text = lay_out(content)
    marked = [line.split()[0] for line in text.split("\n") if "*" in line and "unseen " in line]
    assert marked == ["east", "mean"]
    told = text.replace("\n", " ")
    assert "* no patients are published: too narrow." in told
    drop = content["drop"]["metrics"]["macro_f1"]
    assert f"{drop['value']:.3f} (" in told
    assert "*); worst unseen" in told
    assert "(0.100 to 0.500*) of its 16" in told
    assert "*" not in lay_out()


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.99991, 1.0, "0.999 to 1.000"),
        (0.9, 0.95, "0.900 to 0.950"),
        (0.57, 0.57001, "0.570 to 0.571"),
        (-0.0203, 0.0, "-0.021 to 0.000"),
    ],
)
def test_a_printed_interval_has_a_width(low, high, shown):
    """Rounded outwards, and digits that need no rounding stay."""
    assert scoreboard.outwards({"low": low, "high": high}, " to ") == shown


def test_the_drop_says_over_which_classes_it_goes_where_not_over_all():
    content = results.evaluation()
    assert "in domain minus unseen: " in lay_out(content)
    content["drop"] |= {"classes": ["basophil"], "n_classes_held": 2}
    told = lay_out(content).replace("\n", " ")
    assert "minus unseen over the classes that all hold (basophil): " in told
    many = [f"type_{i}" for i in range(9)]
    content["drop"] |= {"classes": many, "n_classes_held": 11}
    assert "over the classes that all hold (9 of 11): " in lay_out(content).replace("\n", " ")

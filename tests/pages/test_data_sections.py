"""What the sections on the pictures say, on the demo's metrics with planted numbers."""

import json

import pandas as pd
import pytest

from stages.core.tables import REASONS
from stages.pages import data_sections
from stages.pages.blocks import Picture
from tests.projects import ROOT

HOSPITALS = ("demo_north", "demo_east", "demo_west")


def read(name):
    return json.loads((ROOT / f"metrics/{name}.json").read_text(encoding="utf-8"))


def each(stage):
    return {name: read(f"{stage}/{name}") for name in HOSPITALS}


def tables(told):
    return {block.title: block for block in told.blocks if block.kind == "table"}


def sentences(told):
    return [block.text for block in told.blocks if block.kind == "sentence"]


def test_every_reason_has_its_words():
    assert tuple(data_sections.REASONS) == REASONS


def test_who_trains_and_who_judges():
    rule = {"model": "m", "hospitals": HOSPITALS, "split": {"train_hospitals": HOSPITALS[:2]}}
    told = data_sections.ask(rule, {}, read("harmonise"), {"warnings": ["Look out."]})
    assert told.lead.startswith(
        "The model m learnt 11 classes at 2 of 3 hospitals (demo_east, demo_north); "
        "1 hospital taught it nothing and judges it (demo_west)."
    )
    assert told.blocks[0].is_warning
    assert [row[1] for row in tables(told)["Hospitals, and whose pictures they are"].rows] == [
        "trains", "trains", "unseen",
    ]  # fmt: skip


def test_rejected_files_are_counted_by_reason_and_all_add_up():
    found = each("filter")
    for one in found.values():
        one |= {"n_kept": 90, "n_rejected": 0, "n_by_reason": dict.fromkeys(REASONS, 0)}
    found["demo_west"]["n_rejected"] = 10
    found["demo_west"]["n_by_reason"] |= {"blank": 7, "damaged": 3}
    told = data_sections.keep(found, None, {"blank": [Picture("data:", "a")], "damaged": []})
    assert told.lead == (
        "270 files are used as pictures and 10 files not, most often as one colour: nothing was "
        "photographed (7); the largest share is lost at demo_west: 10.0 %."
    )
    rows = tables(told)["Files that are not used, by reason"].rows
    assert [row[1:] for row in rows] == [["0", "0", "3", "3"], ["0", "0", "7", "7"]]
    assert [block.title for block in told.blocks if block.kind == "pictures"] == [
        "Rejected: one colour: nothing was photographed"
    ]
    assert "has not run" in sentences(told)[-1]


def test_expectations_that_fail_and_pictures_with_a_break_are_two_warnings():
    validated = read("validate") | {"n_failed": 2, "n_broken": 7, "not_checked": {"t": "why"}}
    validated["by_table"]["images"]["n_failed"] = 2
    failed, not_checked, broken = data_sections.keep(each("filter"), validated, {}).blocks[-3:]
    assert failed.text.startswith("2 of ")
    assert failed.text.endswith("do not hold (images).")
    assert not_checked.text == "Not checked: t, as why."
    assert broken.text.startswith("7 pictures with a break across the whole width")
    assert (failed.is_warning, broken.is_warning) == (True, True)
    whole = read("validate") | {"n_broken": 0, "not_checked": {}}
    held = data_sections.keep(each("filter"), whole, {}).blocks[-1]
    assert (held.text[:4], held.is_warning) == ("All ", False)


def test_how_far_hospitals_lie_apart():
    found = each("quality")
    for name, one in zip(HOSPITALS, found.values(), strict=True):
        one["quantiles"]["sharpness"]["p50"] = {"demo_north": 5, "demo_east": 1, "demo_west": 3}[
            name
        ]
    found["demo_west"]["quantiles"]["white_r"]["p50"] = None
    told = data_sections.measure(found, {}, {}, {})
    assert "sharpness of a hospital runs from 1 (demo_east) to 5 (demo_north)." in told.lead
    assert tables(told)["Medians by hospital"].rows[2][6] == "none"
    assert not [block for block in told.blocks if block.kind == "charts"]


def test_label_maps_count_every_picture_and_name_why_some_have_no_class():
    rows = [("demo_west", "Neutro", "neutrophil", "neutrophil", None)] * 3
    rows += [("demo_west", "?", None, None, "not_named")]
    columns = ["hospital", "published_label", "cell_type", "label", "drop_reason"]
    labels = read("harmonise")
    told = data_sections.name_classes(labels, pd.DataFrame(rows, columns=columns), None, None)
    folded = next(block for block in told.blocks if block.kind == "folded")
    assert folded.blocks[0].rows == [
        ["?", "none", "none: not named", "1"], ["Neutro", "neutrophil", "neutrophil", "3"],
    ]  # fmt: skip
    assert "1 of 3 hospitals (demo_west) lacks a class" in told.lead


def test_reviews_are_told_with_those_that_are_not_applied():
    """And nothing where nobody reviewed anything."""
    labels = read("harmonise")
    mapped = pd.DataFrame(
        columns=["hospital", "published_label", "cell_type", "label", "drop_reason"]
    )
    before = data_sections.name_classes(labels, mapped, None, None)
    assert not {"By reviews", "Reviews that are not applied"} & set(tables(before))
    labels["reviews"] |= {
        "n": 4, "n_type_changed": 2, "n_confirmed": 1, "n_not_applied": 1,
        "changes": {"basophil": {"band_neutrophil": 2}},
        "not_applied": [{"image_id": "demo_west/x.png", "reason": "no such picture"}],
    }  # fmt: skip
    told = data_sections.name_classes(labels, mapped, None, None)
    assert tables(told)["By reviews"].rows == [["basophil", "band neutrophil", "2"]]
    assert tables(told)["Reviews that are not applied"].rows == [
        ["demo_west/x.png", "no such picture"]
    ]
    said = [block.text for block in told.blocks if block.kind == "sentence"]
    assert any("another type for 2, the same for 1" in text for text in said)
    assert any("1 review not applied" in text for text in said)


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (0.25, "25.0 % of these have their patient, slide or near twin among those that teach"),
        (0.0, "none of these has its patient"),
    ],
)
def test_a_leak_is_the_first_thing_told(share, says):
    split = read("split")
    split["leaks"]["all"]["group_in_train"]["value"] = share
    assert says in data_sections.divide(split, read("harmonise")).lead


def test_where_no_patient_is_published_leaks_cannot_be_seen():
    split, labels = read("split"), read("harmonise")
    own = split["leaks"]["by_hospital"]["demo_west"]
    own |= {"patient_in_train": None, "patient_in_train_reason": "no patient is published"}
    labels["by_hospital"]["demo_west"]["n_images_by_unit"] = {"image": 9, "twins": 2}
    told = data_sections.divide(split, labels)
    assert "1 of 3 hospitals (demo_west) publishes neither patients nor slides" in told.lead
    shown = tables(told)["Tested pictures whose own are among those that teach"].rows
    assert shown[2][2] == "none: no patient is published"

"""Model card and data card of the shipped demo's metrics, and of metrics that lack things."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from stages.core import params, tables
from stages.core.errors import PipelineError, TableError
from stages.core.store import metrics_path, read_metrics, write_json
from stages.pages import cards
from tests.made.shipped import demo_params
from tests.projects import ROOT

NORTH, WEST = "demo_north", "demo_west"
RULE = params.parse(demo_params())
EVIL = "A | B\n# C <script>x</script> *d*"


def write_images(split, drops):
    """Tables of labels and parts with as many pictures as the metrics count."""
    rows = [
        {"hospital": hospital, "part": part, "label": label, "keep": True, "drop_reason": None}
        for hospital, parts in split.items()
        for part, counts in parts.items()
        for label, n in counts.items()
        for _ in range(n)
    ]
    rows += [
        {"hospital": hospital, "part": None, "label": None, "keep": False, "drop_reason": reason}
        for hospital, block in drops.items()
        for reason, n in block["n_by_drop_reason"].items()
        for _ in range(n)
    ]
    images = pd.DataFrame(rows)
    number = images.groupby("hospital").cumcount()
    images["image_id"] = images["hospital"] + "/" + number.map("{:04d}".format)
    images["cell_type"] = images["label"].fillna("immature_granulocyte")
    images["published_label"] = images["cell_type"].str.upper()
    images["patient"] = images["group"] = "P" + (number % 10).astype(str)
    images["twin_group"], images["unit"] = images["image_id"], "patient"
    images["slide"] = images["official_part"] = images["official_side"] = None
    left = images["part"] == "left_out"
    images["left_out_reason"] = ("twin of x/a of b in " + images["part"].fillna("")).where(left)
    images["left_out_reason"] = images["left_out_reason"].str.replace("left_out", "train")
    tables.LABELS.write(images[tables.LABELS.schema.names])
    for hospital, own in images[images["keep"]].groupby("hospital"):
        tables.SPLIT.write(own[tables.SPLIT.schema.names], str(hospital))


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A project folder with the shipped metrics, and tables and files that fit them."""
    monkeypatch.chdir(tmp_path)
    for name in ("filter", "quality"):
        shutil.copytree(ROOT / "metrics" / name, Path("metrics") / name)
    for stage in (*cards.NEEDED, *cards.OTHERS):
        shutil.copy(ROOT / metrics_path(stage), metrics_path(stage))
    Path("data").mkdir()
    shutil.copy(ROOT / "data/taxonomies.csv", "data")
    for name in RULE.hospitals:
        about = {
            "title": f"Hospital {name}",
            "licence": "CC BY 4.0",
            "citation": "We.",
            "page": None,
        }
        write_json(Path("data/about") / f"{name}.json", about)
        write_json(Path("data/raw") / name / "contents.json", {"same_as": None})
    harmonised = read_metrics("harmonise")
    recipe = {"kind": "network", "network": "lenet", "weights": "none", "then": None, "size": 32}
    inputs = RULE.inputs.model_dump()
    card = {"classes": harmonised["classes"], "recipe": recipe, "inputs": inputs}
    write_json(cards.MODEL, card)
    write_images(read_metrics("split")["by_hospital"], harmonised["by_hospital"])
    return tmp_path


@pytest.fixture
def facts(demo):
    return cards.read_facts(RULE)


def edit(path, change):
    """Change the content of a file."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    change(content)
    write_json(Path(path), content)


def change_metrics(facts, stage, change):
    """Return facts of which the metrics of a stage are changed."""
    content = json.loads(json.dumps(facts.metrics[stage]))
    change(content)
    return replace(facts, metrics=facts.metrics | {stage: content})


def lines_of(card, start):
    return [line for line in card.splitlines() if line.startswith(start)]


def has_whole_tables(card):
    """Each row of a table has as many cells as its head."""
    widths = [
        {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
        for block in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    ]
    return len(widths) > 1 and all(len(width) == 1 for width in widths)


def test_scores_stand_beside_their_hospital_with_interval_and_number(facts):
    card = cards.write_model_card(facts)
    block = facts.metrics["evaluate"]["by_hospital"][WEST]
    accuracy = block["metrics"]["accuracy"]
    (row, recalls, promise) = lines_of(card, f"| {WEST} |")
    assert f"unseen | {block['n_images']} pictures of {block['n_groups']} patients" in row
    assert f"| {accuracy['value']:.3f} ({accuracy['low']:.2f}" in row
    assert row.endswith("| segmented_neutrophil 0.78 of 54 |")
    assert recalls.endswith("| 0.78 of 54 |")
    assert "| kept |" in promise
    assert lines_of(
        card, f"| {NORTH} | in domain | 49 pictures of 3 patients | 0.980 (no interval) |"
    )
    assert "No evidence of accuracy on real cells" in card
    assert has_whole_tables(card)


def test_a_number_that_moves_in_the_metrics_moves_in_the_card(facts):
    """Nothing is typed: another score, count, threshold or licence changes its own line alone."""
    before = cards.write_model_card(facts)

    def change(content):
        own = content["by_hospital"][WEST]
        own["metrics"]["accuracy"]["value"] = 0.1234
        own["n_images"] = 98765

    after = cards.write_model_card(change_metrics(facts, "evaluate", change))
    changed = set(after.splitlines()) - set(before.splitlines())
    assert len(changed) == 1
    assert {"0.123", "98,765"} <= set(re.findall(r"[\d.,]+", changed.pop()))


def test_limits_follow_from_the_numbers(facts):
    """Planted: a broken promise, a useless score, a copy, a leak, no patients; each is named."""
    card = cards.write_model_card(facts)
    assert "Shown by no unseen hospital" in card
    assert lines_of(
        card, "- Learnt from fewer than 50 pictures: band_neutrophil (38), basophil (34)"
    )
    assert lines_of(
        card, "- Too few were tested to say how sure the scores are at: demo_east, demo_n"
    )
    assert not lines_of(card, "- More of the accepted calls")
    assert not lines_of(card, "- No better than one answer")
    assert not lines_of(card, "- No hospital of its own")
    assert not lines_of(card, "- Patients are not published")
    assert not lines_of(card, "- The split lets")

    def change(content):
        content["mean_in_domain"]["leaky"] = "leaky: 12 %"
        for name in (NORTH, WEST):
            content["by_hospital"][name]["interval_note"] = "too narrow"
        own = content["by_hospital"][WEST]
        own["doubt"]["home"]["promise"] = "broken"
        own["metrics"]["accuracy"]["low"] = max(own["n_by_class"].values()) / own["n_images"]

    worse = replace(change_metrics(facts, "evaluate", change), copies={WEST: NORTH})
    card = cards.write_model_card(worse)
    assert "- The split lets pictures of training into the tests in domain; leaky: 12 %.\n" in card
    (line,) = lines_of(card, "- Patients are not published, or not of all")
    assert line.endswith(f"too good, at: {NORTH}.")
    assert card.count("- \\*: too narrow.\n") == 1
    assert lines_of(card, f"- More of the accepted calls are wrong than promised at: {WEST}.")
    assert lines_of(
        card, f"- No better than one answer for all, as far as the test tells, at: {WEST}"
    )
    assert lines_of(card, f"- No hospital of its own but a copy or a part of another: {WEST} of")


def test_a_type_that_may_be_one_of_the_classes_is_not_called_strange(facts):
    """Immature granulocytes are coarse; blasts are none of the eleven."""
    assert "Of no class" not in cards.write_model_card(facts)
    strange = facts.images["cell_type"].replace("immature_granulocyte", "blast")
    card = cards.write_model_card(replace(facts, images=facts.images.assign(cell_type=strange)))
    assert lines_of(card, "- Of no class, so that such a cell is called one of the others: blast.")


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("probe", "the stage probe was not run"),
        ("bias", "the stage bias was not run"),
        ("novelty", "the stage novelty was not run"),
        ("suspects", ""),
    ],
)
def test_a_stage_that_was_not_run_is_said_and_no_other(demo, stage, says):
    whole = cards.write_model_card(cards.read_facts(RULE))
    metrics_path(stage).unlink()
    facts = cards.read_facts(RULE)
    card = cards.write_model_card(facts)
    assert card.count("was not run") == (1 if says else 0)
    assert says in card
    assert says == "" or says not in whole
    assert ("takes for wrong" in cards.write_data_card(facts)) == (stage != "suspects")


def test_each_measure_stands_in_its_place(facts):
    """Numbers that are nowhere else: of shortcuts, changed pictures, unknown cells and promises."""
    score = {"value": 0.5, "low": None, "high": None, "n": 30}

    def say(value):
        return score | {"value": value}

    def change_probe(content):
        content["shortcut_score"]["balanced_accuracy"] = say(0.311)
        content["scores"]["published"]["all"]["balanced_accuracy"] = say(0.312)
        content["hospital_told"]["seen"]["all"]["balanced_accuracy"] = say(0.313)

    def change_bias(content):
        hidden, grey = content["tests"]["hide"], content["tests"]["grey"]
        hidden["all"] |= {"keeps_confident_call": say(0.321), "keeps_call": say(0.9)}
        grey["all"] |= {"keeps_confident_call": say(0.9), "keeps_call": say(0.322)}
        hidden["flagged"], grey["flagged"] = [NORTH], [WEST]

    def change_novelty(content):
        one = content["scores"]["energy"]
        one["mean_auc"] = {
            "in_domain": {"value": 0.331, "n_hospitals": 1},
            "unseen": {"value": 0.332, "n_hospitals": 1},
        }
        for place, add in ((NORTH, 0), (WEST, 0.5)):
            shares = {"unknown": say(0.1 + add), "blank": say(0.2 + add), "known": say(0.3 + add)}
            one["by_hospital"][place]["flagged"] = shares
        del one["by_hospital"]["demo_east"]

    def change_scores(content):
        doubt = content["by_hospital"][WEST]["doubt"]
        doubt["home"] |= {"accepted": say(0.341), "error_of_accepted": say(0.342)}
        other = {"threshold": 0.7, "promise": None, "accepted": say(0.343)}
        doubt["elsewhere"] = other | {"error_of_accepted": say(0.344)}
        for name in ("drop", "worst_unseen"):
            content[name]["interval_note"] = "too narrow"
        content["drop"]["metrics"]["macro_f1"] = {"value": 0.351, "low": 0.3, "high": 0.4}

    for stage, change in (
        ("probe", change_probe), ("bias", change_bias), ("novelty", change_novelty),
        ("evaluate", change_scores),
    ):  # fmt: skip
        facts = change_metrics(facts, stage, change)
    card = cards.write_model_card(facts)
    for said in (
        "0.311 (no interval) in what the model sees, 0.312 (no interval) in the files as published",
        "find the hospital with 0.313",
        f"the cell is hidden, 0.321 (no interval) (**not so at {NORTH}**)",
        f"the picture is grey, 0.322 (no interval) (**not so at {WEST}**)",
        "to 1 | 0.331 | 0.332 | 0.10 to 0.60 | 0.20 to 0.70 | 0.30 to 0.80 |",
        f"| {WEST} | 0.341 (no interval) | 0.342 (no interval) | kept | 0.343 (no interval) | "
        "0.344 (no interval) | not judged: too few |",
        "- Worst unseen by macro F1: demo_west, 0.950 (0.924 to 0.972)\\*.",
        "segmented_neutrophil): 0.351 (0.300 to 0.400)\\*.",
    ):  # fmt: skip
        assert said in card


def test_without_held_back_pictures_a_hospital_still_trains(facts):
    parts = facts.images["part"].replace("test", "train")
    card = cards.write_model_card(replace(facts, images=facts.images.assign(part=parts)))
    assert f"| {NORTH} | Hospital {NORTH} | 241 pictures of 10 patients | 47 | CC BY 4.0 |" in card


def test_a_hospital_that_left_the_experiment_is_not_counted(demo):
    """labels.parquet may still hold it."""
    labels = tables.LABELS.read()
    left = labels[labels["hospital"] == WEST].assign(
        hospital="lisbon", cell_type="blast", keep=False
    )
    left["image_id"] = "lisbon/" + left["image_id"]
    before = cards.read_facts(RULE)
    tables.LABELS.write(pd.concat([labels, left]))
    after = cards.read_facts(RULE)
    for write in (cards.write_model_card, cards.write_data_card):
        assert write(after) == write(before)


def test_without_an_unseen_hospital(facts):
    """Reasons stand where scores, drop and promises would."""

    def change(content):
        del content["by_hospital"][WEST]
        content |= {"mean_unseen": None, "worst_unseen": None, "drop": None}
        content |= {"unseen_reason": "every hospital trains", "drop_reason": "so it is"}

    card = cards.write_model_card(change_metrics(facts, "evaluate", change))
    assert "- No score at an unseen hospital: every hospital trains." in card
    assert "- No drop can be given: so it is." in card
    assert "At hospitals never learnt from" not in card
    assert "Shown by no unseen hospital" not in card
    assert has_whole_tables(card)


def test_one_hospital_alone(facts):
    """No mean, no second row; the data card has its section alone."""

    def change(content):
        content["by_hospital"] = {NORTH: content["by_hospital"][NORTH]}
        content["mean_in_domain"]["hospitals"] = [NORTH]
        content |= {"mean_unseen": None, "worst_unseen": None, "drop": None}
        content |= {"unseen_reason": "x", "drop_reason": "y"}

    rule = RULE.model_copy(update={"hospitals": [NORTH]})
    alone = replace(change_metrics(facts, "evaluate", change), rule=rule)
    assert not lines_of(cards.write_model_card(alone), "| mean |")
    card = cards.write_data_card(alone)
    assert lines_of(card, "## ")[1:] == [f"## {NORTH}: Hospital {NORTH}"]
    assert has_whole_tables(card)


def test_null_scores_are_told_by_their_reasons(facts):
    def blank_scores(content):
        content["mean_in_domain"], content["in_domain_reason"] = None, "none is held back"
        own = content["by_hospital"][WEST]
        own["metrics"]["macro_f1"] = {"value": None, "low": None, "high": None, "reason": "alike"}
        own["baseline"]["macro_f1"] = None
        for block in content["by_hospital"].values():
            block["doubt"]["home"] |= {"threshold": None, "reason": "no validation image"}

    def blank_novelty(content):
        for one in content["scores"].values():
            one.clear()
            one |= {"says": "far away", "reason": "the model has no network"}

    def blank_probe(content):
        content |= {
            "shortcut_score": None,
            "shortcut_score_reason": "one class",
            "hospital_told": None,
        }
        content["warnings"] = [f"warning {number}" for number in range(7)]

    def blank_bias(content):
        for one in content["tests"].values():
            one["all"] |= {"keeps_call": None, "keeps_call_reason": "one hospital"}
            one["flagged"] = None

    def blank_split(content):
        for block in content["leaks"]["by_part"].values():
            block |= {
                "patient_in_train": None,
                "patient_in_train_reason": "no patient is published",
            }

    for stage, change in (
        ("evaluate", blank_scores), ("novelty", blank_novelty), ("probe", blank_probe),
        ("bias", blank_bias), ("split", blank_split),
    ):  # fmt: skip
        facts = change_metrics(facts, stage, change)
    card = cards.write_model_card(facts)
    for said in (
        "- No score in domain: none is held back.", "| none: alike |", "| none |",
        "of them are wrong at most: no validation image.", "| none: no validation image |",
        "| far away | none: the model has no network |", "- No shortcut score: one class.",
        "- warning 4\n- 2 more such warnings", "the picture is grey, none: one hospital",
        "in domain, no patient is published; unseen, no patient is published.",
    ):  # fmt: skip
        assert said in card
    assert "None" not in card
    assert has_whole_tables(card)


def test_the_sick_called_healthy_are_counted(facts):
    def change(content):
        one = {"sick_called_healthy": 3, "n_sick": 40, "healthy_called_sick": 2, "n_healthy": 50}
        content["screening"] = {"test": one, "unseen": None}

    card = cards.write_model_card(change_metrics(facts, "evaluate", change))
    assert lines_of(card, "- Sick called healthy") == [
        "- Sick called healthy, in domain: 3 of 40 pictures; healthy called sick: 2 of 50."
    ]


def test_a_licence_that_allows_nothing_has_its_own_line(demo):
    for name in (NORTH, WEST):
        edit(f"data/about/{name}.json", lambda about: about.update(licence="not published"))
    card = cards.write_model_card(cards.read_facts(RULE))
    end = "on before you know that you may."
    assert lines_of(card, '- demo_north: licence "not pub') == [
        f'- {NORTH}: licence "not published". Do not pass its pictures, or this model, {end}'
    ]
    assert f'- {WEST}: licence "not published". Do not pass its pictures {end}' in card
    assert not lines_of(card, "- demo_east: licence")


def test_text_of_people_stays_in_its_line_and_cell(demo):
    """Pipes, line ends, headings and tags in titles, licences, citations and labels."""
    plain = [
        write(cards.read_facts(RULE)) for write in (cards.write_model_card, cards.write_data_card)
    ]
    for name in RULE.hospitals:
        evil = {"title": EVIL, "licence": f"CC BY {EVIL}", "citation": EVIL, "page": EVIL}
        edit(f"data/about/{name}.json", lambda about, evil=evil: about.update(evil))
    labels = tables.LABELS.read()
    tables.LABELS.write(labels.assign(published_label=labels["published_label"] + EVIL))
    facts = cards.read_facts(RULE)
    for card, before in zip(
        (cards.write_model_card(facts), cards.write_data_card(facts)), plain, strict=True
    ):
        added = card.count("- Published at") - before.count("- Published at")
        assert len(card.splitlines()) == len(before.splitlines()) + added
        assert has_whole_tables(card)
        assert "<" not in card
        assert "A \\| B # C &lt;script>x&lt;/script> \\*d\\*" in card


def test_the_data_card_counts_every_file_and_picture(facts):
    card = cards.write_data_card(facts)
    section = card[card.index("## demo_west") :]
    counted = facts.counted[WEST]
    assert counted["n_members"] == (
        counted["n_kept"] + counted["n_rejected"] + counted["n_auxiliary"]
    )
    assert (
        "- Files: 301; pictures kept: 295; rejected: 6 (duplicate 2, empty 1, hidden 1, "
        "not an image 1, truncated 1); others, such as tables and masks: 0\n"
    ) in section
    assert (
        "- The hospital is unseen; pictures of a class: 269 (unseen 268, left out 1)\n" in section
    )
    assert "- Left out of the parts: twin in train 1\n" in section
    assert "- Patients: 10; slides: not published\n" in section
    assert (
        "| IMMATURE_GRANULOCYTE | 26 | immature_granulocyte | not used: no class for imm" in section
    )
    assert "- Labelled only coarsely, as immature_granulocyte: 26\n" in section
    assert sum(int(n) for n in re.findall(r"^\| [A-Z_]+ \| (\d+) \|", section, re.M)) == 295
    assert "Drawn by a program" in section
    assert has_whole_tables(card)


def test_the_order_of_hospitals_and_rows_changes_no_byte(facts):
    rule = RULE.model_copy(update={"hospitals": RULE.hospitals[::-1]})
    reasons = facts.images["left_out_reason"].copy()
    reasons[facts.images.index[facts.images["hospital"] == NORTH][:2]] = "twin of a in train", "b"
    facts = replace(facts, images=facts.images.assign(left_out_reason=reasons))
    turned = replace(facts, rule=rule, images=facts.images[::-1])
    for write in (cards.write_model_card, cards.write_data_card):
        assert write(turned) == write(facts)


def test_classes_of_diagnoses_and_of_several_types(facts):
    """How many of each type, where a class stands for several; a diagnosis is no type."""
    several = facts.taxonomy.class_of | {"lymphoblast": "lymphocyte"}
    card = cards.write_model_card(
        replace(facts, taxonomy=replace(facts.taxonomy, class_of=several))
    )
    assert "| basophil | basophil | 34 |" in card
    assert "| lymphocyte | lymphocyte (43), lymphoblast (0) | 43 |" in card
    told = replace(
        facts.taxonomy, by="diagnosis", class_of={"AML": "lymphocyte", "M3": "lymphocyte"}
    )
    card = cards.write_model_card(replace(facts, taxonomy=told))
    assert "| lymphocyte | AML, M3 | 43 |" in card


@pytest.mark.parametrize("stage", ["bias", "evaluate", "harmonise", "novelty", "probe", "suspects"])
def test_metrics_of_other_hospitals_are_refused(demo, stage):
    """A card of two experiments would look right."""
    rule = RULE.model_copy(update={"hospitals": [NORTH, "lisbon"]})
    with pytest.raises(PipelineError, match=rf"{stage}.json and params.yaml do not name the same"):
        cards._require_own(metrics_path(stage), read_metrics(stage), rule.hospitals)
    with pytest.raises(PipelineError, match=r"another experiment\. Run 'uv run dvc repro'"):
        cards.read_facts(rule)


def test_a_probe_that_could_not_score_tells_its_hospitals_all_the_same():
    content = {"shortcut_score": None, "n_images_by_hospital": {NORTH: 3, "lisbon": 2}}
    with pytest.raises(PipelineError, match=r"\(lisbon\)"):
        cards._require_own(metrics_path("probe"), content, RULE.hospitals)


def test_a_hospital_that_harmonise_does_not_know_is_refused(demo):
    rule = RULE.model_copy(update={"hospitals": [*RULE.hospitals, "lisbon"]})
    with pytest.raises(PipelineError, match=r"harmonise\.json and .*\(lisbon\)"):
        cards.read_facts(rule)


@pytest.mark.parametrize(
    "path",
    [
        "metrics/evaluate.json", "metrics/filter/demo_west.json", "metrics/quality/demo_west.json",
        "data/model/card.json", "data/about/demo_west.json", "data/raw/demo_west/contents.json",
    ],
)  # fmt: skip
def test_a_file_that_is_missing_or_broken_is_named(demo, path):
    Path(path).write_text("{", encoding="utf-8")
    with pytest.raises(PipelineError, match=rf"^{path} is no JSON\. Delete it and run"):
        cards.read_facts(RULE)
    Path(path).unlink()
    with pytest.raises(PipelineError, match=rf"^{path} is missing\. Run 'uv run dvc repro'"):
        cards.read_facts(RULE)


def test_a_table_that_is_missing_is_named(demo):
    tables.LABELS.at().unlink()
    with pytest.raises(TableError, match=r"labels\.parquet is missing"):
        cards.read_facts(RULE)

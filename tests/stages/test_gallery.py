"""The gallery on made models and drawn hospitals: what is shown, in which order, what is not."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import gallery
from stages.core import backend
from stages.core.errors import ModelError, TableError
from stages.core.tables import IMAGES, PREDICTIONS, QUALITY, SPLIT, TRAINING
from stages.inputs import preparation, reading
from stages.models import classifiers, networks, trained
from stages.models.recipes import CascadeRecipe, ClassifierRecipe, EnsembleRecipe
from tests.made.lenets import CLASSES, LENET, MIDDLE, made_lenet
from tests.stages import test_bias
from tests.stages.cohort import ROOT
from tests.stages.test_bias import HOSPITALS, N_IMAGES, keep, rule, write_lenet, write_params

made, project = test_bias.made, test_bias.project
FILES = (gallery.PAGE, gallery.SHEET)
POLICY = "Content-Security-Policy"
TRUTH = ("basophil", "monocyte")  # of blue and of red cells, as `write_hospital` draws them


class Page(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def part(self, start, end):
        return self.text[self.text.rindex(start) : self.text.rindex(end)]


def run(**changes):
    """Ask for one method, and read the page."""
    write_params(Path(), explain={"images": 1, "methods": ["grad_cam"]} | changes)
    gallery.main()
    return Page(gallery.PAGE.read_text(encoding="utf-8"))


def edit(table, hospital, image_id, **changes):
    """Change a row of a table."""
    frame = table.read(hospital).set_index("image_id", drop=False)
    for name, value in changes.items():
        frame.loc[image_id, name] = value
    table.write(frame.reset_index(drop=True), hospital)


def write_truth():
    """Every cell is published as what the made LeNet calls it."""
    for hospital in HOSPITALS:
        split = SPLIT.read(hospital)
        split["label"] = [TRUTH[number // 2 % 2] for number in range(len(split))]
        SPLIT.write(split, hospital)


def write_training(rows):
    """The training pictures: copies of others, by name, source and label."""
    table = []
    for image_id, source, label in rows:
        hospital = source.partition("/")[0]
        geometry = preparation.geometries(QUALITY.read(hospital), rule())[source]
        content = IMAGES.read(hospital).set_index("image_id").loc[source, "bytes"]
        table.append(
            {
                "image_id": image_id, "hospital": hospital, "label": label, "group": image_id,
                "twin_group": image_id, "part": "train", "bytes": content,
                **preparation.to_row(geometry),
            }
        )  # fmt: skip
    TRAINING.write(pd.DataFrame(table))


@pytest.fixture
def shown(project):
    """A made LeNet that is always right, at two hospitals, taught by two pictures."""
    write_lenet("cell")
    write_truth()
    write_training([("t/0", "north/001.png", "basophil"), ("t/1", "north/002.png", "monocyte")])
    return project


def test_one_file_that_asks_for_nothing_and_runs_nothing(shown):
    """Pictures lie inside, each with a text; links lead to places of the page alone."""
    page = run()
    names = [name for name, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(names)
    assert not any(key.startswith("on") for _, own in page.tags for key in own)
    sources = [own["src"] for _, own in page.tags if "src" in own]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(own["alt"].strip() for name, own in page.tags if name == "img")
    links = {own["href"] for name, own in page.tags if name == "a"}
    assert links <= {f"#{own['id']}" for _, own in page.tags if "id" in own}
    html = gallery.PAGE.read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", html)
    policy = next(own for name, own in page.tags if own.get("http-equiv") == POLICY)
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert max(np.diff(levels)) == 1


def test_without_errors_and_twins_sentences_stand_in_their_place(shown):
    """Hospitals that trained come first; every section is there."""
    page = run()
    heads = ["north (test)", "Examples of each", "Errors, the most", "Least sure", "Near twins"]
    places = [page.text.rindex(head) for head in ["Model, hosp", "north (test)", "east (unseen)"]]
    assert places == sorted(places)
    assert all(head in page.text for head in heads)
    assert page.text.count("No error: every picture is called as it was published.") == 2
    assert "None: no scored picture has a near twin." in page.text
    assert "basophil: 6 of 6 right No picture of this class is called wrong." in page.text
    assert "The hospital has no scored picture of eosinophil." in page.text
    assert "Model: network lenet. Classes: basophil, eosinophil, monocyte." in page.text
    assert "WRONG:" not in page.text


def test_the_most_confident_error_stands_first(shown):
    """At each hospital by itself, and on the sheet; the least sure call is among the doubts."""
    for number, p in ((3, 0.7), (8, 0.99), (5, 0.6)):
        chances = {f"p_{name}": (1 - p) / 2 for name in CLASSES} | {"p_eosinophil": p}
        edit(PREDICTIONS, "north", f"north/{number:03d}.png", predicted="eosinophil", **chances)
    tie = {"p_basophil": 0.501, "p_monocyte": 0.499, "p_eosinophil": 0.0}
    edit(PREDICTIONS, "north", "north/004.png", **tie)
    page = run()
    errors = page.part("12 pictures, 75.0 % right.", "east (unseen)")
    errors, doubts = errors[errors.index("3 of 3 errors") :].split("Least sure")
    assert re.findall(r"(\d)\. WRONG:", errors) == ["1", "2", "3"]
    own = re.findall(r"% (north/\d+.png)", errors)
    assert own == ["north/008.png", "north/003.png", "north/005.png"]
    assert "WRONG: called eosinophil, published basophil eosinophil 99.0 %" in errors
    assert "taught as eosinophil (called) no training picture bears this class" in errors
    assert re.findall(r"% (north/\d+.png)", doubts)[0] == "north/004.png"
    sheet = cv2.imdecode(np.fromfile(gallery.SHEET, np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape == (160 + 3 * 16, gallery.N_TILES * 160, 3)  # east has none


def test_the_planted_copy_is_the_most_similar_training_picture(shown):
    """Of a random network, which sees every difference; of the class called and of the true one."""
    backend.load_keras().utils.set_random_seed(1)
    network = networks.build(LENET, (32, 32, 3), len(CLASSES))
    keep(trained.SingleModel(CLASSES, LENET, rule(), (32, 32, 3), network))
    write_truth()
    call = PREDICTIONS.read("north").set_index("image_id")["predicted"]
    wrong = [name for name in call.index if call[name] != TRUTH[int(name[6:9]) // 2 % 2]]
    copied = wrong[-1]
    others = [f"east/{number:03d}.png" for number in range(N_IMAGES)]
    rows = [(f"t/a{place}", source, call[copied]) for place, source in enumerate(others)]
    write_training([*rows, ("t/copy", copied, call[copied])])
    text = run().text
    # By name it would be the last of equals.
    assert re.search(rf"cosine 1.000 t/copy cosine \S+ t/a\d+ taught as .{{,250}}{copied}", text)
    assert "No training picture bears " in text


def test_text_of_others_stays_text(shown):
    """A label or a file's name may look like a tag."""
    bad = "<script>alert('x')</script><b>"
    edit(SPLIT, "north", "north/003.png", label=bad)
    edit(SPLIT, "north", "north/000.png", label=bad, twin_group="north/001.png")
    page = run()
    assert f"called basophil, published {bad}" in page.text
    assert f"No training picture bears {bad}." in page.text
    assert not {"script", "b"} & {name for name, _ in page.tags}
    assert any(bad in own.get("alt", "") for _, own in page.tags)


def test_twins_stand_side_by_side(shown):
    """With what each was published as and called, and where it stands."""
    edit(SPLIT, "east", "east/003.png", twin_group="north/000.png", part="left_out")
    edit(SPLIT, "north", "north/000.png", twin_group="north/000.png")
    twins = run().text.split("Near twins")[-1]
    assert "1 of 1 groups" in twins
    assert "1. 2 pictures, 2 labels, 1 call" in twins
    assert "part test, published basophil, called basophil north/000.png" in twins
    assert "part left_out, published monocyte, not scored east/003.png" in twins


def picture(source):
    return cv2.imdecode(np.frombuffer(base64.b64decode(source[23:]), np.uint8), cv2.IMREAD_COLOR)


def test_a_map_of_each_probable_class_stands_beside_the_picture(shown):
    """The evidence for the class called is bright at the cell; what has none says so."""
    page = run(methods=["rollout", "occlusion", "grad_cam"])
    assert "by occlusion:" in page.text
    images = [own for name, own in page.tags if name == "img"]
    first = next(place for place, own in enumerate(images) if "map of the" not in own["alt"])
    assert [own["alt"] for own in images[first : first + 5]] == [
        "published picture under the map for basophil",
        "cell of north, published basophil, called basophil",
        *(f"map of the evidence for {name}" for name in CLASSES),
    ]
    for one in (images[first], images[first + 2]):
        heat = picture(one["src"]).astype(int).sum(axis=2)
        assert heat.shape == (gallery.SHOWN, gallery.SHOWN)
        brightest = np.array(np.unravel_index(heat.argmax(), heat.shape))
        assert np.hypot(*(brightest - gallery.SHOWN / 2)) < 25  # px; the cell's radius is 25, 37
    assert "eosinophil: no evidence" in page.text
    write_params(Path(), explain={"images": 1, "methods": ["rollout"]})
    gallery.main()
    reason = "none of the methods in explain.methods of params.yaml suits this model (rollout reads"
    page = Page(gallery.PAGE.read_text(encoding="utf-8"))
    assert reason in page.text
    assert not any(" map " in own.get("alt", "") for _, own in page.tags)


def make_member(classes):
    network = made_lenet("cell", MIDDLE)
    return trained.SingleModel(classes, LENET, rule(), (32, 32, 3), network)


def make_knn():
    settings = ClassifierRecipe(kind="classifier", vectors="grey", classifier="knn", size=32)
    x = np.random.default_rng(0).random((9, 32 * 32)).astype(np.float32)
    fitted = classifiers.fit(settings, x, CLASSES * 3, CLASSES, 0)
    return trained.SingleModel(CLASSES, settings, rule(), (32, 32, 3), None, fitted)


def test_composites_are_shown_by_their_networks(shown):
    """An ensemble with a classifier, and a cascade, whose groups have no map of their classes."""
    members = {"net": make_member(CLASSES), "trees": make_knn()}
    recipe = EnsembleRecipe(kind="ensemble", members={k: v.recipe for k, v in members.items()})
    keep(trained.CompositeModel(CLASSES, recipe, rule(), members))
    write_truth()
    page = run()
    assert "ensemble of net (network lenet) and trees (classifier knn of grey)" in page.text
    assert "They are of the networks alone: trees has none." in page.text
    groups = {"group": ["basophil", "eosinophil"]}
    recipe = CascadeRecipe(kind="cascade", groups=groups, first=LENET, second=LENET)
    members = {
        "first": make_member(["group", "monocyte", "none"]),
        "second": make_member(["basophil", "others", "none"]),
    }
    trained.save(trained.CompositeModel(CLASSES, recipe, rule(), members), gallery.MODEL)
    page = run()
    assert "cascade of first (network lenet)" in page.text
    assert "no network of the model knows this class by itself eosinophil" in page.text


def test_a_model_without_a_network_says_what_it_cannot(shown):
    """No similar pictures; and no maps, where only methods for networks are asked for."""
    keep(make_knn())
    write_truth()
    edit(SPLIT, "north", "north/003.png", label="monocyte")
    page = run()
    assert gallery.NO_NETWORK in page.text
    assert "grad_cam follows a network to its answer" in page.text
    assert "cosine" not in page.text
    assert "WRONG:" in page.text


def test_the_command_gives_the_same_bytes_with_two_workers(shown):
    """Pixels are prepared by processes before TensorFlow is loaded; the size is told."""
    edit(SPLIT, "north", "north/003.png", label="monocyte")
    run()
    first = [name.read_bytes() for name in FILES]
    done = subprocess.run(
        [sys.executable, "-m", "stages.gallery"], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin", "SMEARFLOW_WORKERS": "2", "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^gallery: \d+ pictures, \d+\.\d MB$", done.stderr, re.MULTILINE)
    assert [name.read_bytes() for name in FILES] == first


@pytest.mark.parametrize(
    ("gone", "error", "told"),
    [
        ("data/model/card.json", ModelError, r"card.json is missing.*dvc repro"),
        ("data/predictions/east.parquet", TableError, r"ions/east.parquet is missing.*dvc repro"),
        ("data/split/east.parquet", TableError, r"split/east.parquet is missing.*dvc repro"),
        ("data/training/pictures.parquet", TableError, r"pictures.parquet is missing.*dvc repro"),
    ],
)
def test_what_is_missing_is_named(shown, gone, error, told):
    Path(gone).unlink()
    with pytest.raises(error, match=told):
        run()
    assert not any(name.exists() for name in FILES)


def test_predictions_of_another_model_are_named(shown):
    for hospital in HOSPITALS:
        PREDICTIONS.write(PREDICTIONS.read(hospital).drop(columns="p_eosinophil"), hospital)
    with pytest.raises(TableError, match=r"no column p_eosinophil.*dvc repro"):
        run()


def test_views_are_averaged_before_pictures_are_compared(monkeypatch):
    """In its first view the error is nearer to the one picture, in the mean to the other."""
    views = {"error": ([1, 0], [0, 3]), "t/0": ([1, 0], [1, 0]), "t/1": ([0, 1], [0, 1])}
    vectors = np.array([one for both in views.values() for one in both], float)
    monkeypatch.setattr(gallery.novelty_scores, "extract", lambda part, x: vectors)
    rows = reading.Examples([name for name in views for _ in range(2)], vectors)
    calls = pd.DataFrame({"call": ["x"], "label": ["y"]}, index=["error"])
    labels = pd.Series("x", index=["t/0", "t/1"])
    part = make_member(CLASSES)
    explainer = gallery.maps.Explainer({"model": part}, {"model": None}, {}, [])
    found = gallery._find_nearest(calls, labels, rows, explainer)
    assert [name for name, _ in found["error", "x"]] == ["t/1", "t/0"]
    assert ("error", "y") not in found

"""The attributes stage on a made network, which sees the colour of the cell and nothing else."""

import json
from pathlib import Path

import pytest

from stages import attributes
from stages.core.tables import PREDICTIONS, SPLIT
from stages.models import predicting, trained
from tests.made.lenets import CLASSES
from tests.stages import test_novelty
from tests.stages.cohort import write_project
from tests.stages.test_novelty import lenet

made, project = test_novelty.made, test_novelty.project
HOSPITALS = ("north", "east")


def ask(folder, text):
    """Predictions of the made network, and a table of attributes."""
    (folder / "told.csv").write_text(text)
    write_project(folder, HOSPITALS, attributes={"tables": ["told.csv"] if text else []})
    model = lenet()
    trained.save(model, attributes.MODEL)
    for hospital in HOSPITALS:
        chosen = SPLIT.read(hospital)[["image_id", "hospital", "part"]]
        chosen = chosen[chosen["part"] != "train"].reset_index(drop=True)
        pictures = list(attributes.reading.stream_pictures(
            hospital, model.inputs, set(chosen["image_id"])))  # fmt: skip
        found = trained.predict_images(
            model, attributes.reading.read_pixels(pictures, model.inputs, 32)
        )
        PREDICTIONS.write(predicting.tabulate(chosen, found, CLASSES), hospital)
    attributes.main()
    return json.loads(Path("metrics/attributes.json").read_text())


def test_what_a_network_sees_is_read_off_and_what_it_does_not_is_not(project):
    """Blue and red take turns; what takes turns in twos is not seen. Other names are of no cell."""
    rows = [f"{n:03d}.png,{'blue' if n % 2 == 0 else 'red'},{n // 2 % 2}" for n in range(60)]
    content = ask(project, "img_name,colour,whim\n" + "\n".join(rows) + "\nno.png,blue,0\n")
    assert content["network"] == "model"
    colour, whim = (content["attributes"][name] for name in ("colour", "whim"))
    assert (colour["n_training"], colour["n_images"]) == (26, 28)
    assert colour["kappa"]["value"] == 1
    assert abs(whim["kappa"]["value"]) < 0.5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", attributes.NOT_ASKED),
        ("img_name,colour\nno.png,blue\n", "attributes.tables name no picture of the training"),
    ],
)
def test_without_attributes_that_is_said(project, text, reason):
    assert ask(project, text)["reason"].startswith(reason)

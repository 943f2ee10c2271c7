"""The recipe stage: the chosen entry with its members and defaults, and nothing of the others."""

from pathlib import Path

import pytest
import yaml

from stages import recipe
from stages.core.errors import ModelError, ParamsError
from stages.models import recipes
from tests.stages.cohort import KNN_RECIPE, write_project

NETWORK = {"kind": "network", "network": "lenet", "size": 32, "steps": {"all": {"epochs": 3}}}
MODELS = {
    "net": NETWORK,
    "near": KNN_RECIPE,
    "frozen": {"kind": "classifier", "vectors": "features", "classifier": "svm"},
    "both": {"kind": "ensemble", "members": ["net", "near"]},
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, model="both", models=MODELS)


def edit(**changes):
    """Set keys of params.yaml; a double underscore goes one level down."""
    path = Path("params.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def run():
    recipe.main()
    return recipe.RECIPE.read_bytes()


def test_members_stand_in_full_with_their_defaults():
    """What training reads needs neither params.yaml nor the defaults of this version."""
    run()
    found = recipes.read(recipe.RECIPE)
    assert list(found.members) == ["near", "net"]
    assert found.members["net"].steps[0].epochs == 3
    text = recipe.RECIPE.read_text(encoding="utf-8")
    for default in ('"learning_rate": 0.001', '"batch": 32', '"neighbours": 3'):
        assert default in text


def test_an_entry_that_is_not_chosen_changes_no_byte():
    """So that nothing is trained again."""
    before = run()
    edit(models__frozen__c=[0.5], models__spare=NETWORK | {"size": 64}, features__size=96)
    assert run() == before


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("both", {"models__near__neighbours": 5}),  # of a member
        ("both", {"models__both__members": ["near", "frozen"]}),
        ("near", {"models__near__size": 48}),
        ("frozen", {"features__size": 96}),  # by default those of params.yaml
        ("frozen", {"model": "net"}),
    ],
)
def test_what_the_chosen_one_is_made_of_changes_the_file(model, changes):
    """So that it is trained again; a second run gives the same bytes."""
    edit(model=model)
    before = run()
    assert run() == before
    edit(**changes)
    assert run() != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models__frozen__classifier": "swm"}, r"models.frozen.classifier: got 'swm'"),
        ({"models__both__members": ["net", "neer"]}, r"both.members: 'neer' .*mean 'near'"),
    ],
)
def test_a_fault_in_any_entry_is_named(changes, message):
    """Before hours of training, not when its turn comes; and nothing is written."""
    edit(model="net", **changes)
    with pytest.raises(ParamsError, match=message):
        recipe.main()
    assert not recipe.RECIPE.exists()


def test_an_unknown_backbone_of_the_features_is_named():
    edit(features__backbone="efficientnet_lite1")
    with pytest.raises(ModelError, match=r"features.backbone.*Did you mean 'efficientnet_lite0'"):
        recipe.main()
    assert not recipe.RECIPE.exists()

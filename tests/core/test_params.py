"""params.yaml: what is wrong is named in one line, with the nearest valid name."""

import json
import re
from pathlib import Path

import pytest
import yaml

from stages.core.errors import ParamsError
from stages.core.params import load, parse
from stages.core.settings import seed_for
from tests.made.shipped import demo_params

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = demo_params()


def changed(path, value):
    """The shipped file with one value set at a path (KeyError: left out)."""
    content = json.loads(json.dumps(SHIPPED))
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[name]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return content


def test_the_shipped_file_is_right():
    shipped = parse(SHIPPED)
    assert shipped.model_dump() == SHIPPED


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("sede", 1, r"params.yaml, sede: unknown key. Did you mean 'seed'\?"),
        ("split.vald", 0.1, r"split.vald: unknown key. Did you mean 'valid'\?"),
        ("seed", "42", r"seed: got '42'; it should be a valid integer"),
        ("split.test", "much", r"split.test: got 'much'; it should be a valid number"),
        ("split.test", 1.5, r"split.test: got 1.5; it should be less than 1"),
        ("split.test", 0.9, r"split: valid \+ test must be below 1"),
        ("inputs.hide", "no", r"inputs.hide: got 'no'; it should be 'nothing', 'background' or"),
        ("inputs.crop", "cel", r"inputs.crop: got 'cel'; it should be 'cell', 'centre' or 'whole'"),
        ("inputs.white_balance", ["none", "none"], r"inputs: white_balance names a .* twice"),
        ("models", {"a": 1}, r"models.a: got 1; it should be a valid dictionary"),
        ("features.layers", [10], r"params.yaml, features.layers.0: got 10; it should be a"),
        ("evaluate", KeyError, r"evaluate: is missing. Add it"),
        ("quality.similar", "drop", r"quality: similar: got 'drop', but similar_to names no hos"),
        ("quality.similar_to", "demo_nort", r"quality.similar_to: 'demo_nort' is unknown. Did y"),
        ("model", "lite0_haed", r"model: 'lite0_haed' is unknown. Did you mean 'lite0_head'\?"),
        ("split.train_hospitals", ["demo_noth"], r"train_hospitals: 'demo_noth' .*'demo_north'\?"),
        ("hospitals", ["demo_north", "demo_north"], r"hospitals: a name stands twice"),
        ("hospitals", [], r"hospitals: got \[\]"),
        ("on_site.labels", 10, r"on_site.labels: got 10; it should be a valid list"),
        (
            "on_site.labels",
            [0],
            r"on_site.labels.0: got 0; it should be greater than or",
        ),
        ("on_site.labels", [1, 10, 1], r"on_site: labels names a number twice"),
        ("on_site.views", 0, r"on_site.views: got 0; it should be greater than or equal to 1"),
        ("on_site.learning_rate", 2.0, r"on_site.learning_rate: got 2.0; it should be less than"),
        ("filter.min_side", 2000, r"filter: min_side must be smaller than max_side"),
    ],
)
def test_a_fault_is_named(path, value, match):
    with pytest.raises(ParamsError, match=match) as fault:
        parse(changed(path, value))
    assert "\n" not in str(fault.value)


def test_only_the_named_groups_can_be_read(tmp_path, monkeypatch):
    """A stage cannot read a parameter that it did not name, and so did not declare."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(SHIPPED), encoding="utf-8")
    rule = load("split", "seed")
    assert rule.seed == SHIPPED["seed"]
    with pytest.raises(AttributeError):
        _ = rule.taxonomy


def test_a_missing_file_says_where_to_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"params.yaml is not here. Run from the project's top"):
        load("seed")


def test_broken_yaml_names_the_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 1\nsplit: [\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"params.yaml is not YAML, line 3: .*Mend that line"):
        load("seed")


def test_seeds_follow_names_not_order():
    assert seed_for(1, "split", "a") == seed_for(1, "split", "a")
    assert len({seed_for(1, "a"), seed_for(2, "a"), seed_for(1, "b"), seed_for(1, "a", "b")}) == 4


@pytest.mark.parametrize("text", ["1e-5", "1e-05", "1E-5", "0.00001", "1.0e-5"])
def test_a_small_number_is_read_as_people_and_dvc_write_it(tmp_path, monkeypatch, text):
    """DVC writes 1e-05 into params.yaml, which YAML 1.1 takes for a word."""
    monkeypatch.chdir(tmp_path)
    shipped = (ROOT / "params.yaml").read_text(encoding="utf-8")
    changed_text = re.sub(r"learning_rate: \S+", f"learning_rate: {text}", shipped)
    assert changed_text != shipped
    Path("params.yaml").write_text(changed_text, encoding="utf-8")
    assert load("models").models["lite0_head"]["steps"]["head"]["learning_rate"] == 1e-5


def test_a_file_of_another_encoding_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes("# größe\n".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params.yaml is not UTF-8 text.*Save it as UTF-8"):
        load("seed")

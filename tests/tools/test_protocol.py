"""protocol: several seeds and folds of one setting, told together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import PipelineError
from stages.tools import protocol
from tests.made.runs import evaluation, run, summary

ROOT = Path(__file__).resolve().parents[2]
PARAMS = "seed: {}   # whole number\nmodel: lite0\nsplit:\n  test: 0.2\n  folds: 2\n  fold: {}\n"
UNSEEN = {"x": (0.9, {"a": (9, 0.8, 0.7), "b": (3, 0.5, 0.4)})}
GOOD = (json.dumps(evaluation(UNSEEN)), json.dumps(summary(0.9)))


def read(name, seed, fold="", params=PARAMS):
    return protocol.read_run(name, params.format(seed, fold), *GOOD)


def refuse(*several):
    with pytest.raises(PipelineError) as caught:
        protocol.require_one_setting(several)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_experiments_that_differ_otherwise_are_refused():
    """Their spread would be that of the models; a comment or the order of keys is no difference."""
    one, two = read("one", 1), read("two", 2)
    turned = "model: lite0\nsplit: {{fold: {1}, folds: 2, test: .2}}\nseed: {0}\n"
    protocol.require_one_setting([one, two, read("three", 3, "", turned)])
    changed = read("changed", 3, "", PARAMS.replace("0.2", "0.3"))
    assert "one and changed differ in more than seed and fold: split.test is 0.2 and 0.3" in refuse(
        one, two, changed
    )
    more = read("more", 3, "", PARAMS + "filter:\n  min_side: 9\n")
    assert "filter.min_side is None and 9" in refuse(one, more)
    assert "filter.min_side is 9 and None" in refuse(more, one)
    assert "one and again have the same seed 1: they are one run" in refuse(
        one, two, read("again", 1)
    )
    folds = read("f0", 1, 0), read("f1", 1, 1)
    protocol.require_one_setting(folds)
    assert "f1 and f2 have the same seed 1 and fold 1" in refuse(*folds, read("f2", 1, 1))
    assert "only one is a fold" in refuse(one, read("fold", 2, 0))


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (("model: a\n", *GOOD), "x: params.yaml has no seed and split.fold"),
        (("[", *GOOD), "x: params.yaml has no seed"),
        (("seed: one\n", *GOOD), "x: params.yaml has no seed"),
        (("", "{", GOOD[1]), r"x: metrics/evaluate.json is not as .*JSONDecodeError.*dvc repro"),
        (("", "[]", GOOD[1]), r"x: metrics/evaluate.json is not as stage evaluate .*TypeError"),
        (("", "{}", GOOD[1]), r"x: metrics/evaluate.json is not as .*by_hospital"),
        (("", GOOD[0].replace('"f1"', '"F1"'), GOOD[1]), r"evaluate.json is not as .*f1"),
        (("", GOOD[0], "[]"), r"x: metrics/summary.json is not as stage summarise .*TypeError"),
        (("", GOOD[0], "{}"), r"x: metrics/summary.json is not as .*in_domain"),
        (("", GOOD[0], GOOD[1].replace("simu", "x")), r"summary.json is not as .*simulated"),
        (("", GOOD[0], '{"in_domain": 3}'), r"x: metrics/summary.json is not as .*TypeError"),
    ],
)
def test_what_no_run_wrote_ends_with_one_line(texts, told):
    params, *others = texts
    with pytest.raises(PipelineError, match=told) as caught:
        protocol.read_run("x", params or PARAMS.format(1, ""), *others)
    assert "\n" not in str(caught.value)


def test_all_that_was_asked_is_told():
    """A known table: two seeds, two folds, one run missing; a copy counts once."""
    runs = [
        run(1, 0, {"barca": (0.9, {"a": (9, 1.0, 1.0), "b": (1, 0.0, 0.0)})}, 0.9),
        run(1, 1, {"copy": (0.5, {"a": (5, 0.4, 0.6)}), "far": (0.4, {"b": (20, 0.3, 0.2)})}, 0.4),
        run(2, 0, {"barca": (0.7, {"a": (9, 0.8, 0.8), "b": (1, 0.0, 0.0)})}, 0.7),
    ]
    lines = protocol.lay_out(runs, 2, {"copy": "barca"}).split("\n")
    assert lines[:3] == ["3 runs; seeds: 1, 2; 2 of 2 folds", "missing: seed 2, fold 1", ""]
    told = [" ".join(line.split()) for line in lines]
    assert "barca 2 10 0.800 0.141 0.450 0.071 0.900 0.141 b 0.00" in told
    assert "far 1 20 0.400 0.200 0.200 b 0.20" in told
    assert "mean of 2 35 0.525 0.363 0.475" in told
    assert "interval too few too few too few" in told
    assert "Worst hospital: far, macro F1 0.200. Weakest class: b, F1 0.100." in lines
    assert "a 14 0.75 0.65 0.90 0.40 -" in told
    assert "b 21 0.10 0.15 0.00 - 0.30" in told
    assert "drop in macro F1 1 0.010 none 0.010 to 0.010 0.000 none" in told  # seed 2 lacks a fold
    assert "Simulated" not in "".join(lines)


def test_the_table_is_as_wide_as_a_page():
    """Whatever the number and the names of hospitals and classes; each of them is told."""
    hospitals = [f"a_hospital_number_{i:02d}" for i in range(12)]
    classes = {f"promyelocyte_type_{i:02d}": (4321, 0.5, 0.5) for i in range(11)}
    runs = [run(seed, unseen=dict.fromkeys(hospitals, (0.5, classes))) for seed in range(40)]
    text = protocol.lay_out(runs, 5, {})
    assert max(map(len, text.split("\n"))) <= 100
    assert text.count("\npromyelocyte_type_10 ") == text.count("\nclass ") > 1
    heads = " ".join(line for line in text.split("\n") if line.startswith("class ")).split()
    for name in hospitals:
        assert heads.count(name) == 1  # above its column of recalls
    one = protocol.lay_out([run(1)], 5, {})
    assert "  0.900        " in one
    assert "in domain, accuracy        1   0.900   none" in one
    assert one.startswith("1 run; seeds: 1\n")


def test_drawn_cells_are_no_evidence():
    text = protocol.lay_out([run(1, simulated=["demo_x"]), run(2, simulated=["demo_x"])], 5, {})
    assert text.endswith("\nSimulated, no evidence of accuracy on real cells: demo_x.")


def test_without_an_unseen_hospital_the_seeds_are_told():
    runs = [run(seed, unseen=UNSEEN, home=["x"]) for seed in (1, 2)]
    text = protocol.lay_out(runs, 5, {})
    assert "No hospital is unseen" in text
    assert "in domain, macro F1" in text


def test_places_are_those_of_the_blocks(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = protocol.find_places(["barcelona224", "munich", "nowhere"])
    assert found == {"barcelona224": "barcelona", "munich": "munich"}


def test_experiments_are_read_where_dvc_keeps_them(tmp_path, monkeypatch):
    """The command as a person types it; a name that is none ends with one line and code 1."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*words):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(seed, accuracy):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data/hospitals.yaml").write_text("{}\n", encoding="utf-8")
        (tmp_path / "params.yaml").write_text(PARAMS.format(seed, ""), encoding="utf-8")
        scores = json.dumps(evaluation({"x": (accuracy, UNSEEN["x"][1])}))
        (tmp_path / "metrics/evaluate.json").write_text(scores, encoding="utf-8")
        (tmp_path / "metrics/summary.json").write_text(GOOD[1], encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", str(seed))

    def tell(*words):
        return subprocess.run(
            [sys.executable, "-m", "stages.tools.protocol", *words],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    git("init", "-q", "-b", "main")
    commit(42, 0.9)
    base = git("rev-parse", "HEAD")
    for number, (seed, accuracy) in enumerate([(1, 0.8), (2, 0.6)]):
        git("checkout", "-q", "--detach", base)
        commit(seed, accuracy)
        git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/loho-{number}", "HEAD")
    git("checkout", "-q", "main")
    done = tell("main", "loho-*")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 runs; seeds: 1, 2, 42\n")
    [row] = [line for line in done.stdout.split("\n") if line.startswith("x ")]
    assert row.split()[:4] == ["x", "3", "12", "0.767"]
    wrong = tell("loho-7")
    assert wrong.returncode == 1
    assert "'loho-7' is no commit" in wrong.stderr
    assert len(wrong.stderr.strip().split("\n")) == 1

"""seeds: the spread of several trainings beside the interval of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.core.errors import PipelineError
from stages.tools import seeds

ROOT = Path(__file__).resolve().parents[2]
PARAMS = "# One experiment.\nseed: {}   # whole number\nmodel: lite0\nsplit:\n  test: 0.2\n"


def score(value, width=0.04):
    ends = (None, None) if width is None else (value - width / 2, value + width / 2)
    return {"value": value, "low": ends[0], "high": ends[1]}


def summary(value, width=0.04, **changes):
    block = {"accuracy": score(value, width), "macro_f1": score(value - 0.1, width)}
    content = {
        "in_domain": block, "unseen_mean": block, "unseen_worst": block,
        "drop": score(0.01), "covered": score(0.0, None),
    }  # fmt: skip
    return json.dumps(content | changes)


def runs(values, **changes):
    return [
        seeds.read_run(f"seed-{i}", PARAMS.format(i), summary(value, **changes))
        for i, value in enumerate(values)
    ]


def row(text, title):
    [line] = [line for line in text.split("\n") if line.startswith(title)]
    return line[22:].replace(" to ", " ").split()


def test_the_spread_is_that_of_numpy_beside_the_middle_interval():
    values = [0.91, 0.95, 0.90, 0.97]
    several = runs(values)
    several[0] = seeds.read_run("wide", PARAMS.format(9), summary(0.91, 0.5))
    text = seeds.lay_out(several)
    n, *told, width = row(text, "in domain, accuracy")
    expected = [np.mean(values), np.std(values, ddof=1), 0.90, 0.97, 0.07]
    assert n == "4"
    assert [float(one) for one in told] == pytest.approx(expected, abs=5.1e-4)
    assert width == "0.040"
    assert row(text, "calls without the cell")[-1] == "none"
    assert "4 seeds: 9, 1, 2, 3" in text
    assert max(map(len, text.split("\n"))) <= 100


def test_a_score_that_is_missing_is_of_fewer_seeds():
    """Without an unseen hospital there is no row; of a seed that lacks a score, one less."""
    text = seeds.lay_out(runs([0.9, 0.8], unseen_mean=None, unseen_worst=None, drop=None))
    assert "unseen" not in text.partition("An interval")[0]
    assert "drop" not in text
    several = [*runs([0.9, 0.8]), *runs([0.7], drop=None, covered=None)]
    assert row(seeds.lay_out(several), "drop in macro F1")[0] == "2"
    assert row(seeds.lay_out(several), "in domain, macro F1")[0] == "3"


def test_experiments_that_differ_otherwise_are_refused():
    """Their spread would be that of the models; a comment at the seed is no difference."""
    one, two = runs([0.9, 0.8])
    seeds.require_seeds_alone([one, two])
    other = PARAMS.format(7).replace("0.2", "0.3")
    changed = seeds.read_run("changed", other, summary(0.9))
    with pytest.raises(PipelineError, match=r"more than the seed: .* changed has 'test: 0.3'.*=1,"):
        seeds.require_seeds_alone([one, two, changed])
    same = seeds.read_run("again", PARAMS.format(1), summary(0.9))
    with pytest.raises(PipelineError, match=r"seed-1 and again have the same seed, 1: .*different"):
        seeds.require_seeds_alone([one, two, same])


@pytest.mark.parametrize(
    ("params", "content", "told"),
    [
        ("model: a\n", summary(0.9), r"x: params.yaml has no line 'seed: <whole number>'"),
        (PARAMS.format(1), "{", r"x: metrics/summary.json is not as .*JSONDecodeError.*dvc repro"),
        (PARAMS.format(1), "[]", r"x: metrics/summary.json is not as .*TypeError.*dvc repro"),
        (PARAMS.format(1), "{}", r"x: metrics/summary.json is not as .*in_domain.*dvc repro"),
        (PARAMS.format(1), summary(1, drop=3), r"x: metrics/summary.json is not as .*TypeError"),
    ],
)
def test_what_no_run_wrote_ends_with_one_line(params, content, told):
    with pytest.raises(PipelineError, match=told):
        seeds.read_run("x", params, content)


def test_experiments_are_read_where_dvc_keeps_them(tmp_path, monkeypatch):
    """The command as a person types it; a name that is none ends with one line and code 1."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def git(*words):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(seed, value):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        (tmp_path / "params.yaml").write_text(PARAMS.format(seed), encoding="utf-8")
        (tmp_path / "metrics/summary.json").write_text(summary(value), encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", str(seed))

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "stages.tools.seeds", *words],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    git("init", "-q", "-b", "main")
    commit(42, 0.9)
    base = git("rev-parse", "HEAD")
    git("checkout", "-q", "--detach")
    commit(1, 0.8)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/seed-1", "HEAD")
    git("checkout", "-q", "main")
    done = run("main", "seed-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert row(done.stdout, "in domain, accuracy")[:2] == ["2", "0.850"]
    wrong = run("main", "seed-2")
    assert wrong.returncode == 1
    assert "'seed-2' is no commit" in wrong.stderr
    assert len(wrong.stderr.strip().split("\n")) == 1

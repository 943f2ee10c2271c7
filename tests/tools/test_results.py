"""results: no number without its source, and the page is what the tables say, byte for byte."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from stages.core.errors import PipelineError
from stages.tools import replays, results
from tests.made.shipped import edit
from tests.projects import ROOT

FILES = (
    "params.yaml", "data/hospitals.yaml", "data/taxonomies.csv", "data/protocols.csv",
    "data/replays.csv", "data/results.csv", "data/results_tables.csv", "metrics/README.md",
)  # fmt: skip


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The files that the page is made of, to be edited."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read():
    return results.read_results(results.read_sheets())


def page(folder):
    return (folder / "metrics/README.md").read_bytes()


def test_the_page_is_what_the_tables_say():
    """To mend: uv run python -m stages.tools.results."""
    text = page(ROOT).decode()
    assert results.renew(text, results.generate()).encode() == page(ROOT)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("data/results.csv", ",macro F1,.720,.659,.760", ",macro F1,.721,.659,.760"),
        ("data/replays.csv", ".684,.619,.757,263", ".685,.619,.757,263"),
        ("metrics/README.md", "| .720 (.659 to .760)", "| .820 (.659 to .860)"),
    ],
)
def test_a_changed_number_is_noticed_and_mended(copied, capsys, name, old, new):
    """In the tables or on the page: the two no longer agree until the command has run."""
    path = copied / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    before = page(copied)
    assert results.renew(before.decode(), results.generate()).encode() != before
    results.main()
    assert results.renew(page(copied).decode(), results.generate()).encode() == page(copied)
    assert "metrics/README.md holds" in capsys.readouterr().out


def test_what_people_wrote_around_the_tables_stays(copied):
    path = copied / "metrics/README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"# Mine\n\n{text}\nLast words.\n", encoding="utf-8")
    results.main()
    assert path.read_text(encoding="utf-8") == f"# Mine\n\n{text}\nLast words.\n"


@pytest.mark.parametrize("marker", [results.BEGIN, results.END])
def test_a_page_without_its_markers_is_left_alone(copied, marker):
    path = copied / "metrics/README.md"
    text = path.read_text(encoding="utf-8").replace(marker, "")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError, match=r"metrics/README.md: the lines .*git restore"):
        results.main()
    assert path.read_text(encoding="utf-8") == text


def test_every_number_says_how_it_was_made():
    """A command, what looks like a commit, and an interval around the value."""
    numbers = read()
    assert len(numbers) > 400
    for one in numbers:
        assert one.command.startswith(results.STARTS), one
        assert re.fullmatch(r"[0-9a-f]{7,40}", one.commit), one
        given = [float(text) for text in (one.low, one.value, one.high) if text]
        assert given, one
        assert given == sorted(given), one


def test_every_number_of_ours_stands_on_the_page():
    text = page(ROOT).decode()
    for one in read():
        assert results.say(one) in text, one
        assert one.command in text, one


def test_replays_have_the_same_score_in_both_tables():
    """What replays.csv holds too, under the same name, is the same accuracy of as many images."""
    ours = {
        (one.experiment): (float(one.value), float(one.low), float(one.high), one.n)
        for one in read()
        if one.metric == "accuracy" and one.table in ("eleven", "eight")
    }
    both = [replay for replay in replays.read() if replay.row in ours]
    assert len(both) >= 4
    for replay in both:
        assert ours[replay.row] == (replay.ours, replay.low, replay.high, replay.n), replay.row


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"table": "fife"}, "table 'fife' is not in data/results_tables.csv"),
        ({"experiment": "Five"}, "experiment is 'Five'; it takes small letters"),
        ({"command": "dvc repro"}, "command is 'dvc repro'; it begins with 'uv run '"),
        ({"command": ""}, "command is ''"),
        ({"command": "uv run dvc exp run -n six"}, "does not name its experiment. Add -n five"),
        ({"commit": "yesterday"}, "commit is 'yesterday'; it takes 7 to 40 digits"),
        ({"hospital": ""}, "hospital is empty"),
        ({"metric": ""}, "metric is empty"),
        ({"value": "high"}, "they take numbers"),
        ({"value": ".999"}, r"low .\d+, value .999, high .\d+ are not in this order"),
        ({"low": ".999"}, "are not in this order"),
        ({"high": ""}, "a number is missing"),
        ({"value": "", "low": "", "high": ""}, "a number is missing"),
        ({"n": "many"}, "n is 'many'"),
        ({"n": "0"}, "n is '0'"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(copied, cells, message):
    line = edit(copied / "data/results.csv", "five-default", **cells)
    with pytest.raises(
        PipelineError, match=rf"^data/results.csv, line {line}: .*{message}".replace("five", ".*")
    ):
        read()


def test_a_number_stands_once_and_an_experiment_has_one_command(copied):
    path = copied / "data/results.csv"
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    path.write_text(f"{text}{lines[1]}\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"stands there already\. Leave one"):
        read()
    other = lines[1].replace(" -S taxonomy=shared5", "").replace(",in domain,", ",elsewhere,")
    path.write_text(f"{text}{other}\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="another command than"):
        read()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"across": "columns"}, "across is 'columns'; it takes experiment, metric, hospital"),
        ({"title": ""}, "title is empty"),
        ({"table": "demo"}, "table is 'demo'; it takes a name of its own"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(copied, cells, message):
    edit(copied / "data/results_tables.csv", "demo_more", **cells)
    with pytest.raises(PipelineError, match=rf"data/results_tables.csv, line \d+: {message}"):
        read()


def test_a_table_without_rows_is_named(copied):
    path = copied / "data/results_tables.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}six,Six,none,\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"results_tables.csv: table 'six' has no row"):
        read()


def test_a_table_is_laid_out_by_its_keys():
    """Known answers: columns by metric, steps joined, n beside the cell where it differs."""
    command = "uv run dvc exp run -n a"

    def one(metric, value, low="", high="", n=5, hospital="rome", note=""):
        return results.Result(
            "t", "a", command, "0123abc", hospital, n, metric, value, low, high, note
        )

    numbers = [
        one("accuracy", ".9", ".8", "1"), one("epochs", "10", n=None),
        one("epochs #2", "6", n=None, note="tuned"), one("weights", "3427115", n=None),
    ]  # fmt: skip
    told = results.lay_out(results.Sheet("t", "T", "metric", ""), numbers).splitlines()
    assert told[:6] == ["### T", "", "```bash", "# at 0123abc", command, "```"]
    assert told[-3] == "| experiment | n | accuracy | epochs | weights | remark |"
    assert told[-1] == ("| a | 5 | .9 (.8 to 1) | 10; 6 | 3,427,115 | tuned |")
    numbers = [one("recall", ".5"), one("recall", ".7", n=1200, hospital="bonn")]
    told = results.lay_out(results.Sheet("t", "T", "hospital", ""), numbers).splitlines()
    assert told[-3:] == [
        "| metric | rome | bonn |", "|---|---|---|", "| recall | .5 of 5 | .7 of 1,200 |",
    ]  # fmt: skip


def test_the_command_ends_with_one_line_where_a_row_is_wrong(copied):
    """As users run it: no traceback."""
    line = edit(copied / "data/results.csv", "campaign", commit="HEAD")
    done = subprocess.run(
        [sys.executable, "-m", "stages.tools.results"],
        cwd=copied, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"results: data/results.csv, line {line}: commit is 'HEAD'" in done.stderr

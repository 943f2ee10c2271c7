"""Every expectation is shown a defect planted for it, and finds that one and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages.core import tables
from stages.core.errors import TableError
from stages.splits import grouping
from stages.validation import expectations, limits
from stages.validation.cross_table_checks import derive_frames
from stages.validation.expectations import Finding, check, check_all, read_suite
from tests.made.good_tables import GOOD_LIMITS, IDS, Defect, good_balance, good_quality, good_tables

ROOT = Path(__file__).resolve().parents[2]
SUITES = sorted(path.stem for path in (ROOT / "data" / "expectations").glob("*.json"))
TABLES = {
    "images": tables.IMAGES,
    "rejected": tables.REJECTED,
    "quality": tables.QUALITY,
    "labels": tables.LABELS,
    "split": tables.SPLIT,
}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def good_frames() -> dict[str, pd.DataFrame]:
    frames = good_tables()
    limits_kept = limits.hold(frames, GOOD_LIMITS, {"north": limits.describe(good_quality()[:2])})
    return frames | derive_frames(frames, good_balance()) | limits_kept


put = Defect


NULL = "expect_column_values_to_be_null"
NOT_NULL = "expect_column_values_to_not_be_null"
UNIQUE = "expect_column_values_to_be_unique"
UNIQUE_TOGETHER = "expect_compound_columns_to_be_unique"
REGEX = "expect_column_values_to_match_regex"
IN_SET = "expect_column_values_to_be_in_set"
BETWEEN = "expect_column_values_to_be_between"
ORDERED = "expect_column_pair_values_a_to_be_greater_than_b"
COLUMNS = "expect_table_columns_to_match_ordered_list"

UNIT_RANGE = (
    "saturation", "value", "clipped", "nucleus_share", "nucleus_solidity", "mask_iou",
    "stained_around",
)  # fmt: skip
OTHER_RANGES = {
    "hue": (0, 360),
    "lab_l": (0, 100),
    "lab_a": (-128, 127),
    "lab_b": (-128, 127),
    "jpeg_quality": (1, 100),
    "entropy": (0, 8),
}
NOT_NEGATIVE = (
    "laplacian_sum", "sharpness", "laplacian_variance", "tenengrad", "tenengrad_cell",
    "unevenness", "haze", "n_cells", "red_cell_diameter", "centre_x", "centre_y", "nucleus_lobes",
)  # fmt: skip
GREY_LEVELS = [f"{name}_{channel}" for name in ("mean", "white") for channel in "rgb"]
DEVIATIONS = [f"sd_{channel}" for channel in "rgb"]
OF_CELL = ("centre_x", "centre_y", "cell_radius", "nucleus_radius")

# (suite, column, expectation) -> defects, each of which must break that expectation alone.
DEFECTS: dict[tuple[str, str, str], list[Defect]] = {
    **{(name, "image_id", UNIQUE): [put("image_id", taken_from=1)] for name in TABLES},
    **{(name, "image_id", NOT_NULL): [put("image_id", None)] for name in TABLES},
    **{
        (name, "image_id", REGEX): [
            put("image_id", text) for text in ("a.png", "North/a.png", "n/")
        ]
        for name in TABLES
    },
    **{(name, "hospital", NOT_NULL): [put("hospital", None)] for name in TABLES},
    ("images", "path", NOT_NULL): [put("path", None)],
    ("images", "place", NOT_NULL): [put("place", None)],
    ("images", "sha256", NOT_NULL): [put("sha256", None)],
    ("images", "sha256", REGEX): [put("sha256", "A" * 64), put("sha256", "0" * 63)],
    ("images", "pixel_sha256", NOT_NULL): [put("pixel_sha256", None)],
    ("images", "pixel_sha256", REGEX): [put("pixel_sha256", "g" * 64)],
    ("images", "hospital, pixel_sha256", UNIQUE_TOGETHER): [put("pixel_sha256", taken_from=1)],
    ("images", "width", BETWEEN): [put("width", 0)],
    ("images", "height", BETWEEN): [put("height", 0)],
    ("images", "format", IN_SET): [put("format", "gif")],
    ("images", "mode", NOT_NULL): [put("mode", None)],
    ("images", "twin_group", NOT_NULL): [put("twin_group", None)],
    ("images", "twin_group", REGEX): [put("twin_group", "7")],
    ("rejected", "path", NOT_NULL): [put("path", None)],
    ("rejected", "reason", NOT_NULL): [put("reason", None)],
    ("rejected", "reason", IN_SET): [put("reason", "ugly")],
    ("rejected", "detail", NOT_NULL): [put("detail", None)],
    **{
        ("quality", field.name, NOT_NULL): [put(field.name, None)]
        for field in tables.QUALITY.schema
        if not field.nullable and field.name != "flags"
    },
    **{("quality", name, BETWEEN): [put(name, -0.1), put(name, 255.1)] for name in GREY_LEVELS},
    **{("quality", name, BETWEEN): [put(name, -0.1), put(name, 127.6)] for name in DEVIATIONS},
    **{("quality", name, BETWEEN): [put(name, -0.1), put(name, 1.1)] for name in UNIT_RANGE},
    **{("quality", name, BETWEEN): [put(name, -1.0)] for name in NOT_NEGATIVE},
    **{
        ("quality", name, BETWEEN): [put(name, low - 0.1), put(name, high + 0.1)]
        for name, (low, high) in OTHER_RANGES.items()
    },
    ("quality", "cell_radius", BETWEEN): [put("cell_radius", 0.0, row=1)],
    ("quality", "nucleus_radius", BETWEEN): [put("nucleus_radius", 0.0, row=1)],
    **{("quality", name, NOT_NULL): [put(name, None)] for name in OF_CELL},
    ("quality", "cell_radius, nucleus_radius", ORDERED): [put("nucleus_radius", 20.5)],
    ("labels", "cell_type", REGEX): [put("cell_type", "Band Neutrophil")],
    ("labels", "label", NOT_NULL): [put("label", None)],
    ("labels", "label", NULL): [put("label", "monocyte", row=3)],
    ("labels", "group", NOT_NULL): [put("group", None)],
    ("labels", "unit", NOT_NULL): [put("unit", None)],
    ("labels", "unit", IN_SET): [put("unit", "smear")],
    ("labels", "keep", NOT_NULL): [put("keep", None), put("keep", None, row=3)],
    ("labels", "drop_reason", NOT_NULL): [put("drop_reason", None, row=3)],
    ("labels", "drop_reason", NULL): [put("drop_reason", "too dark")],
    ("labels", "drop_reason", REGEX): [put("drop_reason", " ", row=3)],
    ("split", "label", NOT_NULL): [put("label", None)],
    ("split", "group", NOT_NULL): [put("group", None)],
    ("split", "twin_group", NOT_NULL): [put("twin_group", None)],
    ("split", "twin_group", REGEX): [put("twin_group", "7")],
    ("split", "part", NOT_NULL): [put("part", None)],
    ("split", "part", IN_SET): [put("part", "training")],
    ("split", "left_out_reason", NOT_NULL): [put("left_out_reason", None, row=2)],
    ("split", "left_out_reason", NULL): [put("left_out_reason", f"twin of {IDS[2]} in train")],
    ("split", "left_out_reason", REGEX): [
        put("left_out_reason", text, row=2)
        for text in (
            "no room",
            f"twin of {IDS[0]} in unseen",
            f"group of {IDS[0]} in train",
            "no official part here",
            "official part A is part of ours",
        )
    ],
    ("split_groups", "n_sides", IN_SET): [put("n_sides", 2)],
    ("split_patients", "n_sides", IN_SET): [put("n_sides", 2)],
    ("split_slides", "n_sides", IN_SET): [put("n_sides", 2)],
    ("split_twins", "n_sides", IN_SET): [put("n_sides", 2)],
    ("split_parts", "n_images", BETWEEN): [put("n_images", 0)],
    **{
        (name, "is_kept", IN_SET): [put("is_kept", False)]
        for name in ("hospital_flags", "training_classes", "hospital_drift")
    },
    ("split_sizes", "as_asked", IN_SET): [put("as_asked", False)],
    ("split_classes", "accounted", IN_SET): [put("accounted", False)],
    **{
        ("coverage", name, IN_SET): [put(name, False)]
        for name in (
            "in_images",
            "in_quality",
            "in_labels",
            "split_agrees",
            "label_agrees",
            "hospital_agrees",
        )
    },
}


def failures(findings: list[Finding]) -> list[tuple[str, str, str]]:
    faults = [finding for finding in findings if finding.fault]
    assert not faults, faults
    return [(f.table, f.column, f.expectation) for f in findings if not f.success]


def test_good_tables_pass() -> None:
    """Where nothing is planted, nothing is found."""
    frames = good_frames()
    findings = check_all(frames)
    assert failures(findings) == []
    assert sorted(frames) == SUITES
    assert {finding.n_unexpected for finding in findings} == {0}
    expectations.require_success(findings)


def test_every_expectation_has_a_planted_defect() -> None:
    """Nobody adds an expectation without a defect that it is known to find."""
    findings = check_all(good_frames())
    named = [(finding.table, finding.column, finding.expectation) for finding in findings]
    whole_table = [(name, "", COLUMNS) for name in TABLES]
    assert sorted(named) == sorted([*DEFECTS, *whole_table])


def rename_keys(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    """Give a copy of the good rows keys of its own, so that many copies stand in one frame."""
    renamed = {
        name: frame[name].str.replace("/", f"/{number}_", n=1)
        for name in ("image_id", "group", "owner", "twin_group", "place")
        if name in frame and frame[name].notna().all()
    }
    if "pixel_sha256" in frame:
        renamed["pixel_sha256"] = f"{number:04x}" + frame["pixel_sha256"].str[4:]
    return frame.assign(**renamed)


@pytest.mark.parametrize("suite", SUITES)
def test_each_planted_defect_breaks_its_expectation_alone(suite: str) -> None:
    """Of many copies of the good rows, each with one defect, each expectation finds its own."""
    good = good_frames()[suite]
    key = good.columns[0]
    copies = []
    planted: dict[tuple[str, str, str], list[str]] = {}
    for target, defects in DEFECTS.items():
        for defect in defects if target[0] == suite else []:
            copies.append(defect.plant(rename_keys(good, len(copies))))
            keys = copies[-1][key].iloc[defect.rows].map(str)
            planted.setdefault(target, []).extend(keys)
    findings = check(suite, pd.concat(copies, ignore_index=True), read_suite(suite))
    assert sorted(failures(findings)) == sorted(planted)
    for finding in findings:
        keys = planted.get((finding.table, finding.column, finding.expectation), [])
        assert finding.n_unexpected == len(keys)
        assert sorted(finding.offenders) == sorted(set(keys))


@pytest.mark.parametrize("suite", TABLES)
def test_columns_out_of_order_break_the_declaration_alone(suite: str) -> None:
    """A table whose columns are not as declared is named, with what was expected and found."""
    good = good_tables()[suite]
    *first, second_last, last = good.columns
    findings = check(suite, good[[*first, last, second_last]], read_suite(suite))
    assert failures(findings) == [(suite, "", COLUMNS)]
    (found,) = [finding for finding in findings if not finding.success]
    assert found.offenders == (
        f"expected {second_last}, found {last}",
        f"expected {last}, found {second_last}",
    )


@pytest.mark.parametrize("suite", SUITES)
def test_suites_are_in_one_stable_form(suite: str) -> None:
    """One line an expectation, sorted, nothing random: a diff shows what a person changed."""
    text = (ROOT / "data" / "expectations" / f"{suite}.json").read_text(encoding="utf-8")
    entries = json.loads(text)["expectations"]
    ordered = sorted(
        entries,
        key=lambda item: (
            item["kwargs"].get("column", ""),
            item["type"],
            json.dumps(item["kwargs"]),
        ),
    )
    lines = ",\n".join(
        "    " + json.dumps({"type": item["type"], "kwargs": dict(sorted(item["kwargs"].items()))})
        for item in ordered
    )
    assert text == f'{{\n  "name": "{suite}",\n  "expectations": [\n{lines}\n  ]\n}}\n'


def test_suites_load_in_great_expectations() -> None:
    """The files are the library's own form: a person can use them without our code."""
    check(
        "split_groups", pd.DataFrame({"group": ["g"], "n_sides": [1]}), read_suite("split_groups")
    )
    import great_expectations as gx

    for suite in SUITES:
        content = json.loads((ROOT / "data" / "expectations" / f"{suite}.json").read_text())
        assert len(gx.ExpectationSuite(**content).expectations) == len(content["expectations"])


def test_suites_follow_the_data_dictionary() -> None:
    """Columns and closed lists in the suites are those of tables.py."""
    for name, table in TABLES.items():
        columns = [e for e in read_suite(name) if e["type"] == COLUMNS]
        assert columns[0]["kwargs"]["column_list"] == expectations.columns_to_check(table)
    sets = {
        (name, entry["kwargs"]["column"]): set(entry["kwargs"]["value_set"])
        for name in ("rejected", "labels", "split")
        for entry in read_suite(name)
        if entry["type"] == IN_SET
    }
    assert sets == {
        ("rejected", "reason"): set(tables.REASONS),
        ("labels", "unit"): set(grouping.UNITS),
        ("split", "part"): set(tables.PARTS),
    }


def test_pictures_are_not_read_to_be_checked() -> None:
    """The binary columns stay on disk: memory must not hold a hospital's pictures."""
    columns = expectations.columns_to_check(tables.IMAGES)
    assert set(tables.IMAGES.schema.names) - set(columns) == {"bytes", "mask", "phash"}


def test_offenders_are_named_once_and_at_most_five() -> None:
    """A message names the first keys, each once, and tells how many rows there are."""
    frame = pd.DataFrame({"image_id": [f"n/{i:03}" for i in range(90)] + ["n/007"], "keep": False})
    many, twice = check(
        "coverage",
        frame,
        [
            {"type": IN_SET, "kwargs": {"column": "keep", "value_set": [True]}},
            {"type": UNIQUE, "kwargs": {"column": "image_id"}},
        ],
    )
    assert (many.n_unexpected, many.offenders) == (91, tuple(f"n/{i:03}" for i in range(5)))
    assert (twice.n_unexpected, twice.offenders) == (2, ("n/007",))


def test_an_empty_table_passes() -> None:
    """A hospital without a rejected picture is no fault."""
    frame = good_tables()["rejected"].iloc[:0]
    assert failures(check("rejected", frame, read_suite("rejected"))) == []


FAULTY = {
    "unknown column": {"type": NOT_NULL, "kwargs": {"column": "nosuch"}},
    "unknown type": {"type": "expect_column_values_to_shine", "kwargs": {"column": "keep"}},
    "unknown argument": {"type": NOT_NULL, "kwargs": {"colum": "keep"}},
    "unsuited column": {"type": BETWEEN, "kwargs": {"column": "group", "min_value": 0}},
    "unknown column in the condition": {
        "type": NOT_NULL,
        "kwargs": {
            "column": "keep",
            "row_condition": {
                "type": "comparison",
                "column": {"name": "nosuch"},
                "operator": "==",
                "parameter": 1,
            },
        },
    },
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_expectation_is_told_apart_from_bad_data(name: str) -> None:
    """The fault of an expectation is its own: the sound one beside it still speaks of the rows."""
    frame = good_tables()["labels"].assign(unit=None)
    sound = {"type": NOT_NULL, "kwargs": {"column": "unit"}}
    faulty, other = check("labels", frame, [FAULTY[name], sound])
    assert faulty.fault
    assert not faulty.success
    assert "\n" not in faulty.fault
    assert (other.success, other.fault, other.n_unexpected) == (False, None, 4)


def test_require_success_tells_bad_data_from_faults() -> None:
    """Bad rows and faulty expectations are two sentences, with a way out for each."""
    bad = Finding("labels", NOT_NULL, "label", False, 7, ("n/1", "n/2"))
    fault = Finding("split", NOT_NULL, "nosuch", False, fault="The column does not exist")
    fine = Finding("split", NOT_NULL, "part", True)
    with pytest.raises(
        TableError, match=r"1 of 2 expectations do not hold: labels, label, "
    ) as bad_data:
        expectations.require_success([bad, fine])
    assert "7 rows, first n/1, n/2" in str(bad_data.value)
    assert "where the rows are right: data/expectations/labels.json" in str(bad_data.value)
    assert "faulty" not in str(bad_data.value)
    with pytest.raises(TableError, match=r"1 of 2 expectations are faulty themselves") as faulty:
        expectations.require_success([fault, fine])
    assert "split, nosuch, " in str(faulty.value)
    assert "The column does not exist" in str(faulty.value)
    assert "do not hold" not in str(faulty.value)
    with pytest.raises(TableError, match=r"do not hold: labels.* are faulty themselves.*: split"):
        expectations.require_success([bad, fault])
    expectations.require_success([fine])


def test_require_success_does_not_flood() -> None:
    """Five expectations are named, the others counted."""
    bad = [Finding("labels", NOT_NULL, f"column_{i}", False, 1, ("n/1",)) for i in range(9)]
    with pytest.raises(TableError, match="and 4 more") as caught:
        expectations.require_success(bad)
    assert "column_5" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "missing.json is missing, so nothing checks 'missing'"),
        ("{", "missing.json is not JSON"),
        ("[]", "missing.json: 'expectations' must be a list"),
        ('{"expectations": []}', "one entry or more"),
        ('{"expectations": [{"type": "expect_x"}]}', "must be a list"),
        ('{"expectations": [{"type": "expect_x", "kwargs": []}]}', "must be a list"),
    ],
)
def test_a_wrong_suite_file_is_one_line_with_a_way_out(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite that is gone or mistyped never means that nothing is checked."""
    monkeypatch.setattr(expectations, "SUITES", tmp_path)
    if text is not None:
        (tmp_path / "missing.json").write_text(text)
    with pytest.raises(TableError, match=message) as caught:
        read_suite("missing")
    assert "Take the file from git again" in str(caught.value)


def test_summary_counts_by_table() -> None:
    """The metrics tell how many expectations and rows were checked, table by table."""
    frames = {"split": good_tables()["split"], "rejected": good_tables()["rejected"]}
    findings = [Finding("split", NOT_NULL, "part", True), Finding("split", UNIQUE, "part", False)]
    assert expectations.summarise(findings, frames) == {
        "n_expectations": 2,
        "n_failed": 1,
        "by_table": {
            "split": {"n_expectations": 2, "n_failed": 1, "n_rows": 3},
            "rejected": {"n_expectations": 0, "n_failed": 0, "n_rows": 2},
        },
    }


def test_a_fresh_process_is_quiet_and_does_not_call_home() -> None:
    """No connection, telemetry, banner, bar, log line or warning: also where a check is faulty."""
    program = f"""
import logging, os, socket, sys, warnings
def refuse(*_, **__):
    raise SystemExit("a connection was opened")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
logging.basicConfig(level=logging.INFO)
shown = warnings.showwarning
import pandas as pd
from stages.validation import expectations, limits
assert "great_expectations" not in sys.modules, "imported before it is used"
frame = pd.DataFrame({{"group": ["g"], "n_sides": [2], "keep": [None]}})
suite = [*expectations.read_suite("split_groups"), *{list(FAULTY.values())!r}]
found, *faulty = expectations.check("split_groups", frame, suite)
assert found.offenders == ("g",), found
assert all(one.fault for one in faulty), faulty
assert os.environ["GX_ANALYTICS_ENABLED"] == "False"
assert warnings.showwarning is shown, "warnings of the process go elsewhere now"
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

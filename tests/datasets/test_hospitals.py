"""The facts of each hospital: shipped blocks, literal paths, and every real path we may read."""

from pathlib import Path

import pytest
import yaml

from stages.core.errors import HospitalError
from stages.datasets import hospitals
from stages.datasets.hospitals import Hospital

ROOT = Path(__file__).resolve().parents[2]
HOSPITALS = [
    "all_idb2", "barcelona", "barcelona224", "bccd", "bloodmnist", "chula", "cvb", "jhu",
    "jiangxi", "mll23", "munich", "raabin", "raabin_krd",
]  # fmt: skip

BLOCK = {"title": "t", "licence": "l", "citation": "c", "folder": "mine"}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_shipped_block_is_valid_and_stands_once():
    """Each block of data/hospitals.yaml can be loaded, and no later block hides an earlier one."""
    text = hospitals.HOSPITALS_FILE.read_text(encoding="utf-8")
    names = [line.split(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert len(names) == len(set(names))
    assert set(HOSPITALS) <= set(names)
    assert set(names) == set(yaml.safe_load(text))
    for name in names:
        assert hospitals.load(name).title


def test_archives_have_https_addresses_or_say_that_there_is_none():
    """An address is a web address; the collections without one are those given by hand."""
    archives = {name: hospitals.load(name).archives for name in HOSPITALS}
    by_hand = {name for name, files in archives.items() if not all(file.urls for file in files)}
    assert by_hand == {"all_idb2", "bccd", "chula", "munich", "raabin_krd"}
    for files in archives.values():
        for file in files:
            assert all(
                url.startswith(("https://", "http://dl.raabindata.com")) for url in file.urls
            )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simulated": {"cells": 1}}, "exactly one of archives:, folder: or simulated:"),
        ({"layout": {"image": "(?P<label>"}}, "layout: image: .* is no regular expression"),
        ({"layout": {"mask": "a.png"}}, r"mask needs a group \(\?P<of>"),
        ({"layout": {"constants": {"diagnose": "AML"}}}, "Did you mean 'diagnosis'"),
        ({"layout": {"sizes": ["360"]}}, r"layout.sizes.0: got '360'"),
        ({"layout": {"img": "x"}}, "layout.img: unknown key. Did you mean 'image'"),
        (
            {
                "layout": {
                    "tables": [
                        {"member": "m", "key": "id", "match": "nr", "columns": {"label": "c"}}
                    ]
                }
            },
            "tables, match: 'nr' is no group of image",
        ),
        ({"licens": "x"}, "licens: unknown key. Did you mean 'licence'"),
        (
            {"folder": None, "archives": [{"name": "a.zip", "md6": "0"}]},
            "archives.0.md6: unknown key. Did you mean 'md5'",
        ),
        (
            {"folder": None, "archives": [{"name": "a.zip", "md5": "0"}]},
            "archives.0.md5: got '0'",
        ),
        ({"um_per_px": -1.0}, "um_per_px: got -1.0"),
    ],
)
def test_a_wrong_block_names_the_key(tmp_path, monkeypatch, change, message):
    """One line names hospital and key and, where there is one, the nearest right name."""
    (tmp_path / "data").mkdir()
    text = yaml.safe_dump({"mine": {**BLOCK, **change}})
    (tmp_path / "data/hospitals.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HospitalError, match=rf"hospitals.yaml, mine: .*{message}"):
        hospitals.load("mine")


def write_blocks(folder, **same_as):
    """Write blocks of data/hospitals.yaml that differ in same_as alone."""
    blocks = {name: BLOCK | ({} if of is None else {"same_as": of}) for name, of in same_as.items()}
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/hospitals.yaml").write_text(yaml.safe_dump(blocks), encoding="utf-8")


def test_a_copy_names_the_hospital_that_it_is_the_same_as(tmp_path, monkeypatch):
    """A name that is none, itself or another copy would make two places of one, in silence."""
    monkeypatch.chdir(tmp_path)
    write_blocks(tmp_path, lisbon=None, lisbon224="lisbon", porto=None)
    assert hospitals.load("lisbon224").same_as == "lisbon"
    assert hospitals.load("porto").same_as is None
    for wrong, told in [
        ("lisbonn", r"there is no block 'lisbonn'\. Did you mean 'lisbon'"),
        ("copy", r"it names itself\. Name another block"),
        ("lisbon224", r"'lisbon224' is itself the same as 'lisbon'\. Name 'lisbon' here too"),
    ]:
        write_blocks(tmp_path, lisbon=None, lisbon224="lisbon", copy=wrong)
        with pytest.raises(HospitalError, match=rf"hospitals.yaml, copy, same_as: {told}"):
            hospitals.load("copy")
        assert hospitals.load("lisbon").same_as is None


def test_the_shipped_copies_are_known():
    """One hospital's pictures under two names; the demo's three are three."""
    found = {name: hospitals.load(name).same_as for name in [*HOSPITALS, "demo_east", "demo_west"]}
    assert {name: of for name, of in found.items() if of} == {
        "barcelona224": "barcelona", "bloodmnist": "barcelona", "raabin_krd": "raabin",
    }  # fmt: skip


def test_an_unknown_hospital_gets_the_nearest_name():
    """A misspelt hospital ends with the right spelling."""
    with pytest.raises(HospitalError, match=r"no block .barcelone.\. Did you mean .barcelona."):
        hospitals.load("barcelone")


@pytest.mark.parametrize("name", ["Barcelona", "bar-celona", "bar celona", "2barcelona"])
def test_a_name_that_params_would_refuse_is_refused_before_the_download(name):
    """Small letters and _ only: said at once, not when all is fetched."""
    with pytest.raises(HospitalError, match=rf"hospitals.yaml: got '{name}'; a name is small"):
        hospitals.load(name)


def test_a_hospital_needs_a_source():
    """A block without archives, folder or simulation cannot be fetched."""
    with pytest.raises(ValueError, match="exactly one of"):
        Hospital(title="t", licence="l", citation="c")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            {"image": r"(?P<label>[^/]+)/(?P<patients>P\d+)_\d+\.jpg"},
            r"image: nothing uses the group 'patients'. Did you mean 'patient'\?",
        ),
        (
            {"image": r"(?P<slid>\d)/(?P<label>[^/]+)/\d+\.jpg"},
            r"image: nothing uses the group 'slid'. Did you mean 'slide'\?",
        ),
        (
            {"mask": r"(?P<of>.+)_(?P<label>mask)\.png"},
            "mask: nothing uses the group 'label'.* Known: of",
        ),
        (
            {
                "image": r"(?P<label>[^/]+)/(?P<number>\d+)\.jpg",
                "tables": [
                    {
                        "member": r"(?P<patient>\d+)\.csv", "key": "k", "match": "number",
                        "columns": {"patient": "p"},
                    }
                ],
            },
            "tables, member: nothing uses the group 'patient'",
        ),
        (
            {
                "image": r"(?P<label>[^/]+)/(?P<number>\d+)\.jpg",
                "tables": [
                    {"member": "t", "key": "k", "match": "nummer", "columns": {"patient": "p"}}
                ],
            },
            r"tables, match: 'nummer' is no group of image. Did you mean 'number'\?",
        ),
    ],
)  # fmt: skip
def test_a_group_that_nothing_uses_is_refused(layout, message):
    """A misspelt patient would leave each picture a group of its own."""
    with pytest.raises(ValueError, match=message):
        Hospital.model_validate(BLOCK | {"layout": layout})


def test_a_group_may_be_used_inside_of_its_pattern():
    """A back reference and a condition are uses."""
    again = r"(?P<day>\d+)/(?P<label>[^/]+)/(?P=day)_\d+\.jpg"
    given = r"(?P<open>\()?(?P<label>[^/]+)(?(open)\)|)/[^/]+\.jpg"
    for image in (again, given):
        assert Hospital.model_validate(BLOCK | {"layout": {"image": image}})

"""What the page of maps says: shares beside chance, the hospital most apart, and gaps."""

from stages.evaluation import mixing
from stages.pages import map_sections
from stages.pages.blocks import Folded, Sentence, Table

NAMES = {"pca": "PCA", "umap": "UMAP"}
KINDS = {"features": "frozen features"}


def share(value, chance=0.2):
    ends = {"low": None, "high": None, "interval_reason": "too few groups: 2; 6 are needed"}
    return {"value": value, "chance": chance, "n": 9, "n_groups": 2, **ends}


def block(of_class, of_hospital):
    return {"class": share(of_class), "hospital": share(of_hospital)}


def report():
    space = {"all": block(0.5, 0.75), "by_hospital": {"a": block(0.5, 0.3), "b": block(0.5, 0.9)}}
    return {
        "n_fitted": 12, "n_placed": 9, "left_out": {"features": {"umap": "it is not there"}},
        "mixing": {"features": {"all": space, "pca": space}},
    }  # fmt: skip


def test_numbers_stand_beside_chance_and_what_is_left_out_is_told():
    told = map_sections.tell_mixing(report(), KINDS, NAMES)
    assert "0.500 are of its class (0.200 by chance) and 0.750 of its hospital (0.200)" in told.lead
    (table,) = [one for one in told.blocks if isinstance(one, Table)]
    assert [row[0] for row in table.rows] == [map_sections.NO_MAP, "PCA"]
    assert {len(row) for row in table.rows} == {len(table.headings)} == {len(table.columns)}
    texts = [one.text for one in told.blocks if isinstance(one, Sentence)]
    assert "UMAP is left out: it is not there." in texts
    assert any("no map, no sample and no model is chosen by them" in text for text in texts)


def test_the_hospital_that_keeps_to_itself_is_named():
    told = map_sections.tell_hospitals(report(), KINDS, NAMES)
    assert (
        "frozen features the pictures that keep to themselves the most are those of b" in told.lead
    )
    assert [type(one) for one in told.blocks] == [Table, Folded]


def test_nothing_that_can_be_told_is_said_so():
    empty = {"class": share(None, None), "hospital": share(None, None)}
    for one in empty.values():
        one["reason"] = mixing.TOO_FEW
    space = {"all": empty, "by_hospital": {"a": empty}}
    nothing = report() | {"mixing": {"features": {"all": space}}}
    assert "nothing can be told" in map_sections.tell_mixing(nothing, KINDS, NAMES).lead
    assert (
        "no hospital that could be asked" in map_sections.tell_hospitals(nothing, KINDS, NAMES).lead
    )

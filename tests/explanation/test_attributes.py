"""Attributes: what a table may hold, and what is read off features and off the class."""

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import TableError
from stages.explanation import attributes

TABLE = "img_name,label,shape,path\na.jpg,Basophil,round,x/a.jpg\nb.jpg,Basophil,,x/b.jpg\n"


def write(folder, *texts):
    paths = [folder / f"{number}.csv" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return [str(path) for path in paths]


def test_pictures_are_found_by_the_name_of_their_file(tmp_path):
    told = attributes.read(
        write(tmp_path, TABLE, TABLE.replace("a.jpg", "c.jpg").replace("b.", "d."))
    )
    assert list(told) == ["shape"]
    found = attributes.find(pd.Index(["h/x/c.jpg", "h/z.jpg", "i/a.jpg"]), told)
    assert found["shape"].to_dict() == {"h/x/c.jpg": "round", "i/a.jpg": "round"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,shape\na,b\n", "no column img_name"),
        (TABLE + "a.jpg,,,\n", r"1 pictures twice \(a.jpg\)"),
        ("img_name,n\n" + "".join(f"{i}.jpg,{i}\n" for i in range(13)), "n has more than 12"),
        (TABLE + ",,flat,\n,,flat,\n", "rows without img_name"),
        ("", "is no CSV table"),
        ('img_name,a\n"x,1\n', "is no CSV table"),
        ("img_name,a\nx.jpg,1,2\n", "rows longer than its first line"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, text, told):
    with pytest.raises(TableError, match=told) as caught:
        attributes.read(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(TableError, match=r"no.csv .attributes.tables.* is missing"):
        attributes.read([str(tmp_path / "no.csv")])


def make_cells(n=300, seed=0):
    """Two features: one tells the class, the other the size, which the class does not tell."""
    rng = np.random.default_rng(seed)
    ids = [f"{seed}/{number}" for number in range(n)]
    x = rng.normal(0, 1, (n, 2))
    told = pd.DataFrame(
        {
            "granules": np.where(x[:, 0] > 0, "yes", "no"),
            "size": np.where(x[:, 1] > 0, "big", "small"),
            "whim": rng.choice(["a", "b"], n),
            "same": "one",
        },
        index=ids,
    )
    classes = dict(zip(ids, np.where(x[:, 0] > 0, "neutrophil", "lymphocyte"), strict=True))
    return pd.DataFrame(x, index=ids), told, classes


def test_what_the_class_tells_is_told_apart_from_what_is_seen():
    taught, told, classes = make_cells()
    asked, more, called = make_cells(seed=1)
    content = attributes.read_off(taught, asked, pd.concat([told, more]), classes | called)
    kappas = {
        name: (block["kappa"]["value"], block["kappa_of_class"]["value"])
        for name, block in content.items()
        if "reason" not in block
    }
    assert kappas["granules"] == (pytest.approx(1, abs=0.05), 1)
    assert kappas["size"][0] > 0.9 > 0.2 > abs(kappas["size"][1])
    assert max(map(abs, kappas["whim"])) < 0.2
    assert content["size"]["kappa"]["low"] < kappas["size"][0] < content["size"]["kappa"]["high"]
    assert sum(content["size"]["values"].values()) == content["size"]["n_images"] == 300
    assert content["same"]["reason"] == "fewer than 20 images, or one value throughout"


def test_pictures_of_which_one_attribute_is_not_told_are_left_out_there():
    taught, told, classes = make_cells()
    told.loc[told.index[:290], "size"] = None
    content = attributes.read_off(taught, taught, told, classes)
    assert (content["size"]["n_training"], "reason" in content["size"]) == (10, True)
    assert content["granules"]["n_training"] == 300

"""Images to be divided, and the asking for it, for tests of what decides and counts the parts."""

import pandas as pd
from hypothesis import strategies as st

from stages.core.params import SplitParams
from stages.splits.splitting import assign_parts, plan_hospitals

METHODS = ["grouped", "random", "leave_hospitals_out", "cohort", "official"]
PARTS = {"a": {"A": "train", "B": "test"}, "b": {"A": "train", "V": "valid", "B": "test"}}


def rule(**changes):
    asked = {
        "method": "grouped", "train_hospitals": ["a", "b"], "valid": 0.2, "test": 0.2,
        "folds": 3, "fold": None,
    }  # fmt: skip
    return SplitParams(**(asked | changes))


def place(labels, seed=1, parts=None, **changes):
    """Part and reason of each image, as the stage has them before twins are left out."""
    plans = plan_hospitals(rule(**changes), PARTS if parts is None else parts, {})
    return assign_parts(labels, plans, seed)


def make(n_groups=60, per_group=3, hospitals=("a", "b", "c"), classes=("x", "y", "z")):
    rows = [
        (f"{h}/{g:03d}_{i}", h, classes[(g + i) % len(classes)], f"{h}/{g:03d}")
        for h in hospitals
        for g in range(n_groups)
        for i in range(per_group)
    ]
    return pd.DataFrame(rows, columns=["image_id", "hospital", "label", "group"])


@st.composite
def tables(draw):
    """Any images of three hospitals; the first two, which train, have one at least."""
    row = st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 8),
        st.sampled_from("xyz"),
        st.sampled_from(["A", "A", "B", "V", "Z", None]),
    )
    rows = draw(st.lists(row, max_size=60))
    rows += [("a", 20, "x", "A"), ("b", 20, "x", "A")]
    return pd.DataFrame(
        [(f"{h}/{i}", h, label, f"{h}/g{g}", part) for i, (h, g, label, part) in enumerate(rows)],
        columns=["image_id", "hospital", "label", "group", "official_part"],
    )

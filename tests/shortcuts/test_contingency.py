import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association

from stages.shortcuts import contingency

# FACTS of the Barcelona collection: images by prefix, and the few of another size than 360 x 363.

MERGED = pd.DataFrame(
    {
        "barcelona": [1218, 1633, 3117, 1551, 1214, 1015, 1420, 1137, 2348, 592, 1646],
        "munich": [79, 109, 424, 78, 3937, 15, 1789, 42, 0, 70, 8484],
        "raabin": [301, 0, 1066, 0, 3609, 0, 795, 0, 0, 0, 0],
    },
    index=["BA", "BNE", "EO", "ERB", "LY", "MMY", "MO", "MY", "PLT", "PMY", "SNE"],
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=3, max_size=3), min_size=2, max_size=5))
def test_cramers_v_is_that_of_scipy(table):
    """The plain value; the corrected one is never above it."""
    plain, corrected = contingency.cramers_v(table)
    assert plain == pytest.approx(association(np.array(table), method="cramer"), abs=1e-9)
    assert 0 <= corrected <= plain + 1e-12


def test_corrected_cramers_v_by_hand():
    """Chi-square 6.6516 of 30 images in a 2 x 2 table; independence and identity are 0 and 1."""
    plain, corrected = contingency.cramers_v([[10, 5], [3, 12]])
    phi2 = (10 * 12 - 5 * 3) ** 2 / (15 * 15 * 13 * 17)
    assert plain == pytest.approx(phi2**0.5)
    assert corrected == pytest.approx(((phi2 - 1 / 29) / (2 - 1 / 29 - 1)) ** 0.5)
    assert contingency.cramers_v([[10, 20], [20, 40]]) == (0.0, 0.0)
    assert contingency.cramers_v([[30, 0], [0, 30]]) == pytest.approx((1.0, 1.0))
    assert contingency.cramers_v([[30, 0], [0, 30], [0, 0]]) == pytest.approx((1.0, 1.0))
    assert contingency.cramers_v([[30, 20]]) == (None, None)


def test_the_correction_takes_the_bias_away():
    """Of independent draws the plain value is well above 0 on average, the corrected one is not."""
    rng = np.random.default_rng(0)
    pairs = [contingency.cramers_v(rng.multinomial(60, np.full(20, 0.05)).reshape(4, 5))
             for _ in range(300)]  # fmt: skip
    plain, corrected = np.mean(pairs, axis=0)
    assert plain > 0.22
    assert corrected < 0.08


def test_the_merged_index_is_confounded():
    """Three collections: the hospital alone is right for 40 %, and platelets have one origin."""
    content = contingency.describe_contingency(MERGED)
    alone = content["hospital_alone"]
    assert alone["accuracy"] == pytest.approx((3117 + 8484 + 3609) / 37689)
    assert alone["baseline"]["accuracy"] == pytest.approx(10130 / 37689)
    recalls = [3117 / 4607, 8484 / 10130, 3609 / 8760]
    assert alone["balanced_accuracy"] == pytest.approx(sum(recalls) / 11)
    assert alone["answers"] == {"barcelona": "EO", "munich": "SNE", "raabin": "LY"}
    assert content["classes_of_one_hospital"] == {"PLT": "barcelona"}
    assert content["cramers_v"]["corrected"] == pytest.approx(
        association(MERGED.to_numpy(), method="cramer"), abs=1e-3
    )
    assert content["class_by_hospital"]["SNE"] == {"barcelona": 1646, "munich": 8484, "raabin": 0}


def test_one_hospital_has_no_contingency():
    """Counts stay; what needs a second hospital is None, each with its reason."""
    content = contingency.describe_contingency(MERGED[["munich"]])
    for name in ("cramers_v", "classes_of_one_hospital", "hospital_alone"):
        assert content[name] is None
        assert content[f"{name}_reason"] == "one hospital trains"
    assert content["class_by_hospital"]["MY"] == {"munich": 42}


def test_counts_are_listed_with_their_zeros():
    """One row for each hospital and class."""
    rows = contingency.list_counts(MERGED)
    assert len(rows) == 33
    assert rows["n"].sum() == 37689
    one = rows[(rows["hospital"] == "raabin") & (rows["class"] == "PLT")]
    assert one["n"].tolist() == [0]


# -- the whole -----------------------------------------------------------------------------------

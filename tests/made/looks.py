"""Made images and what is measured of them, for the tests of the simple models."""

import numpy as np
import pandas as pd

PREFIXES = {"BA": 1218, "EO": 3117, "ERB": 1551, "MMY": 1015, "MY": 1137, "PMY": 592, "IG": 151,
            "LY": 1214, "MO": 1420, "BNE": 1633, "SNE": 1646, "NEUTROPHIL": 50,
            "PLATELET": 2348}  # fmt: skip
ODD_SIZES = {("BA", 366, 369): 50, ("EO", 366, 369): 50, ("LY", 366, 369): 50, ("MO", 366, 369): 50,
             ("NEUTROPHIL", 366, 369): 50, ("IG", 360, 360): 147, ("ERB", 360, 360): 51,
             ("IG", 360, 361): 2, ("IG", 359, 360): 1, ("IG", 361, 360): 1,
             ("ERB", 362, 360): 1}  # fmt: skip
# The merged index of three hospitals.
FAMILIES = (("published", "colour", 6), ("published", "size", 1), ("seen", "background", 24))


def barcelona_sizes() -> pd.DataFrame:
    """One row for each of the 17,092 images: prefix, width and height as published."""
    rows = [(prefix, w, h) for (prefix, w, h), n in ODD_SIZES.items() for _ in range(n)]
    odd = pd.Series([prefix for prefix, _, _ in rows]).value_counts()
    rows += [(p, 360, 363) for p, n in PREFIXES.items() for _ in range(n - odd.get(p, 0))]
    table = pd.DataFrame(rows, columns=["label", "width", "height"])
    table["image_id"] = [f"barcelona/{p}_{n}.jpg" for n, p in enumerate(table["label"])]
    return table.assign(hospital="barcelona", group=table["image_id"])


def make_cohort(
    seed: int,
    hospital: str = "h",
    n_groups: int = 15,
    per_group: int = 16,
    n_classes: int = 4,
    effect: float = 1.0,
    shortcut: float = 0.0,
    pure: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images whose measures follow their patient; with a shortcut also their class."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), per_group)
    codes = (
        groups % n_classes if pure else np.tile(np.arange(n_classes), len(groups))[: len(groups)]
    )
    n = len(groups)
    images = pd.DataFrame(
        {
            "image_id": [f"{hospital}/{number:05d}" for number in rng.permutation(n)],
            "hospital": hospital,
            "label": [f"class{code}" for code in codes],
            "group": [f"{hospital}/p{group}" for group in groups],
        }
    )
    measures = {}
    for level, family, n_measures in FAMILIES:
        tint = rng.normal(0, 1, (n_classes, n_measures)) * shortcut
        patients = rng.normal(0, effect, (n_groups, n_measures))
        values = rng.normal(0, 1, (n, n_measures)) + patients[groups] + tint[codes]
        values = np.full_like(values, 360) if family == "size" else values
        for place in range(n_measures):
            measures[f"{level}/{family}/{place:02d}"] = values[:, place]
    return images, pd.DataFrame(measures, index=images["image_id"])


def plant_marker(
    images: pd.DataFrame,
    measures: pd.DataFrame,
    family: str,
    share: float,
    seed: int,
    by_patient: bool = False,
) -> pd.DataFrame:
    """Mark a share of class0, or all its images of a share of the patients: `family` tells it.

    A marked image has another colour in one square of the background, or in the corners.
    """
    rng = np.random.default_rng([seed, 1])
    table = images.set_index("image_id").loc[measures.index]
    is_own = table["label"] == "class0"
    bearer = table["group"] if by_patient else table.index.to_series()
    lots = rng.permutation(bearer[is_own].unique())
    is_marked = is_own & bearer.isin(lots[: round(share * len(lots))])
    planted = measures.copy()
    column = f"seen/{family}/00"
    if column not in planted:
        planted[column] = rng.normal(0, 1, len(planted))
    planted[column] += 8.0 * is_marked.to_numpy()
    return planted

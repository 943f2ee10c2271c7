"""Tables of two small hospitals that are as expected, and defects to plant in them."""

from dataclasses import dataclass

import pandas as pd

from stages.core import tables
from stages.core.params import ExpectationsParams
from stages.validation import expectations

IDS = ["north/a/1.png", "north/a/2.png", "south/b/1.png", "south/b/2.png"]
HOSPITALS = ["north", "north", "south", "south"]
GOOD_LIMITS = ExpectationsParams(max_flagged=0.5, min_per_class=1, max_drift=0.25)


def good_tables() -> dict[str, pd.DataFrame]:
    """Two hospitals of two pictures; the last picture is dropped, the third left out as a twin."""
    common = {"image_id": IDS, "hospital": HOSPITALS}
    paths = [name.split("/", 1)[1] for name in IDS]
    images = pd.DataFrame(
        {
            **common,
            "path": paths,
            "published_label": ["a", "a", "b", None],
            "patient": ["p1", None, "p1", None],
            "slide": ["s1", None, None, None],
            "field": [None] * 4,
            "diagnosis": [None] * 4,
            "official_part": [None] * 4,
            "official_side": [None] * 4,
            "simulated": [False] * 4,
            "place": HOSPITALS,
            "expert_1": [None] * 4,
            "expert_2": [None] * 4,
            "sha256": [digit * 64 for digit in "0123"],
            "pixel_sha256": [digit * 64 for digit in "4564"],
            "width": [64, 64, 64, 64],
            "height": [64, 64, 64, 64],
            "format": ["png"] * 4,
            "mode": ["RGB"] * 4,
            "twin_group": IDS,
            "warnings": [[], [], [], ["near_twin"]],
        }
    )
    rejected = pd.DataFrame(
        {
            "image_id": ["north/a/3.png", "south/b/3.png"],
            "hospital": ["north", "south"],
            "path": ["a/3.png", "b/3.png"],
            "published_label": ["a", None],
            "patient": ["p1", None],
            "slide": None,
            "pixel_sha256": None,
            "reason": ["empty", "blank"],
            "detail": ["no bytes", "one colour"],
        }
    )
    labels = pd.DataFrame(
        {
            **common,
            "published_label": images["published_label"],
            "cell_type": ["monocyte", "monocyte", "basophil", None],
            "label": ["monocyte", "monocyte", "basophil", None],
            "patient": images["patient"],
            "slide": images["slide"],
            "group": IDS,
            "unit": ["patient", "image", "patient", "image"],
            "official_part": [None] * 4,
            "official_side": [None] * 4,
            "keep": [True, True, True, False],
            "drop_reason": [None, None, None, "no published label"],
        }
    )
    split = pd.DataFrame(
        {
            "image_id": IDS[:3],
            "hospital": HOSPITALS[:3],
            "label": ["monocyte", "monocyte", "basophil"],
            "group": IDS[:3],
            "twin_group": [IDS[0], IDS[1], IDS[0]],
            "part": ["train", "test", "left_out"],
            "left_out_reason": [None, None, f"twin of {IDS[0]} in train"],
        }
    )
    return {
        "images": images,
        "rejected": rejected,
        "quality": good_quality(),
        "labels": labels,
        "split": split,
    }


def good_quality() -> pd.DataFrame:
    """Measures of the four pictures; no cell was found in the second."""
    of_cell = {
        "centre_x": 30.0,
        "centre_y": 31.0,
        "cell_radius": 20.0,
        "nucleus_radius": 12.0,
        "nucleus_share": 0.36,
        "nucleus_lobes": 2.0,
        "nucleus_solidity": 0.9,
        "nucleus_od": 0.8,
        "cytoplasm_od_r": 0.2,
        "cytoplasm_od_g": 0.2,
        "cytoplasm_od_b": 0.1,
        "mask_iou": 0.9,
        "tenengrad_cell": 90.0,
        "haze": 0.1,
        "red_cell_diameter": 40.0,
    }
    columns: dict[str, object] = {"image_id": IDS, "hospital": HOSPITALS}
    for name in expectations.columns_to_check(tables.QUALITY)[2:]:
        if name in of_cell:
            columns[name] = [of_cell[name], None, of_cell[name], of_cell[name]]
        else:
            columns[name] = [0.5] * 4
    columns["jpeg_quality"] = [75, None, 75, 75]
    columns["has_cell"] = [True, False, True, True]
    columns["flags"] = [[], ["no_cell"], [], []]
    return pd.DataFrame(columns)


def good_balance() -> dict[str, object]:
    """What metrics/split.json says of the good tables: half of north's images were to test."""
    half = {"asked": 0.5, "tolerance": 0.01}
    return {"sizes": {"north": {"train": half, "test": half}}, "absent": []}


@dataclass(frozen=True)
class Defect:
    """A value that one cell must not have: given, or taken over from the same column of a row."""

    column: str
    value: object = None
    row: int = 0
    taken_from: int | None = None

    @property
    def rows(self) -> list[int]:
        """Rows that then break an expectation."""
        return [self.row] if self.taken_from is None else sorted([self.row, self.taken_from])

    def plant(self, frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[self.column].astype(object).tolist()
        values[self.row] = self.value if self.taken_from is None else values[self.taken_from]
        kind = frame[self.column].dtype if self.value is not None else object
        kind = kind if kind in ("float64", "int64", "bool") else object
        return frame.assign(**{self.column: pd.Series(values, index=frame.index, dtype=kind)})

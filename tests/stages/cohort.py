"""A small made cohort as tables, for tests of the stages that need no pictures."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import yaml

from stages.core.tables import IMAGES, QUALITY, REJECTED, SPLIT
from stages.datasets import contents
from stages.datasets.hospitals import Hospital
from stages.labels import reviews
from tests.made.shipped import demo_params

ROOT = Path(__file__).resolve().parents[2]
# Without TensorFlow.
KNN_RECIPE = {"kind": "classifier", "vectors": "grey", "classifier": "knn", "size": 32}
CODES = {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "monocyte"}


def write_project(folder: Path, hospitals: tuple[str, ...] = ("a", "b", "c"), **changes) -> None:
    """Write params.yaml, label maps and taxonomies of a project into `folder`."""
    content = demo_params() | {"hospitals": list(hospitals)}
    content["split"] |= {"train_hospitals": list(hospitals[:-1]) or list(hospitals)}
    content |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "data/labels").mkdir(parents=True, exist_ok=True)
    text = (ROOT / "data/taxonomies.csv").read_text(encoding="utf-8")
    (folder / "data/taxonomies.csv").write_text(text, encoding="utf-8")
    write_reviews(folder)
    for hospital in hospitals:
        write_label_map(folder, hospital, CODES)


def write_reviews(folder: Path, *lines: str) -> None:
    """Write the table of reviews with these lines; without any it is as shipped."""
    text = "".join(f"{line}\n" for line in [",".join(reviews.COLUMNS), *lines])
    (folder / "data/reviews.csv").write_text(text, encoding="utf-8")


def write_label_map(folder: Path, hospital: str, codes: dict[str, str], expected: str = "") -> None:
    lines = ["published_label,cell_type,reason,expected,source"]
    lines += [f"{code},{cell_type},,{expected},made" for code, cell_type in codes.items()]
    (folder / f"data/labels/{hospital}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def picture_rows(hospital: str, n_patients: int = 12, per_patient: int = 6) -> pd.DataFrame:
    """Rows of tables.IMAGES: every patient has every label twice; no twins."""
    rows = []
    for patient in range(n_patients):
        for number in range(per_patient):
            image_id = f"{hospital}/p{patient:02d}/{number}.jpg"
            code = list(CODES)[number % len(CODES)]
            rows.append(
                {
                    "image_id": image_id, "hospital": hospital, "path": image_id,
                    "published_label": code, "patient": f"p{patient:02d}", "slide": None,
                    "field": None, "diagnosis": None, "official_part": None,
                    "official_side": None, "simulated": False,
                    "place": hospital, "expert_1": None, "expert_2": None, "sha256": "0" * 64,
                    "pixel_sha256": hash_of(image_id).hex(), "width": 360, "height": 360,
                    "format": "jpeg",
                    "mode": "RGB", "bytes": b"x", "mask": None,
                    "phash": hash_of(f"{hospital}{patient}{number}"),
                    "twin_group": image_id, "warnings": [],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def write_contents(hospital: str, facts: dict[str, str] | None = None, **layout: object) -> Path:
    """Write what download says of data/raw/<hospital>; return that folder."""
    block = {"title": "T", "licence": "L", "citation": "C", "folder": ".", "layout": layout}
    block |= facts or {}
    folder = Path("data/raw") / hospital
    folder.mkdir(parents=True, exist_ok=True)
    contents.write(Hospital.model_validate(block), folder)
    return folder


def hash_of(text: str) -> bytes:
    """32 bytes that differ in about half of their bits from those of any other text."""
    import hashlib

    return hashlib.sha256(text.encode()).digest()


def quality_rows(image_ids: Iterable[str]) -> pd.DataFrame:
    """Rows of tables.QUALITY: a cell somewhere in each picture, but in every fifth none."""
    rows = []
    for number, image_id in enumerate(image_ids):
        row = {field.name: None if field.nullable else 200.0 for field in QUALITY.schema}
        row |= {"image_id": image_id, "hospital": image_id.split("/")[0], "flags": []}
        row |= {"has_cell": number % 5 < 4, "white_r": 180.0 + number}
        if row["has_cell"]:
            row |= {"centre_x": 15.0, "centre_y": 16.0 + number % 2, "cell_radius": 8.0}
        rows.append(row)
    return pd.DataFrame(rows)


def write_pictures(pictures: pd.DataFrame) -> None:
    """Write one IMAGES and one empty REJECTED table for each hospital of `pictures`."""
    for hospital, own in pictures.groupby("hospital"):
        IMAGES.write(own, str(hospital))
        REJECTED.write(pd.DataFrame(columns=REJECTED.schema.names), str(hospital))


def write_split(rows: pd.DataFrame, hospitals: Iterable[str] = ()) -> None:
    """Write one SPLIT table for each hospital of `rows`; empty ones for the others named."""
    for hospital in {*rows["hospital"], *hospitals}:
        SPLIT.write(rows.loc[rows["hospital"] == hospital, SPLIT.schema.names], hospital)

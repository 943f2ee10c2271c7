"""A small made cohort as tables, for tests of the stages that need no pictures."""

from pathlib import Path

import pandas as pd
import yaml

from stages.core.tables import IMAGES, REJECTED

ROOT = Path(__file__).resolve().parents[2]
HEAD_RECIPE = {
    "kind": "head", "hidden": [4], "dropout": 0.1, "l2": 0.0, "learning_rate": 0.01,
    "epochs": 3, "batch": 8, "patience": 2, "class_weights": "balanced",
}  # fmt: skip
KNN_RECIPE = {"kind": "classifier", "vectors": "features", "classifier": "knn"}
CODES = {"SNE": "segmented_neutrophil", "LY": "lymphocyte", "MO": "monocyte"}


def write_project(folder: Path, hospitals: tuple[str, ...] = ("a", "b", "c"), **changes) -> None:
    """Write params.yaml, label maps and taxonomies of a project into `folder`."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content |= {"hospitals": list(hospitals), "taxonomy": "cells11", "partial": []}
    content["split"] |= {"train_hospitals": list(hospitals[:-1]) or list(hospitals)}
    content |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "data/labels").mkdir(parents=True, exist_ok=True)
    text = (ROOT / "data/taxonomies.csv").read_text(encoding="utf-8")
    (folder / "data/taxonomies.csv").write_text(text, encoding="utf-8")
    for hospital in hospitals:
        write_label_map(folder, hospital, CODES)


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
                    "field": None, "diagnosis": None, "official_part": None, "expert_1": None,
                    "expert_2": None, "sha256": "0" * 64,
                    "pixel_sha256": hash_of(image_id).hex(), "width": 360, "height": 360,
                    "format": "jpeg",
                    "mode": "RGB", "bytes": b"x", "mask": None,
                    "phash": hash_of(f"{hospital}{patient}{number}"),
                    "twin_group": image_id, "warnings": [],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def hash_of(text: str) -> bytes:
    """32 bytes that differ in about half of their bits from those of any other text."""
    import hashlib

    return hashlib.sha256(text.encode()).digest()


def write_pictures(pictures: pd.DataFrame) -> None:
    """Write one IMAGES and one empty REJECTED table for each hospital of `pictures`."""
    for hospital, own in pictures.groupby("hospital"):
        IMAGES.write(own, str(hospital))
        REJECTED.write(pd.DataFrame(columns=REJECTED.schema.names), str(hospital))

"""colorimetry: compare the colours of hospitals and classes. quality, split -> metrics.

Reads tables alone, never pictures: an added hospital costs its own stage quality.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import params
from stages.core.errors import run_stage
from stages.core.params import Params
from stages.core.store import write_bytes, write_csv, write_metrics
from stages.core.tables import QUALITY, SPLIT
from stages.images import colour_similarity, contact_sheets, drift, luminance, mean_cells
from stages.images.mean_cells import MeanCell
from stages.images.stains import STAINS
from stages.pages import colour_sections, drawing
from stages.pages.blocks import Section
from stages.pages.colour_sections import Seen
from stages.pages.words import count

FOLDER = Path("metrics/colorimetry")
COLUMNS = [
    "image_id", "hospital", *colour_similarity.MEASURES, "sharpness", "nucleus_radius",
    "nucleus_share", "nucleus_blue", "nucleus_eosin", "cytoplasm_blue", "cytoplasm_eosin",
    "stained_around", "n_cells", "blue_stain", "eosin_stain",
]  # fmt: skip
QUANTILES = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
SHOWN = 2  # times a mean cell is enlarged
TITLE = "Colours of hospitals and classes"
PURPOSE = (
    "How the pictures of the hospitals differ before any model sees them: colour, sharpness, "
    "stain, and the mean cell of each class. Of all pictures with a class, whatever they are for."
)

log = logging.getLogger(__name__)


def main() -> None:
    """Write metrics/colorimetry.json, and tables, a sheet and a page in metrics/colorimetry."""
    rule = params.load("hospitals", "quality", "split")
    measured, cells = _read(rule.hospitals)
    # Of the hospitals that train the one with most pictures tells best what is like it.
    reference = rule.quality.similar_to or max(rule.split.train_hospitals, key=QUALITY.count_rows)
    theirs = QUALITY.read(reference, list(colour_similarity.MEASURES))
    measured = measured.join(colour_similarity.measure_distances(measured, theirs))
    distances = drift.compare(measured)
    stands_out = _list_outliers(measured)
    unlike = _list_unlike(measured, rule.quality.similar_within)
    metrics = _summarise(measured, cells, distances, rule, reference)
    write_metrics("colorimetry", metrics)
    write_csv(FOLDER / "drift.csv", _list_drift(metrics))
    write_csv(FOLDER / "outliers.csv", stands_out)
    write_csv(FOLDER / "unlike.csv", unlike if rule.quality.similar != "keep" else unlike.head(0))
    write_bytes(FOLDER / "mean_cells.png", _draw_sheet(cells, metrics["classes"]))
    sections = _tell(rule, metrics, cells, distances, stands_out, unlike)
    page = drawing.render("report.html.jinja", title=TITLE, purpose=PURPOSE, sections=sections)
    write_bytes(FOLDER / "index.html", page.encode())
    log.info(
        "colorimetry: %d pictures of %d hospitals; %d stand out in luminance, %d are unlike %s",
        len(measured), len(rule.hospitals), len(stands_out), len(unlike), reference,
    )  # fmt: skip


def _read(hospitals: Sequence[str]) -> tuple[pd.DataFrame, dict[str, dict[str, MeanCell]]]:
    """Return the measures of all pictures with a class, and by hospital and class the mean cell."""
    frames, cells = [], {}
    for hospital in hospitals:
        split = SPLIT.read(hospital, ["image_id", "label", "part"])
        own = split.merge(QUALITY.read(hospital, COLUMNS), on="image_id", validate="one_to_one")
        frames.append(own)
        labels = dict(zip(own["image_id"], own["label"], strict=True))
        cells[hospital] = mean_cells.average(QUALITY.stream(hospital, mean_cells.COLUMNS), labels)
    measured = pd.concat(frames, ignore_index=True)
    return measured.join(luminance.judge(measured)), cells


def _list_outliers(measured: pd.DataFrame) -> pd.DataFrame:
    columns = ["image_id", "hospital", "label", "luminance", "z", "side", "reason"]
    found = measured.loc[measured["side"].notna(), columns]
    order = found["z"].abs().sort_values(ascending=False, kind="stable").index
    return found.loc[order]


def _list_unlike(measured: pd.DataFrame, within: float) -> pd.DataFrame:
    columns = ["image_id", "hospital", "label", "part", "distance", "measure"]
    found = measured.loc[measured["distance"] > within, columns]
    return found.sort_values("distance", ascending=False, kind="stable")


def _summarise(
    measured: pd.DataFrame,
    cells: Mapping[str, Mapping[str, MeanCell]],
    distances: pd.DataFrame,
    rule: Params,
    reference: str,
) -> dict[str, Any]:
    """Return the content of metrics/colorimetry.json."""
    within = rule.quality.similar_within
    by_hospital = {}
    for hospital in rule.hospitals:
        own = measured[measured["hospital"] == hospital]
        by_hospital[hospital] = {
            **_describe(own, within),
            "stains": _mean_stains(own),
            "drift": _mean_drift(distances, hospital, rule.split.train_hospitals),
            "by_class": {
                str(label): _describe(ours, within) | _profile(cells[hospital].get(str(label)))
                for label, ours in own.groupby("label")
            },
        }
    choice = {"reference": reference, "choice": rule.quality.similar, "within": within}
    return {
        "n_images": len(measured),
        "classes": sorted(measured["label"].unique()),
        "similar": choice | _count_similar(measured, within),
        "by_hospital": by_hospital,
        "distances": _pair(distances),
    }


def _describe(own: pd.DataFrame, within: float) -> dict[str, Any]:
    values = own["luminance"]
    is_dark = own["side"] == luminance.DARK
    dark = own.loc[is_dark, "reason"]
    return {
        "n_images": len(own),
        "luminance": {name: float(values.quantile(at)) for name, at in QUANTILES.items()},
        "n_dark": int(is_dark.sum()),
        "n_dark_by_reason": {name: int((dark == name).sum()) for name in luminance.REASONS},
        "n_bright": int((own["side"] == luminance.BRIGHT).sum()),
        "similar": _count_similar(own, within),
    }


def _count_similar(own: pd.DataFrame, within: float) -> dict[str, Any]:
    return {
        "n": len(own),
        "n_similar": int((own["distance"] <= within).sum()),
        "median_distance": float(own["distance"].median()),
    }


def _mean_stains(own: pd.DataFrame) -> dict[str, Any]:
    """Return the mean of the pictures' own stains; None where no picture tells them."""
    told = own[own["blue_stain"].notna()]
    means = {
        name: np.stack(list(told[f"{name}_stain"])).mean(axis=0) if len(told) else None
        for name in ("blue", "eosin")
    }
    return {"n": len(told), **means}


def _mean_drift(distances: pd.DataFrame, hospital: str, training: Sequence[str]) -> dict[str, Any]:
    """Return the mean distance from the hospitals that train; None where there is none."""
    others = [name for name in training if name != hospital]
    pairs = distances[
        (distances["hospital"].eq(hospital) & distances["other"].isin(others))
        | (distances["other"].eq(hospital) & distances["hospital"].isin(others))
    ]
    by_measure = pairs.groupby("measure", sort=False)["distance"].mean()
    return {"mean": by_measure.mean(), "by_measure": by_measure.to_dict()}


def _pair(distances: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the mean distance of each pair of hospitals over the measures."""
    means = distances.groupby(["hospital", "other"])["distance"].mean()
    return {
        str(name): own.droplevel("hospital").to_dict() for name, own in means.groupby("hospital")
    }


def _list_drift(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Return how far each hospital lies from those that train, as plot data."""
    return pd.DataFrame(
        [
            (hospital, measure, distance)
            for hospital, own in metrics["by_hospital"].items()
            for measure, distance in own["drift"]["by_measure"].items()
        ],
        columns=["hospital", "measure", "distance"],
    )


def _profile(cell: MeanCell | None) -> dict[str, Any]:
    if cell is None or cell.profile is None:
        return {"n_cells": cell.n if cell else 0, "profile": None}
    return {"n_cells": cell.n, "profile": dict(zip(STAINS, cell.profile.tolist(), strict=True))}


def _draw_sheet(cells: Mapping[str, Mapping[str, MeanCell]], classes: Sequence[str]) -> bytes:
    """Return the mean cells as a contact sheet, a row for each hospital."""
    tiles = []
    for hospital, own in cells.items():
        for label in classes:
            cell = own.get(label)
            lines = [hospital, label, count(cell.n, "cells") if cell else "none"]
            tiles.append(contact_sheets.caption(cell.picture if cell else None, lines))
    return contact_sheets.encode_sheet(tiles, len(classes))


def _tell(
    rule: Params,
    metrics: Mapping[str, Any],
    cells: Mapping[str, Mapping[str, MeanCell]],
    distances: pd.DataFrame,
    stands_out: pd.DataFrame,
    unlike: pd.DataFrame,
) -> list[Section]:
    """Return the sections of the page."""
    colours, sharpness = (
        {name: pd.read_csv(f"metrics/quality/{name}/{plot}.csv") for name in rule.hospitals}
        for plot in ("colour", "sharpness")
    )
    seen = {
        hospital: {
            label: Seen(
                cell.n,
                drawing.embed(cell.picture.repeat(SHOWN, axis=0).repeat(SHOWN, axis=1)),
                cell.profile,
            )
            for label, cell in own.items()
        }
        for hospital, own in cells.items()
    }
    classes = metrics["classes"]
    told = {
        ("colours", "Colours and sharpness"): colour_sections.compare_colours(colours, sharpness),
        ("cells", "Mean cells"): colour_sections.show_mean_cells(seen, classes),
        ("profiles", "Stains"): colour_sections.show_profiles(seen, classes, metrics),
        ("luminance", "Luminance"): colour_sections.judge_luminance(metrics, stands_out),
        ("drift", "From hospital to hospital"): colour_sections.compare_hospitals(
            metrics, distances
        ),
        ("similar", "Like a reference hospital"): colour_sections.compare_with_reference(
            metrics, unlike
        ),
    }
    return [Section(name, title, one) for (name, title), one in told.items()]


if __name__ == "__main__":
    run_stage(main)

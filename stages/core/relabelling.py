"""What another taxonomy, or another version of a label map, changes: image by image, and in scores.

A scheme is one column of classes. ``before`` and ``after`` name the two that are compared.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import HospitalError, did_you_mean, name_some
from stages.core.taxonomy import Taxonomy

SCHEMES = ("before", "after")
CHANGE = ["hospital", "published_label", "before", "after"]
NONE = "none"


def are_maps(before: str, after: str) -> bool:
    """Tell whether two names are of label maps, ``[REVISION:]path.csv``, and not of taxonomies.

    Raises
    ------
    HospitalError
        One is a map and the other a taxonomy.
    """
    kinds = [":" in name or name.endswith(".csv") for name in (before, after)]
    if kinds[0] != kinds[1]:
        map_name, other = (before, after) if kinds[0] else (after, before)
        raise HospitalError(
            f"{map_name!r} is a label map and {other!r} is none. Compare two taxonomies, or two "
            "versions of one label map: [REVISION:]data/labels/<hospital>.csv."
        )
    return kinds[0]


def name_hospital(before: str, after: str, hospitals: Sequence[str]) -> str:
    """Return the hospital whose label map both names are versions of: the name of the file.

    Raises
    ------
    HospitalError
        They are of two hospitals, or of one that is not in the experiment.
    """
    first, second = (Path(name.rpartition(":")[2]).stem for name in (before, after))
    if first != second:
        raise HospitalError(
            f"{before} and {after} are label maps of two hospitals, {first!r} and {second!r}. "
            "Compare two versions of one."
        )
    if first not in hospitals:
        hint = did_you_mean(first, hospitals)
        raise HospitalError(
            f"{before} is the label map of {first!r}, which is not in hospitals of params.yaml."
            f"{hint} Known: {', '.join(hospitals)}."
        )
    return first


def list_changes(images: pd.DataFrame) -> pd.DataFrame:
    """List the images whose class differs between two schemes.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``hospital``, ``published_label``, ``before`` and ``after``; the last
        three may be empty, a class where the image is in none.

    Returns
    -------
    pandas.DataFrame, shape (n_changed, 5)
        These columns, sorted by image_id. To come into a class, or to leave one, is a change.
    """
    before, after = (images[name].fillna("") for name in SCHEMES)
    changed = images.loc[before != after, ["image_id", *CHANGE]]
    return changed.sort_values("image_id", ignore_index=True)


def translate(source: Taxonomy, target: Taxonomy, images: pd.DataFrame) -> dict[str, str]:
    """Say what each class that a model answers is in another taxonomy.

    Parameters
    ----------
    source : Taxonomy
        The model's.
    target : Taxonomy
        The other one.
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs the column ``source.by``: the cell types, or diagnoses, that occur.

    Returns
    -------
    dict of str to str
        Only classes of which all cell types that occur (all at all, where none does) are in one
        class of `target`: of an answer "neutrophil" nobody can tell whether "band" or "segmented"
        was meant. Between a taxonomy by cell type and one by diagnosis there is no translation.
    """
    if source.by != target.by:
        return {}
    occurring = set(images[source.by].dropna())
    found: dict[str, str] = {}
    for label in source.classes:
        values = [value for value, own in source.class_of.items() if own == label]
        possible = [value for value in values if value in occurring] or values
        others = {target.class_of.get(value) for value in possible}
        if len(others) == 1 and (other := others.pop()) is not None:
            found[label] = other
    return found


def rescore(
    images: pd.DataFrame,
    predicted: "pd.Series[str]",
    translations: Mapping[str, Mapping[str, str]],
    describe_share: Callable[[int, int], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Score stored predictions by two schemes, with nothing trained anew.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``before`` and ``after``, the true class by each scheme; empty where it is in none.
    predicted : pandas.Series of str, shape (n_images,)
        The model's answer, on the same index.
    translations : mapping of str to mapping
        For ``before`` and ``after``, what each answer is there; one that is not listed is
        undetermined.
    describe_share : callable
        Hits and n to a share with its interval, as ``intervals.describe_share``.

    Returns
    -------
    list of dict
        Four: by each scheme on the images that ``both`` keep, then on its ``own``. Each has
        ``images``, ``scheme``, ``accuracy`` (of the images whose answer is determined; on those of
        both, by both) and ``n_undetermined``, the other images.
    """
    truth = {name: images[name] for name in SCHEMES}
    answer = {name: predicted.map(dict(translations[name])) for name in SCHEMES}
    kept = {name: truth[name].notna() for name in SCHEMES}
    told = {name: answer[name].notna() for name in SCHEMES}
    kept_by_both, told_by_both = (one["before"] & one["after"] for one in (kept, told))
    asked = [("both", name, kept_by_both, told_by_both) for name in SCHEMES]
    asked += [("own", name, kept[name], told[name]) for name in SCHEMES]
    rows = []
    for which, name, is_kept, is_told in asked:
        scored = is_kept & is_told
        hits = truth[name][scored] == answer[name][scored]
        rows.append(
            {
                "images": which,
                "scheme": name,
                "accuracy": describe_share(int(hits.sum()), int(scored.sum())),
                "n_undetermined": int((is_kept & ~is_told).sum()),
            }
        )
    return rows


def explain_unscored(predicted: "pd.Series[str]", source: Taxonomy) -> str | None:
    """Say why stored predictions cannot be scored; None where they can."""
    strange = sorted(set(predicted) - set(source.classes))
    if strange:
        return (
            f"data/predictions.parquet is of another taxonomy than {source.name} of params.yaml: "
            f"it holds {name_some(strange)}. Run 'uv run dvc repro' for scores."
        )
    return None if len(predicted) else "data/predictions.parquet holds none of these images."


def lay_out_changes(before: str, after: str, changes: pd.DataFrame, n_images: int) -> list[str]:
    """Lay out how many images change class, by hospital and published label.

    Parameters
    ----------
    before, after : str
        What the schemes are called.
    changes : pandas.DataFrame
        As `list_changes` gives it.
    n_images : int
        Of which they are.

    Returns
    -------
    list of str
        Lines; the table is at most 100 columns wide, and long names end in two dots.
    """
    lost, won = int(changes["after"].isna().sum()), int(changes["before"].isna().sum())
    lines = [
        f"before: {before}",
        f"after:  {after}",
        f"{len(changes)} of {n_images} images change class; {lost} of them lose theirs, "
        f"{won} had none.",
    ]
    if changes.empty:
        return lines
    counts = changes[CHANGE].fillna(NONE).value_counts(sort=False).sort_index()
    rows = [[*map(str, key), str(n)] for key, n in counts.items()]
    heading = ["hospital", "published label", "before", "after", "images"]
    return [*lines, "", *_lay_out_table(heading, rows, (15, 26, 22, 22, 7), "<<<<>")]


def lay_out_scores(scores: Sequence[Mapping[str, Any]], simulated: Sequence[str]) -> list[str]:
    """Lay out what `rescore` returned, as lines of at most 100 columns.

    Parameters
    ----------
    scores : sequence of mapping
        As `rescore` gives them.
    simulated : sequence of str
        Hospitals whose images were drawn by a program; the last line warns of them.
    """
    rows = []
    for row in scores:
        share = row["accuracy"]
        span = f"{share['low']:.4f} to {share['high']:.4f}" if share["n"] else NONE
        rows.append(
            [
                "kept by both" if row["images"] == "both" else f"kept {row['scheme']}",
                row["scheme"],
                f"{share['value']:.4f}" if share["n"] else NONE,
                span,
                str(share["n"]),
                str(row["n_undetermined"]),
            ]
        )
    heading = ["images", "classes", "accuracy", "interval", "scored", "undetermined"]
    warning = f"Simulated, no evidence of accuracy on real cells: {name_some(simulated)}."
    return [
        "Stored predictions, nothing trained anew: what the change of classes alone does.",
        "",
        *_lay_out_table(heading, rows, (12, 7, 8, 20, 10, 12), "<<><>>"),
        "",
        "Interval: 95 %, Wilson, images as independent. Undetermined: the predicted class is split",
        "or dropped there, so that these images are not scored.",
        *(textwrap.wrap(warning, 100) if simulated else []),
    ]


def _lay_out_table(
    heading: Sequence[str], rows: Sequence[Sequence[str]], limits: Sequence[int], align: str
) -> list[str]:
    clipped = [list(map(_clip, row, limits)) for row in [heading, *rows]]
    widths = [max(map(len, column)) for column in zip(*clipped, strict=True)]
    places = list(zip(align, widths, strict=True))
    lines = [
        "  ".join(
            f"{cell:{side}{width}}" for cell, (side, width) in zip(row, places, strict=True)
        ).rstrip()
        for row in clipped
    ]
    return [lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]]


def _clip(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 2] + ".."

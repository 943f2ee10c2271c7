"""Frames that tell what no single row can: sides of a group, sizes of parts, images of all tables.

Each has a suite in data/expectations, against which `expectations` holds it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

COVERED = ("images", "quality", "labels", "split")
DRAWN = ("train", "valid", "test")
# What a split method that is named for its leaks cannot fulfil.
ONE_SIDED = ("split_groups", "split_patients", "split_slides", "split_twins")


def derive_frames(
    frames: Mapping[str, pd.DataFrame], balance: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """Build the frames that tell what no single row can; each has a suite of its own.

    Parameters
    ----------
    frames : mapping of str to pandas.DataFrame
        Needs ``images``, ``quality``, ``labels`` and ``split``.
    balance : mapping
        Content of metrics/split.json: ``absent`` and ``sizes``.
    """
    split, labels = frames["split"], frames["labels"]
    return {
        "split_groups": count_sides(split, "group"),
        "split_patients": count_sides(name_owners(labels, split, ["patient"]), "owner"),
        "split_slides": count_sides(name_owners(labels, split, ["patient", "slide"]), "owner"),
        "split_twins": count_sides(split, "twin_group"),
        "split_parts": count_parts(split, balance["sizes"]),
        "split_sizes": compare_sizes(split, balance["sizes"]),
        "split_classes": compare_classes(split, balance["sizes"], balance["absent"]),
        "coverage": compare_coverage(frames),
    }


def count_sides(split: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count the sides on which each group stands.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``part`` and `by`, the column that names the group.
    by : str
        Its name.

    Returns
    -------
    pandas.DataFrame, shape (n_groups, 2)
        `by` and ``n_sides``, of train, valid, test and unseen: a picture that is left out reaches
        no model and no score, so it stands on no side.
    """
    sided = split[split["part"] != "left_out"]
    return sided.groupby(by, sort=True)["part"].nunique().rename("n_sides").reset_index()


def name_owners(labels: pd.DataFrame, split: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Join the part of each image with its patient, or slide, where that is published.

    Parameters
    ----------
    labels, split : pandas.DataFrame
        Columns of `tables.LABELS` and `tables.SPLIT`.
    columns : list of str
        The column that must be known, after those that its names start anew with; behind the
        hospital they make ``owner``, as in ``<hospital>/<patient>/<slide>``.

    Notes
    -----
    Groups are made from patients and slides, so this follows from the groups standing on one side
    as long as they are made rightly; it is the check that does not take that for granted.
    """
    known = labels.loc[labels[columns[-1]].notna(), ["image_id", "hospital", *columns]]
    joined = known.merge(split[["image_id", "part"]], on="image_id")
    owner = joined["hospital"].astype(object)
    for column in columns:
        owner = owner + "/" + joined[column].astype(object).fillna("")
    return joined.assign(owner=owner)


def count_parts(split: pd.DataFrame, sizes: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Count the images of each part that is asked for at any hospital.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.SPLIT`.
    sizes : mapping of str to mapping
        By hospital that trains, the parts asked for (metrics/split.json).

    Returns
    -------
    pandas.DataFrame, shape (n_parts, 2)
        ``part`` and ``n_images``.
    """
    parts = sorted({part for asked in sizes.values() for part in asked})
    counts = [int((split["part"] == part).sum()) for part in parts]
    return pd.DataFrame({"part": parts, "n_images": counts})


def compare_sizes(split: pd.DataFrame, sizes: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Tell of each part of each hospital that trains whether it is as large as was asked.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.SPLIT`.
    sizes : mapping of str to mapping
        By hospital and part ``asked`` and ``tolerance`` (metrics/split.json). Where a publisher
        divides its images nothing is asked.

    Returns
    -------
    pandas.DataFrame, shape (n_parts, 2)
        ``place`` (``<hospital>/<part>``) and ``as_asked``: the share of the hospital's images is
        within the tolerance, and 0 where the part is not asked for.
    """
    rows = []
    for hospital, asked in sizes.items():
        own = split.loc[split["hospital"] == hospital, "part"]
        if any(size["asked"] is None for size in asked.values()):
            continue
        for part in DRAWN:
            size = asked.get(part, {"asked": 0.0, "tolerance": 0.0})
            distance = abs((own == part).mean() - size["asked"])
            rows.append((f"{hospital}/{part}", bool(distance <= size["tolerance"])))
    return pd.DataFrame(rows, columns=["place", "as_asked"])


def compare_classes(
    split: pd.DataFrame, sizes: Mapping[str, Mapping[str, Any]], absent: Sequence[str]
) -> pd.DataFrame:
    """Tell of each class and part of a hospital that trains whether it is there, or known to lack.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.SPLIT`.
    sizes : mapping of str to mapping
        By hospital that trains, the parts asked for (metrics/split.json).
    absent : sequence of str
        ``<hospital>/<class>/<part>`` of what is known to be absent (metrics/split.json).

    Returns
    -------
    pandas.DataFrame, shape (n_places, 2)
        ``place`` and ``accounted``: the part has an image of the class, or it is listed as
        absent, but not both.
    """
    listed = set(absent)
    found = set(split["hospital"] + "/" + split["label"] + "/" + split["part"])
    classes = split[["hospital", "label"]].drop_duplicates().sort_values(["hospital", "label"])
    places = [
        f"{hospital}/{label}/{part}"
        for hospital, label in classes.itertuples(index=False)
        for part in sizes.get(hospital, {})
    ]
    accounted = [(place in found) != (place in listed) for place in places]
    return pd.DataFrame({"place": places, "accounted": accounted})


def compare_coverage(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tell of each picture of any table whether the tables agree on it.

    Parameters
    ----------
    frames : mapping of str to pandas.DataFrame
        Needs ``images``, ``quality``, ``labels`` and ``split``.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 7)
        ``image_id``; ``in_images``, ``in_quality``, ``in_labels``: the table has it;
        ``split_agrees``: the split has it if, and only if, the labels keep it; ``label_agrees``:
        labels and split give it one label; ``hospital_agrees``: every table's hospital is the
        one that its image_id begins with.
    """
    covered = [frames[name][["image_id", "hospital"]] for name in COVERED]
    named = pd.concat(covered, ignore_index=True).drop_duplicates()
    strangers = named["image_id"].str.split("/", n=1).str[0] != named["hospital"]
    image_ids = named["image_id"].drop_duplicates().sort_values(ignore_index=True)
    present = {name: image_ids.isin(frames[name]["image_id"]) for name in COVERED}
    labels, split = frames["labels"], frames["split"]
    kept = image_ids.isin(labels.loc[labels["keep"].eq(True), "image_id"])
    both = labels[["image_id", "label"]].merge(split[["image_id", "label"]], on="image_id")
    relabelled = both.loc[both["label_x"].ne(both["label_y"]), "image_id"]
    return pd.DataFrame(
        {
            "image_id": image_ids,
            "in_images": present["images"],
            "in_quality": present["quality"],
            "in_labels": present["labels"],
            "split_agrees": present["split"] == kept,
            "label_agrees": ~image_ids.isin(relabelled),
            "hospital_agrees": ~image_ids.isin(named.loc[strangers, "image_id"]),
        }
    )


def list_broken(quality: pd.DataFrame) -> list[str]:
    """Return the pictures that probably lost a part, by ``lost_parts.has_break``.

    Parameters
    ----------
    quality : pandas.DataFrame, shape (n_images, n_columns)
        Rows of ``tables.QUALITY``.
    """
    return [
        row.image_id for row in quality[["image_id", "flags"]].itertuples() if "broken" in row.flags
    ]

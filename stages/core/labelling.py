"""Published label -> cell type -> class of the chosen taxonomy, with a reason for every drop."""

from collections import Counter

import numpy as np
import pandas as pd

from stages.core.errors import TableError
from stages.core.taxonomy import Taxonomy, to_cell_type, to_label


def count_labels(kept: pd.Series, rejected: pd.Series) -> Counter[str]:
    """Count the published labels of a hospital over kept and rejected pictures alike.

    A published count is of files: a truncated or doubled one counts as well.
    """
    return Counter([*kept.dropna(), *rejected.dropna()])


def label_images(
    hospital: str, pictures: pd.DataFrame, label_map: pd.DataFrame, taxonomy: Taxonomy
) -> pd.DataFrame:
    """Give each picture of a hospital its cell type and its class.

    Parameters
    ----------
    hospital : str
        For messages.
    pictures : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``published_label`` and ``diagnosis``; empty where not published.
    label_map : pandas.DataFrame
        As `taxonomy.read_label_map` gives it.
    taxonomy : Taxonomy
        By cell type, or by the patient's diagnosis.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 4)
        ``cell_type``, ``label``, ``keep`` and ``drop_reason`` on the index of `pictures`.

    Raises
    ------
    HospitalError
        A published label is not in the map.
    """
    published = pictures["published_label"]
    cell_type = to_cell_type(hospital, published, label_map)
    if taxonomy.by == "diagnosis":
        label = to_label(pictures["diagnosis"], taxonomy)
        why = pictures["diagnosis"].map(lambda name: f"diagnosis {name} is in no class")
        why = why.where(pictures["diagnosis"].notna(), "no diagnosis published")
    else:
        label = to_label(cell_type, taxonomy)
        mapped = dict(zip(label_map["published_label"], label_map["reason"], strict=True))
        why = published.map(mapped)
        why = why.where(cell_type.isna(), "no class for " + cell_type.astype(object).fillna(""))
        why = why.where(published.notna(), "no published label")
    keep = label.notna()
    return pd.DataFrame(
        {
            "cell_type": cell_type,
            "label": label,
            "keep": keep,
            "drop_reason": why.astype(object).where(~keep, None),
        },
        index=pictures.index,
    )


def require_classes(labels: pd.DataFrame, taxonomy: str) -> list[str]:
    """Return the classes that occur, sorted; two at least, or nothing can be told apart.

    Raises
    ------
    TableError
        Fewer than two classes have a picture.
    """
    classes = sorted(set(labels.loc[labels["keep"], "label"]))
    if len(classes) < 2:
        raise TableError(
            f"params.yaml, taxonomy: {taxonomy!r} leaves the classes {classes} on these hospitals; "
            "a model needs two at least. Choose another taxonomy or further hospitals."
        )
    return classes


def report(labels: pd.DataFrame, taxonomy: str) -> dict[str, object]:
    """Count pictures, classes, drops and groups, for all and for each hospital.

    Parameters
    ----------
    labels : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.LABELS`.
    taxonomy : str
        Its name.
    """
    kept = labels[labels["keep"]]
    return {
        "taxonomy": taxonomy,
        "classes": require_classes(labels, taxonomy),
        "n_images": len(labels),
        "n_kept": len(kept),
        "n_dropped": int((~labels["keep"]).sum()),
        "by_hospital": {
            hospital: {
                "n_images": len(own),
                "n_kept": int(own["keep"].sum()),
                "n_by_class": _count(own.loc[own["keep"], "label"]),
                "n_by_cell_type": _count(own["cell_type"].dropna()),
                "n_by_drop_reason": _count(own["drop_reason"].dropna()),
                "n_groups": int(own.loc[own["keep"], "group"].nunique()),
                "n_images_by_unit": _count(own["unit"]),
            }
            for hospital, own in labels.groupby("hospital")
        },
    }


def _count(values: pd.Series) -> dict[str, int]:
    names, counts = np.unique(values.to_numpy(dtype=str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))

"""Published label -> cell type -> class of the chosen taxonomy, with a reason for every drop."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stages.core.errors import ParamsError, TableError, did_you_mean
from stages.labels.taxonomy import COARSE, Taxonomy, to_cell_type, to_label


def require_partial_known(partial: Sequence[str], hospitals: Sequence[str]) -> None:
    """Stop where ``partial`` excuses a hospital that the experiment does not have.

    Raises
    ------
    ParamsError
        With the nearest name: a misspelt one would leave the counts of its hospital unexcused.
    """
    for name in partial:
        if name not in hospitals:
            hint = did_you_mean(name, hospitals)
            raise ParamsError(
                f"params.yaml, partial: {name!r} is not in hospitals.{hint} Take it out, or "
                f"correct it; hospitals: {', '.join(hospitals)}."
            )


def count_labels(kept: pd.Series, rejected: pd.Series) -> Counter[str]:
    """Count the published labels of a hospital over kept and rejected pictures alike.

    A published count is of files: a truncated or doubled one counts as well.
    """
    return Counter([*kept.dropna(), *rejected.dropna()])


def list_unused(observed: Mapping[str, int], label_map: pd.DataFrame) -> list[str]:
    """Return the labels of the map that no image bears, usable or not; sorted."""
    return sorted(set(label_map["published_label"]) - set(observed))


def count_coarse(cell_type: pd.Series, taxonomy: Taxonomy) -> dict[str, dict[str, object]]:
    """Count the images whose label is too coarse for the classes.

    Parameters
    ----------
    cell_type : pandas.Series of str, shape (n_images,)
        Missing where dropped or not published.
    taxonomy : Taxonomy
        By diagnosis no label is too coarse.

    Returns
    -------
    dict
        By coarse cell type that occurs: ``n_images``, ``label`` (the class they are put in; None:
        dropped) and ``finer_labels``, the classes of the finer cell types. A coarse cell type is
        left out where all of these are its own class.

    Notes
    -----
    An image published as neutrophil is a band or a segmented one. To call it either is to guess,
    and a publisher's coarse images often differ from the others in more than the cell: Barcelona's
    are of another size.
    """
    if taxonomy.by == "diagnosis":
        return {}
    counts = Counter(cell_type.dropna())
    found: dict[str, dict[str, object]] = {}
    for coarse, finer in COARSE.items():
        own = taxonomy.class_of.get(coarse)
        labels = sorted({taxonomy.class_of[name] for name in finer if name in taxonomy.class_of})
        if counts[coarse] and labels and labels != [own]:
            found[coarse] = {"n_images": counts[coarse], "label": own, "finer_labels": labels}
    return found


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
    reasons = dict(zip(label_map["published_label"], label_map["reason"], strict=True))
    why_untyped = published.map(reasons).where(published.notna(), "no published label")
    classified = classify(pictures.assign(cell_type=cell_type), taxonomy, why_untyped)
    return pd.concat([cell_type, classified], axis=1)


def classify(
    pictures: pd.DataFrame, taxonomy: Taxonomy, why_untyped: "pd.Series[str]"
) -> pd.DataFrame:
    """Give each picture the class of its cell type, or of its diagnosis.

    Parameters
    ----------
    pictures : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``cell_type`` and ``diagnosis``; empty where not known.
    taxonomy : Taxonomy
        By cell type, or by the patient's diagnosis.
    why_untyped : pandas.Series of str, shape (n_images,)
        On the same index: why a picture without a cell type has none.

    Returns
    -------
    pandas.DataFrame, shape (n_images, 3)
        ``label``, ``keep`` and ``drop_reason`` on the index of `pictures`.
    """
    cell_type = pictures["cell_type"]
    label = to_label(pictures, taxonomy)
    if taxonomy.by == "diagnosis":
        pairs = zip(pictures["diagnosis"], cell_type, strict=True)
        reasons = [_why_by_diagnosis(diagnosis, kind, taxonomy) for diagnosis, kind in pairs]
        why = pd.Series(reasons, index=pictures.index, dtype=object)
    else:
        named = "no class for " + cell_type.astype(object).fillna("")
        why = why_untyped.where(cell_type.isna(), named)
    keep = label.notna()
    return pd.DataFrame(
        {"label": label, "keep": keep, "drop_reason": why.astype(object).where(~keep, None)},
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


def report(
    labels: pd.DataFrame, taxonomy: Taxonomy, remarks: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    """Count pictures, classes, drops and groups, for all and for each hospital.

    Parameters
    ----------
    labels : pandas.DataFrame, shape (n_images, n_columns)
        Columns of `tables.LABELS`.
    taxonomy : Taxonomy
        The chosen one.
    remarks : mapping of str to mapping
        By hospital, what else its block says.
    """
    kept = labels[labels["keep"]]
    return {
        "taxonomy": taxonomy.name,
        "classes": require_classes(labels, taxonomy.name),
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
                "coarse": count_coarse(own["cell_type"], taxonomy),
                **remarks[str(hospital)],
            }
            for hospital, own in labels.groupby("hospital")
        },
    }


def _why_by_diagnosis(diagnosis: str | None, cell_type: str | None, taxonomy: Taxonomy) -> str:
    if pd.isna(diagnosis):
        return "no diagnosis published"
    if diagnosis not in taxonomy.class_of:
        return f"diagnosis {diagnosis} is in no class"
    kind = "untyped image" if pd.isna(cell_type) else cell_type
    return f"only: {taxonomy.name} takes no {kind} of {diagnosis}"


def _count(values: pd.Series) -> dict[str, int]:
    names, counts = np.unique(values.to_numpy(dtype=str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))

"""Which images are scored, and what the model called them and their patients."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.errors import SplitError, TableError, name_some
from stages.core.tables import PREDICTIONS, SCORED_PARTS


def choose_scored(split: pd.DataFrame, hospitals: Sequence[str]) -> pd.DataFrame:
    """Pick the images of the test and unseen parts.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        As `tables.SPLIT`.
    hospitals : sequence of str
        Those of the experiment; each must train or be scored.

    Returns
    -------
    pandas.DataFrame, shape (n_scored, n_columns)
        Sorted by ``image_id``.

    Raises
    ------
    SplitError
        No image is scored, or a hospital has neither training nor scored images.
    """
    own = split[split["hospital"].isin(hospitals)]
    chosen = own[own["part"].isin(SCORED_PARTS)]
    used = own.loc[own["part"].isin(("train", *SCORED_PARTS)), "hospital"]
    empty = sorted(set(hospitals) - set(used))
    if empty:
        raise SplitError(
            f"data/split has no training, test or unseen image of {name_some(empty)}, so "
            "nothing can be said of that hospital. Check that the taxonomy keeps some of its "
            "labels, or take it out of hospitals."
        )
    if chosen.empty:
        raise SplitError(
            "data/split has no test or unseen image, so there is nothing to score. Add a "
            "hospital to hospitals that is not in split.train_hospitals, or hold images back: "
            "raise split.test, with a split.method other than leave_hospitals_out."
        )
    return chosen.sort_values("image_id", ignore_index=True)


def choose_valid(split: pd.DataFrame, hospitals: Sequence[str]) -> pd.DataFrame:
    """Pick the validation images, sorted by ``image_id``; there may be none."""
    chosen = split[split["hospital"].isin(hospitals) & (split["part"] == "valid")]
    return chosen.sort_values("image_id", ignore_index=True)


def name_constants(split: pd.DataFrame, hospitals: Sequence[str]) -> dict[str, str]:
    """Name for each hospital the answer of a model that learnt nothing from the pixels.

    Returns
    -------
    dict of str to str
        The commonest class of the hospital's own training part, or of the whole training part
        where the hospital did not train; the first by name where several tie.

    Notes
    -----
    Where classes differ between hospitals, the commonest class of all would be no rival: a
    hospital of sick patients is not called healthy by anybody who knows where a picture comes
    from. The class comes from the training part: no test label is looked at.
    """
    trained = split[split["part"] == "train"]
    own = {str(name): _commonest(rows["label"]) for name, rows in trained.groupby("hospital")}
    everywhere = _commonest(trained["label"])
    return {name: own.get(name, everywhere) for name in hospitals}


def _commonest(labels: pd.Series) -> str:
    counts = labels.value_counts().sort_index()
    return str(counts.index[int(np.argmax(counts.to_numpy()))])


def read(hospitals: Sequence[str]) -> pd.DataFrame:
    """Read the tables of predictions of some hospitals into one frame.

    Raises
    ------
    TableError
        A table is not there, or two are of different models.
    """
    tables = {name: PREDICTIONS.read(name) for name in sorted(hospitals)}
    classes = {name: name_classes(table) for name, table in tables.items()}
    first = next(iter(classes))
    other = next((name for name in classes if classes[name] != classes[first]), None)
    if other is not None:
        raise TableError(
            f"{PREDICTIONS.at(other)} has other classes than {PREDICTIONS.at(first)}: two models "
            "made them. Run 'uv run dvc repro', which brings them into step."
        )
    return pd.concat(tables.values(), ignore_index=True)


def name_classes(predictions: pd.DataFrame) -> list[str]:
    """Return the classes of the model that a table of predictions comes from, in its order."""
    return [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]


def add_truth(predicted: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Put the true class beside each prediction.

    Parameters
    ----------
    predicted : pandas.DataFrame, shape (n_predicted, n_columns)
        As `tables.PREDICTIONS`.
    chosen : pandas.DataFrame, shape (n_images, n_columns)
        Of `choose_scored` or `choose_valid`: ``image_id``, ``hospital``, ``part`` and ``label``.

    Returns
    -------
    pandas.DataFrame
        As `predicted`, with ``label``, in the order of `chosen`.

    Raises
    ------
    TableError
        An image has no prediction, or one of another part.
    """
    known = chosen[["image_id", "hospital", "part", "label"]]
    scored = known.merge(predicted, on=["image_id", "hospital", "part"], how="left")
    missing = sorted(scored.loc[scored["predicted"].isna(), "image_id"])
    if missing:
        raise TableError(
            f"data/predictions has no row of {len(missing)} images ({name_some(missing)}). Run "
            "'uv run dvc repro', which brings predictions and split into step."
        )
    return scored


def average_patients(
    scored: pd.DataFrame, classes: Sequence[str], within: Sequence[str]
) -> pd.DataFrame:
    """Give each patient one class: that of the highest mean probability over the images.

    Parameters
    ----------
    scored : pandas.DataFrame, shape (n_images, n_columns)
        As `tables.PREDICTIONS`, and ``patient``, empty where none is published.
    classes : sequence of str
        All classes of the model. The first of equally probable ones is predicted.
    within : sequence of str
        Columns, ``hospital`` among them, that part the images of one patient.

    Returns
    -------
    pandas.DataFrame, shape (n_patients, n_columns)
        Sorted by `within`, ``is_patient`` and ``patient``; further ``label`` (that of the first
        image), ``n_labels`` (how many the images bear), ``n_images`` and ``predicted``. An image
        without a published patient is a row of its own, where ``is_patient`` is False.
    """
    columns = [f"p_{name}" for name in classes]
    is_patient = scored["patient"].notna()
    patient = scored["patient"].astype(object).where(is_patient, scored["image_id"])
    # A mean depends on the order of its terms in the last bit, and so may a tie.
    rows = scored.assign(patient=patient, is_patient=is_patient).sort_values("image_id")
    grouped = rows.groupby([*within, "is_patient", "patient"], sort=True, dropna=False)
    table = grouped.agg(
        label=("label", "first"), n_labels=("label", "nunique"), n_images=("label", "size")
    )
    likeliest = grouped[columns].mean().to_numpy().argmax(axis=1)
    return table.assign(predicted=np.asarray(classes, object)[likeliest]).reset_index()


def list_confusions(predictions: pd.DataFrame) -> pd.DataFrame:
    """List truth and prediction, one row a picture, as the confusion plot counts them.

    Returns
    -------
    pandas.DataFrame
        ``hospital``, ``part``, ``actual``, ``predicted``; sorted by all, so that two experiments
        differ only where their counts do.
    """
    columns = {"hospital": "hospital", "part": "part", "label": "actual", "predicted": "predicted"}
    listed = predictions[list(columns)].rename(columns=columns)
    return listed.sort_values(list(columns.values()), ignore_index=True)

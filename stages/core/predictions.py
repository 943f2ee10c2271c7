"""Which pictures are scored, and what the model calls them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.errors import ModelError, SplitError, TableError, name_some

SCORED_PARTS = ("test", "unseen")


def choose_scored(split: pd.DataFrame, hospitals: Sequence[str]) -> pd.DataFrame:
    """Pick the pictures of the test and unseen parts.

    Parameters
    ----------
    split : pandas.DataFrame, shape (n_images, n_columns)
        As `tables.SPLIT`.
    hospitals : sequence of str
        Those of the experiment; each must be scored.

    Returns
    -------
    pandas.DataFrame, shape (n_scored, n_columns)
        Sorted by ``image_id``.

    Raises
    ------
    SplitError
        A hospital has no picture to score.
    """
    chosen = split[split["part"].isin(SCORED_PARTS) & split["hospital"].isin(hospitals)]
    empty = sorted(set(hospitals) - set(chosen["hospital"]))
    if empty:
        raise SplitError(
            f"data/split.parquet has no test or unseen picture of {name_some(empty)}, so nothing "
            "can be said of that hospital. For a training hospital raise split.test, or, where its "
            "pictures are few groups or twins of others, take it out of split.train_hospitals; "
            "for another one check that the taxonomy keeps some of its labels; or take it out of "
            "hospitals."
        )
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


def name_predicted(
    chosen: pd.DataFrame, probabilities: pd.DataFrame, classes: Sequence[str]
) -> pd.DataFrame:
    """Put truth, predicted class and probabilities side by side.

    Parameters
    ----------
    chosen : pandas.DataFrame, shape (n_images, n_columns)
        ``image_id``, ``hospital``, ``part``, ``label``.
    probabilities : pandas.DataFrame, shape (n_predicted, n_classes)
        By ``image_id``, in any order; columns are classes.
    classes : sequence of str
        All classes of the model. The first of equally probable ones is predicted.

    Returns
    -------
    pandas.DataFrame
        As `tables.PREDICTIONS`, in the order of `chosen`.

    Raises
    ------
    TableError
        A picture has no probabilities.
    ModelError
        A probability is not a number.
    """
    ids = list(chosen["image_id"])
    missing = sorted(set(ids) - set(probabilities.index))
    if missing:
        raise TableError(
            f"no prediction for {len(missing)} pictures: {name_some(missing)}. Their features are "
            "missing; run 'uv run dvc repro', which makes them."
        )
    values = probabilities.loc[ids, list(classes)].to_numpy(np.float64)
    broken = [name for name, row in zip(ids, values, strict=True) if not np.isfinite(row).all()]
    if broken:
        raise ModelError(
            f"the model in data/model gives no number for {len(broken)} pictures: "
            f"{name_some(broken)}. Its training diverged: lower models.<recipe>.learning_rate."
        )
    table = chosen[["image_id", "hospital", "part", "label"]].reset_index(drop=True)
    table["predicted"] = np.asarray(classes, object)[values.argmax(axis=1)]
    for place, name in enumerate(classes):
        table[f"p_{name}"] = values[:, place]
    return table


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

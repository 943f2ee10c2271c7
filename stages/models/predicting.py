"""What a trained model says of pictures, as a table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.errors import ModelError, TableError, name_some


def tabulate(
    chosen: pd.DataFrame, probabilities: pd.DataFrame, classes: Sequence[str]
) -> pd.DataFrame:
    """Put predicted class and probabilities side by side.

    Parameters
    ----------
    chosen : pandas.DataFrame, shape (n_images, n_columns)
        ``image_id``, ``hospital``, ``part``.
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
            f"no prediction for {len(missing)} pictures: {name_some(missing)}. Run 'uv run dvc "
            "repro', which makes them."
        )
    values = probabilities.loc[ids, list(classes)].to_numpy(np.float64)
    broken = [name for name, row in zip(ids, values, strict=True) if not np.isfinite(row).all()]
    if broken:
        raise ModelError(
            f"the model in data/model gives no number for {len(broken)} pictures: "
            f"{name_some(broken)}. Its training diverged: lower models.<recipe>.learning_rate."
        )
    table = chosen[["image_id", "hospital", "part"]].reset_index(drop=True)
    table["predicted"] = np.asarray(classes, object)[values.argmax(axis=1)]
    for place, name in enumerate(classes):
        table[f"p_{name}"] = values[:, place]
    return table

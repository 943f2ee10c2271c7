"""What experts saw in cells, and whether it can be read from a model's features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from stages.core.errors import TableError, name_some
from stages.core.store import resolve
from stages.evaluation.expert_agreement import agree

NAME = "img_name"
NOT_READ = ("label", "path")  # columns of published tables that are no attribute
MAX_VALUES = 12
MAX_ITERATIONS = 1000
MIN_IMAGES = 20  # to learn from, and to be judged on
FREEDOM = 4.0  # C of scikit-learn times the number of features, as for label errors


def read(tables: Sequence[str]) -> pd.DataFrame:
    """Read what experts told of cells.

    Parameters
    ----------
    tables : sequence of str
        CSV files with ``img_name``, the file's name without its folders, and a column for each
        attribute; ``label`` and ``path`` are not read.

    Returns
    -------
    pandas.DataFrame of str, shape (n_images, n_attributes)
        By name of file.

    Raises
    ------
    TableError
        A file is missing or no such table, or names a picture twice.
    """
    pieces = []
    for text in tables:
        path = resolve(text)
        where = f"{text} (attributes.tables of params.yaml)"
        try:
            piece = pd.read_csv(path, dtype=str)
        except FileNotFoundError:
            raise TableError(f"{where} is missing. Correct the path, or take it out.") from None
        except (OSError, ValueError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise TableError(f"{where} is no CSV table ({reason}). Take it out.") from None
        if not isinstance(piece.index, pd.RangeIndex):
            raise TableError(f"{where} has rows longer than its first line. Correct them.")
        if NAME not in piece:
            raise TableError(f"{where} has no column {NAME}: the picture's file name. Add it.")
        if piece[NAME].isna().any():
            raise TableError(f"{where} has rows without {NAME}. Fill it, or take them out.")
        pieces.append(piece)
    table = pd.concat(pieces, ignore_index=True)
    twice = sorted(set(table.loc[table[NAME].duplicated(), NAME]))
    if twice:
        raise TableError(
            f"attributes.tables of params.yaml name {len(twice)} pictures twice "
            f"({name_some(twice)}). Leave each once."
        )
    told = table.set_index(NAME).drop(columns=[one for one in NOT_READ if one in table])
    many = [str(name) for name in told if told[name].nunique() > MAX_VALUES]
    if many:
        raise TableError(
            f"attributes.tables of params.yaml: {name_some(many)} has more than {MAX_VALUES} "
            "different values, so that it is no attribute. Take the column out."
        )
    return told


def find(image_ids: pd.Index, told: pd.DataFrame) -> pd.DataFrame:
    """Return what was told of these pictures, by image_id; absent where nothing was."""
    names = pd.Index([Path(image_id).name for image_id in image_ids])
    found = names.isin(told.index)
    return told.loc[names[found]].set_index(image_ids[found])


def read_off(
    taught: pd.DataFrame,
    asked: pd.DataFrame,
    told: pd.DataFrame,
    classes: Mapping[str, str],
) -> dict[str, Any]:
    """Read attributes off features, and off the class that a picture is called.

    Parameters
    ----------
    taught, asked : pandas.DataFrame, shape (n_images, n_features)
        By image_id; learnt from, and judged.
    told : pandas.DataFrame of str, shape (n_images, n_attributes)
        As experts told, by image_id; of both.
    classes : mapping of str to str
        By image_id the class: published of the taught, called of the asked.

    Returns
    -------
    dict
        By attribute ``n_training`` and ``n_images``, ``values`` (images of each), and Cohen's kappa
        with the experts, see `expert_agreement.agree`: ``kappa`` of what is read off the features,
        and ``kappa_of_class`` of the commonest value of the class called. Where one value is told
        of all that are taught, or fewer than twenty are, ``reason`` instead.

    Notes
    -----
    Multinomial logistic regression on standardised features, the penalty growing with their
    number, as for label errors.
    """
    content: dict[str, Any] = {}
    for name in told:
        known, judged = (told[name].reindex(one.index).dropna() for one in (taught, asked))
        block: dict[str, Any] = {"n_training": len(known), "n_images": len(judged)}
        if min(len(known), len(judged)) < MIN_IMAGES or known.nunique() < 2:
            reason = f"fewer than {MIN_IMAGES} images, or one value throughout"
            content[str(name)] = block | {"reason": reason}
            continue
        seen = _read_off(taught.loc[known.index], known, asked.loc[judged.index])
        usual = known.groupby(pd.Series(classes).loc[known.index]).agg(lambda own: own.mode()[0])
        by_class = pd.Series(classes).loc[judged.index].map(usual).fillna(known.mode()[0])
        values = sorted({*known, *judged})
        content[str(name)] = block | {
            "values": {value: int((judged == value).sum()) for value in values},
            "kappa": agree(judged, seen, values)["kappa"],
            "kappa_of_class": agree(judged, by_class, values)["kappa"],
        }
    return content


def _read_off(taught: pd.DataFrame, known: pd.Series, asked: pd.DataFrame) -> pd.Series:
    scaler = StandardScaler().fit(taught.to_numpy())
    model = LogisticRegression(C=FREEDOM / taught.shape[1], max_iter=MAX_ITERATIONS)
    with threadpool_limits(1):  # the last bits depend on their number
        model.fit(scaler.transform(taught.to_numpy()), known.to_numpy())
        found = model.predict(scaler.transform(asked.to_numpy()))
    return pd.Series(found, asked.index)

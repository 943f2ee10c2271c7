"""How much of what is tested was trained on: twins, slides, patients and groups on both sides."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.core.shares import describe_share

LEAKY = ("random", "official")  # split methods that are named for parting groups
TESTED = ("test", "unseen")
# What joins two images, and the columns that name it; a patient's name counts in its hospital.
LINKS = {
    "twin": ["twin_group"],
    "patient": ["hospital", "patient"],
    "slide": ["hospital", "patient", "slide"],
    "group": ["group"],
}


def measure(images: pd.DataFrame) -> dict[str, Any]:
    """Tell which share of the tested images has a relative in the training part.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        Needs ``image_id``, ``hospital``, ``part``, ``group``, ``twin_group``, ``patient`` and
        ``slide``, of which patient and slide may be empty. Images that are left out count nowhere.

    Returns
    -------
    dict
        ``all``, over every test and unseen image; ``by_part`` (test and unseen apart, as far as
        they have images) and ``by_hospital``: blocks of ``n_tested``, ``twin_in_train``,
        ``patient_in_train``, ``slide_in_train``, ``slide_or_patient_in_train`` and
        ``group_in_train``. Each is a share with its interval (`shares.describe_share`), over
        the tested images of which it is known; None, and ``<name>_reason``, where it is known
        of none.

    Notes
    -----
    An unseen hospital shares no patient, slide or group with the training hospitals, and a copy
    of an image at most; so ``all`` falls with every unseen image, and ``by_part`` is what belongs
    to a score of one part.
    """
    related = find_relatives(images)
    return {
        "all": _describe(related),
        "by_part": {str(part): _describe(own) for part, own in related.groupby("part")},
        "by_hospital": {str(name): _describe(own) for name, own in related.groupby("hospital")},
    }


def find_relatives(images: pd.DataFrame) -> pd.DataFrame:
    """Tell of each tested image whether a relative of it trains.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        As `measure` takes them.

    Returns
    -------
    pandas.DataFrame, shape (n_tested, 7)
        On the index of the tested images: ``hospital``, ``part``, and ``twin``, ``patient``,
        ``slide``, ``slide_or_patient``, ``group``: true, false, or missing where not published.
    """
    is_trained, is_tested = images["part"] == "train", images["part"].isin(TESTED)
    related = images.loc[is_tested, ["hospital", "part"]].copy()
    for name in LINKS:
        identity = identify(images, name)
        found = identity[is_tested].isin(identity[is_trained].dropna()).astype("boolean")
        related[name] = found.mask(identity[is_tested].isna())
    either = related["patient"].fillna(False) | related["slide"].fillna(False)
    related["slide_or_patient"] = either.mask(related["patient"].isna() & related["slide"].isna())
    return related


def identify(images: pd.DataFrame, link: str) -> pd.Series:
    """Give each patient, slide, group or twin cluster a number; missing where none is published.

    Parameters
    ----------
    images : pandas.DataFrame, shape (n_images, n_columns)
        With the columns that `LINKS` names.
    link : str
        A name of `LINKS`.

    Returns
    -------
    pandas.Series of Int64, shape (n_images,)
        On the index of `images`; equal numbers for one patient, slide, group or cluster.

    Notes
    -----
    A patient's name, and a slide's, start anew at each hospital, and a slide's with each patient.
    """
    columns = LINKS[link]
    numbers = images.groupby(columns, dropna=False, sort=False).ngroup().astype("Int64")
    return numbers.mask(images[columns[-1]].isna())


def describe(block: Mapping[str, Any]) -> str:
    """Say in one sentence how leaky a score is; `block` is one of `measure`.

    Examples
    --------
    >>> share = {"value": 0.12, "low": 0.1, "high": 0.14, "n": 900}
    >>> describe({"twin_in_train": share, "slide_or_patient_in_train": share | {"value": 0.8}})
    'leaky: 12.0 % of test images have a twin in train, 80.0 % share a slide or patient'
    """
    twin, kin = block["twin_in_train"], block["slide_or_patient_in_train"]
    if twin is None:
        return f"leaky: {block['twin_in_train_reason']}"
    shared = (
        "slides and patients are not published"
        if kin is None
        else f"{100 * kin['value']:.1f} % share a slide or patient"
    )
    return f"leaky: {100 * twin['value']:.1f} % of test images have a twin in train, {shared}"


def _describe(related: pd.DataFrame) -> dict[str, Any]:
    block: dict[str, Any] = {"n_tested": len(related)}
    for name in (*LINKS, "slide_or_patient"):
        known, key = related[name].dropna(), f"{name}_in_train"
        if len(known):
            block[key] = describe_share(int(known.sum()), len(known))
        else:
            what = name.replace("_", " ")
            missing = f"no {what} is published of the tested images"
            block |= {key: None, f"{key}_reason": missing if len(related) else "nothing is tested"}
    return block

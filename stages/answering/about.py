"""What lies beside a model that answers: how sure it is to be taken, and where it comes from."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from stages.core.errors import ModelError
from stages.core.params import FilterParams
from stages.core.settings import Group
from stages.core.store import to_json

FILE = "about.json"
MODEL = "model"


class Confidence(Group):
    """How probabilities are corrected, and from which on a call is accepted.

    Attributes
    ----------
    temperature, threshold, wished_error : float
        Of ``doubt.Doubt``; no threshold where none is known.
    learnt_from : {"unseen", "valid", "nothing"}
        Images of hospitals that the model never saw; else validation images of those it knows.
    hospitals : list of str
        Whose images these were.
    n_images : int
    reason : str, optional
        Why there is no threshold.
    """

    temperature: float
    threshold: float | None
    wished_error: float
    learnt_from: Literal["unseen", "valid", "nothing"]
    hospitals: list[str]
    n_images: int
    reason: str | None = None


class Novelty(Group):
    """From which energy on a picture shows nothing that the model knows.

    Attributes
    ----------
    threshold : float, optional
        Of the mean over networks, each in standard deviations of the validation images.
    spread : dict of str to tuple of float
        By network: mean and standard deviation of the energy of the validation images.
    reason : str, optional
        Why there is no threshold.
    """

    threshold: float | None
    spread: dict[str, tuple[float, float]]
    reason: str | None = None


class About(Group):
    """What ``about.json`` says.

    Attributes
    ----------
    version : int
        Of this file's form.
    taxonomy : str
    cell_types : dict of str to list of str
        By class, what it stands for.
    filter : FilterParams
        Which pictures are read.
    confidence : Confidence
    novelty : Novelty
    reference : dict of str to tuple of float
        By class, the percentages of an adult's differential count that are usual.
    model_sha256 : str
        Of the files in ``model/``.
    commit : str, optional
        Of the project that trained it, where it was handed out by a person.
    """

    version: Literal[1] = 1
    taxonomy: str
    cell_types: dict[str, list[str]]
    filter: FilterParams
    confidence: Confidence
    novelty: Novelty
    reference: dict[str, tuple[float, float]]
    model_sha256: str
    commit: str | None = None


def write(about: About, folder: Path) -> None:
    """Write ``about.json`` into a folder."""
    (folder / FILE).write_text(to_json(about.model_dump(mode="json")), encoding="utf-8")


def read(folder: Path) -> About:
    """Read what `write` wrote, and check that the model beside it is the one that it is about.

    Raises
    ------
    ModelError
        There is none, it is of another version, or the model has changed since.
    """
    path = folder / FILE
    try:
        about = About.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{path} is missing, so {folder} holds no model that answers. Run 'uv run dvc repro', "
            "which makes data/export, or give a folder that 'smearflow export' wrote as --model."
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} is not what this version writes ({text}). Export the model again with this "
            "version: 'uv run dvc repro'."
        ) from None
    if hash_model(folder / MODEL) != about.model_sha256:
        raise ModelError(
            f"{folder / MODEL} is not the model that {path} is about: a file was changed, added or "
            "lost. Export the model again: 'uv run dvc repro'."
        )
    return about


def hash_model(folder: Path) -> str:
    """Return one sha256 of all files below a folder, their names included."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{digest}  {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()

"""Verdicts, flags and promises in the words of people who look at cells."""

from collections.abc import Sequence

from stages.answering.about import Confidence
from stages.answering.model import ACCEPTED, LOOK_AGAIN, NOT_READ, STRANGE, UNKNOWN
from stages.answering.pictures import AT_BORDER, BROKEN, NO_CELL
from stages.images.cell_masks import UNSURE

VERDICTS = {
    ACCEPTED: "The model is as sure as its promise asks for, and nothing is flagged.",
    LOOK_AGAIN: "The model is not sure enough, or something is flagged: look at this one yourself.",
    UNKNOWN: "No cell is seen, or nothing that the model was taught. Its probabilities say little.",
    NOT_READ: "This file could not be read as a picture.",
}
FLAGS = {
    NO_CELL: "no cell was found",
    AT_BORDER: "the cell is cut off at the border",
    UNSURE: "the outline of the cell is unsure",
    BROKEN: "rows of one colour, as a broken camera or file leaves them",
    STRANGE: "unlike the pictures that taught the model",
}


def say_name(name: str) -> str:
    """Return a class or cell type as a person writes it."""
    return name.replace("_", " ")


def say_flags(flags: Sequence[str]) -> str:
    """Return flags in words; "nothing" where there is none."""
    return "; ".join(FLAGS[name] for name in flags) or "nothing"


def say_problem(problem: str) -> str:
    """Return why a file was not read, without the underlines of a reason's name."""
    reason, colon, detail = problem.partition(": ")
    return say_name(reason) + colon + detail if " " not in reason else problem


def say_percent(share: float) -> str:
    """Return a probability with one decimal; what is not certain never reads as 0 or 100 %."""
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def say_promise(promise: Confidence) -> str:
    """Return when a call is accepted, and from where that is known."""
    if promise.threshold is None:
        return f"No call is accepted: {promise.reason}."
    places = ", ".join(promise.hospitals)
    learnt = {
        "unseen": f"learnt at hospitals that taught the model nothing ({places}); at yours it may "
        "be broken all the same",
        "valid": f"learnt at the hospitals that taught the model ({places}); at another one more "
        "calls are wrong",
        "nothing": "learnt from no picture",
    }[promise.learnt_from]
    return (
        f"Accepted: {say_percent(promise.threshold)} or more for the first class, and nothing "
        f"flagged. Promised are {100 * promise.wished_error:g} % wrong calls among the accepted "
        f"ones, {learnt}."
    )

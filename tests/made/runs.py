"""What stages evaluate and summarise would write of a run, from the scores asked for."""

from stages.evaluation.several_runs import Run


def share(value, width=0.04):
    ends = (None, None) if width is None else (value - width / 2, value + width / 2)
    return {"value": value, "low": ends[0], "high": ends[1]}


def evaluation(unseen, home=()):
    """By unseen hospital its accuracy and, by class, (images, recall, F1); those of `home` train.

    A class of no image has no score, as the stage writes it.
    """
    blocks = {}
    for name, (accuracy, classes) in unseen.items():
        held = [f1 for n, _, f1 in classes.values() if n]
        blocks[name] = {
            "part": "test" if name in home else "unseen",
            "n_images": sum(n for n, _, _ in classes.values()),
            "metrics": {
                "accuracy": share(accuracy), "macro_f1": share(sum(held) / len(held)),
            },
            "per_class": {
                label: {
                    "n": n, "precision": None,
                    "recall": recall if n else None, "f1": f1 if n else None,
                }
                for label, (n, recall, f1) in classes.items()
            },
        }  # fmt: skip
    return {"by_hospital": blocks}


def summary(value, width=0.04, **changes):
    block = {"accuracy": share(value, width), "macro_f1": share(value - 0.1, width)}
    content = {
        "in_domain": block, "unseen_mean": block, "unseen_worst": block,
        "drop": share(0.01), "covered": share(0.0, None),
        "simulated": [],
    }  # fmt: skip
    return content | changes


def run(seed, fold=None, unseen=None, value=0.9, home=(), **changes):
    scores = evaluation(unseen or {"x": (value, {"a": (9, value, value)})}, home)
    name = f"run-{seed}" if fold is None else f"run-{seed}-{fold}"
    return Run(name, seed, fold, scores, summary(value, **changes))

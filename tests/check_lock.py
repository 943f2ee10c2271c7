"""Hold the reproduced dvc.lock against the committed one, where every byte must be the same.

Run after `dvc repro` on a clean checkout: `python -m tests.check_lock [REVISION]`. The files are
compared parsed, because the order of their entries follows the history of the runs. Stages that
learn are left out: their last bits depend on the processor.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

DATA_STAGES = ("download", "filter", "quality", "harmonise", "split")
LOCK = Path("dvc.lock")
MAX_NAMED = 10


def read_facts(text: str) -> dict[str, dict[str, Any]]:
    """Return of each data stage what it ran, read and wrote: one entry for each path and key."""
    stages = (yaml.safe_load(text) or {}).get("stages", {})
    return {
        name: _flatten(entry)
        for name, entry in stages.items()
        if name.partition("@")[0] in DATA_STAGES
    }


def compare(committed: dict[str, dict[str, Any]], made: dict[str, dict[str, Any]]) -> list[str]:
    """Return one sentence for each difference; none where the two tell the same."""
    differences = []
    for stage in sorted({*committed, *made}):
        if stage not in made or stage not in committed:
            where = "reproduced" if stage not in made else "committed"
            differences.append(f"{stage}: not in the {where} {LOCK}")
            continue
        old, new = committed[stage], made[stage]
        differences += [
            f"{stage}, {fact}: committed {old.get(fact, 'nothing')}, now {new.get(fact, 'nothing')}"
            for fact in sorted({*old, *new})
            if old.get(fact) != new.get(fact)
        ]
    return differences


def main(revision: str = "HEAD") -> None:
    """Compare the working tree's lock with that of `revision`; exit with 1 where they differ."""
    shown = subprocess.run(
        ["git", "show", f"{revision}:{LOCK}"], capture_output=True, text=True, check=False
    )
    if shown.returncode or not LOCK.is_file():
        where = f"in {revision}" if shown.returncode else "here"
        sys.exit(f"There is no {LOCK} {where}. Run 'uv run dvc repro' and commit {LOCK}.")
    committed = read_facts(shown.stdout)
    differences = compare(committed, read_facts(LOCK.read_text(encoding="utf-8")))
    if differences or not committed:
        said = differences or [f"{LOCK} of {revision} names no data stage"]
        more = [f"and {len(said) - MAX_NAMED} more"] if len(said) > MAX_NAMED else []
        sys.exit(
            "\n".join(
                [
                    *said[:MAX_NAMED],
                    *more,
                    f"The committed {LOCK} is not what this code gives. Run 'uv run dvc repro' and "
                    f"commit {LOCK} and metrics/. Where nothing was changed, a stage gives other "
                    "bytes on this computer: that is a defect of the stage.",
                ]
            )
        )
    sys.stdout.write(f"{LOCK} is up to date: {len(committed)} data stages give the same bytes.\n")


def _flatten(entry: dict[str, Any]) -> dict[str, Any]:
    facts = {"cmd": entry.get("cmd")}
    for kind in ("deps", "outs"):
        facts |= {f"{kind} {item['path']}": item.get("md5") for item in entry.get(kind, [])}
    for file, values in entry.get("params", {}).items():
        facts |= {f"params {file}:{key}": value for key, value in values.items()}
    return facts


if __name__ == "__main__":
    main(*sys.argv[1:])

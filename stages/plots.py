"""plots: the code that draws the charts of `dvc plots`, so that they open without network."""

from pathlib import Path

from stages.core.errors import run_stage
from stages.core.store import write_bytes

SCRIPT = Path("data/plots.js")  # .dvc/plots-offline.html loads it


def main() -> None:
    """Write data/plots.js: Vega, Vega-Lite and Vega-Embed out of the installed package.

    Notes
    -----
    The bundle declares hundreds of short names; within a function none of them can meet those
    of the page.
    """
    from vl_convert import javascript_bundle

    bundle: str = javascript_bundle()  # type: ignore[call-arg]  # its type hints ask for a default
    write_bytes(SCRIPT, f"(() => {{\n{bundle}\n}})();\n".encode())


if __name__ == "__main__":
    run_stage(main)

"""Put damaged real files through download and filter.

    python -m tests.bench.bench_mutations [N [FOLDER]]

Pictures of a folder (else ../shared/data), as they are or written again as JPEG, PNG, BMP and TIFF,
and archives of such pictures, are damaged by a seed. The two stages run on each batch in this
process; printed are crashes, hangs, warnings of libraries, the peak of the memory, and whether what
went in is kept + rejected + auxiliary. A refused archive ends with one line, as for a person.
"""

import contextlib
import io
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from stages import download
from stages import filter as filter_stage
from stages.core.errors import PipelineError
from tests.made import mutations

ROOT = Path(__file__).resolve().parents[2]
N_FILES = 2000
PICTURES_A_BATCH = 100  # mutated pictures that go through the stages as one hospital
MEMBERS = 6  # pictures of one mutated archive
ARCHIVE_SHARE = 5  # one mutated file of so many is an archive, a hospital of its own
TIMEOUT = 120  # seconds for one batch: more is a hang
BLOCK = "h: {title: T, licence: none, citation: none, folder: pictures}\n"
REFUSED = "one line, exit 1"  # right for an archive, but not for a folder of pictures
FORMATS = ("JPEG", "PNG", "BMP", "TIFF")


def main() -> None:
    """Run all batches, and print one line for each kind of outcome."""
    n_files = int(sys.argv[1]) if len(sys.argv) > 1 else N_FILES
    source = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT.parent / "shared/data"
    params = re.sub(r"max_lost: \S+", "max_lost: 1.0", (ROOT / "params.yaml").read_text("utf-8"))
    rng = np.random.default_rng(0)
    originals = _originals(source, rng)
    outcomes: Counter[str] = Counter()
    longest = 0.0
    n_archives = n_files // ARCHIVE_SHARE
    batches: list[dict[str, bytes]] = []
    for start in range(0, n_files - n_archives, PICTURES_A_BATCH):
        size = min(PICTURES_A_BATCH, n_files - n_archives - start)
        drawn = [_draw(originals, rng) for _ in range(size)]
        batches.append(
            {f"A/{n}.{kind}": mutations.mutate(c, rng) for n, (kind, c) in enumerate(drawn)}
        )
    for n in range(n_archives):
        kind = list(mutations.PACKERS)[n % len(mutations.PACKERS)]
        drawn = [_draw(originals, rng) for _ in range(MEMBERS)]
        files = {f"A/{i}.{ending}": content for i, (ending, content) in enumerate(drawn)}
        batches.append({f"cells.{kind}": mutations.mutate(mutations.PACKERS[kind](files), rng)})
    signal.signal(signal.SIGALRM, _ring)
    os.environ["SMEARFLOW_WORKERS"] = "1"
    os.environ.pop("SMEARFLOW_MIRROR", None)
    for number, files in enumerate(batches):
        start_time = time.perf_counter()
        with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
            Path("data").mkdir()
            Path("data/hospitals.yaml").write_text(BLOCK, encoding="utf-8")
            Path("params.yaml").write_text(params, encoding="utf-8")
            outcome, detail = _run(files)
        longest = max(longest, time.perf_counter() - start_time)
        outcomes[outcome] += 1
        is_fine = outcome == "in = kept + rejected" or (outcome == REFUSED and len(files) == 1)
        if not is_fine:
            print(f"batch {number}: {outcome}: {detail}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n_files} mutated files, {n_archives} of them archives, in {len(batches)} hospitals")
    print("; ".join(f"{outcome}: {n}" for outcome, n in sorted(outcomes.items())))
    print(f"longest hospital {longest:.1f} s, peak memory {peak:.0f} MiB")


def _originals(source: Path, rng: np.random.Generator) -> list[Path]:
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in (".jpg", ".png", ".bmp", ".tif")
    )
    return [found[n] for n in rng.permutation(len(found))[:200]]


def _draw(originals: list[Path], rng: np.random.Generator) -> tuple[str, bytes]:
    """Return one original as it is, or written in another format."""
    path = originals[int(rng.integers(len(originals)))]
    if rng.integers(2):
        return path.suffix.lower()[1:], path.read_bytes()
    kind = FORMATS[int(rng.integers(len(FORMATS)))]
    options = (
        {"compression": str(rng.choice(["raw", "tiff_lzw", "jpeg"]))} if kind == "TIFF" else {}
    )
    sink = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(sink, kind, **options)
    return kind.lower(), sink.getvalue()


def _run(files: dict[str, bytes]) -> tuple[str, str]:
    """Run both stages on one hospital, and name the outcome."""
    for path, content in files.items():
        Path("pictures", path).parent.mkdir(parents=True, exist_ok=True)
        Path("pictures", path).write_bytes(content)
    signal.alarm(TIMEOUT)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            download.main("h")
            filter_stage.main("h")
    except _HangError:
        return "HANG", ""
    except PipelineError as error:
        return REFUSED, str(error)
    except Exception:
        return "CRASH", traceback.format_exc()
    finally:
        signal.alarm(0)
    if said:
        return "A LIBRARY'S WARNING", str(said[0].message)
    metrics = json.loads(Path("metrics/filter/h.json").read_text(encoding="utf-8"))
    n_out = metrics["n_kept"] + metrics["n_rejected"] + metrics["n_auxiliary"]
    is_whole = metrics["n_members"] == n_out and (len(files) == 1 or n_out == len(files))
    return ("in = kept + rejected" if is_whole else "LOST A FILE"), str(metrics)


class _HangError(BaseException):
    """The clock rang; of no kind that a stage may catch."""


def _ring(*_: object) -> None:
    raise _HangError


if __name__ == "__main__":
    main()

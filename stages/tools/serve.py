"""page: the model in the browser, on this machine alone.

smearflow page [--model DIR] [--other DIR] [--port N]
"""

import argparse
import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.answering import about, answers
from stages.core.errors import PipelineError

ADDRESS = "127.0.0.1"  # this machine; nobody else in the network is let in
PORT = 8501
UPLOAD_MB = 200
SCRIPT = Path(__file__).with_name("page.py")
OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",  # a traceback helps nobody who looks at cells
    "client.showErrorLinks": "false",  # to search engines
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": "true",
    "server.address": ADDRESS,
    "server.allowedHosts": ADDRESS,  # another name for this machine is a trick of a strange page
    "server.enableCORS": "true",
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",  # no question for an address to write to, no browser is started
    "server.maxUploadSize": str(UPLOAD_MB),
    "server.showEmailPrompt": "false",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until it is interrupted; return the exit code."""
    asked = _parse(arguments)
    try:
        _require_streamlit()
        for folder in (asked.model, asked.other):
            if folder is not None:
                about.read(folder)
        _require_free(asked.port)
    except PipelineError as error:
        sys.stderr.write("page: " + " ".join(str(error).split()) + "\n")
        return 1
    return _serve(asked)


def _serve(asked: argparse.Namespace) -> int:
    from streamlit.web import cli

    # The server has threads, and a process that is forked beside threads may wait for ever.
    os.environ["SMEARFLOW_WORKERS"] = "1"
    models = [str(one) for one in (asked.model, asked.other) if one is not None]
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    sys.stdout.write(
        f"The page is at http://{ADDRESS}:{asked.port} for this machine alone; Ctrl+C ends it.\n"
    )
    sys.stdout.flush()
    done = cli.main(
        ["run", str(SCRIPT), *options, f"--server.port={asked.port}", "--", *models],
        standalone_mode=False,
    )
    return int(done or 0)


def _require_streamlit() -> None:
    if importlib.util.find_spec("streamlit") is None:
        raise PipelineError(
            "the page needs Streamlit, which is not installed. Run 'uv sync --extra page', or "
            "'uv run --extra page smearflow page'."
        )


def _require_free(port: int) -> None:
    with socket.socket() as tried:
        try:
            # As the server will: what a server of a minute ago has left is no hindrance.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((ADDRESS, port))
        except OSError:
            raise PipelineError(
                f"port {port} is taken, perhaps by another page, or is not yours to use. Name "
                "another one: --port 8600."
            ) from None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "smearflow page",
        description="Ask the model about pictures in the browser, and correct it. Research use "
        "only. Nothing leaves this machine.",
    )
    add = parser.add_argument
    add("--model", metavar="DIR", type=Path, default=answers.MODEL,
        help="folder of a model that answers (default: data/export)")  # fmt: skip
    add("--other", metavar="DIR", type=Path, help="a second one, to be seen beside it")
    add("--port", metavar="N", type=int, default=PORT, help=f"default: {PORT}")
    asked = parser.parse_args(arguments)
    if not 1024 <= asked.port <= 65535:
        parser.error(f"--port is {asked.port}; it takes 1024 to 65535")
    return asked


if __name__ == "__main__":
    sys.exit(main())

"""The command ``smearflow``: predict, page, export."""

import sys


def main() -> None:
    """Run the command that the first argument names; each loads its own libraries."""
    command, *arguments = sys.argv[1:] or [""]
    if command == "predict":
        from stages.tools import answer

        sys.exit(answer.main(arguments))
    if command == "page":
        from stages.tools import serve

        sys.exit(serve.main(arguments))
    if command == "export":
        from stages.tools import hand_out

        hand_out.run(arguments)
        return
    sys.stderr.write(
        "usage: smearflow predict PICTURE|FOLDER|ARCHIVE ...\n"
        "       smearflow page [--model DIR] [--other DIR] [--port N]\n"
        "       smearflow export --to folder|onnx|litert|savedmodel DIR\n"
        "Each tells more with --help. Everything else is DVC: uv run dvc repro.\n"
    )
    sys.exit(0 if command in ("-h", "--help") else 2)

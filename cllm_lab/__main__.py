"""The command line: `python -m cllm_lab lab`, `python -m cllm_lab compile`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cllm_lab import __version__
from cllm_lab.workbench import WorkbenchError, first_notebook, update_workbench

DEFAULT_FOLDER = "workbench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, from `arguments` or the process's own; return the exit status."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command == "lab":
        folder = rest.pop(0) if rest and not rest[0].startswith("-") else DEFAULT_FOLDER
        return _lab(Path(folder), options.launch, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.version:
        print(f"cllm_lab {__version__}")
    elif options.command == "compile":
        _compile()
    else:
        parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cllm_lab", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", title="commands")
    lab = commands.add_parser(
        "lab",
        allow_abbrev=False,
        help="make or refresh a working copy of the notebooks and open JupyterLab on the first of them",
        usage="python -m cllm_lab lab [FOLDER] [--no-launch] [options of JupyterLab, such as --port 8890]",
        description=f"Bring the notebooks into FOLDER (default: {DEFAULT_FOLDER}) and open JupyterLab there. "
        "A file that you edited is never overwritten.",
    )
    lab.add_argument(
        "--no-launch", dest="launch", action="store_false", help="bring the notebooks, open nothing"
    )
    commands.add_parser(
        "compile", allow_abbrev=False, help="compile the kernels now, so that no notebook has to wait"
    )
    return parser


def _lab(folder: Path, launch: bool, jupyter_arguments: list[str]) -> int:
    try:
        print(update_workbench(folder))
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not launch:
        return 0
    if find_spec("jupyterlab") is None:
        print(
            'error: JupyterLab is missing; install it with: python -m pip install "cllm_lab[lab]"',
            file=sys.stderr,
        )
        return 1
    from jupyterlab.labapp import LabApp

    from cllm_lab.model.parts.threads import ENVIRONMENT

    for name, value in ENVIRONMENT.items():  # kernels inherit it
        os.environ.setdefault(name, value)
    first = first_notebook()
    page = "/lab" if first is None else f"/lab/tree/{first}"
    LabApp.launch_instance([str(folder), f"--LabApp.default_url={page}", *jupyter_arguments])
    return 0


def _compile() -> None:
    from cllm_lab.model import compiled_pass
    from cllm_lab.model.parts import kernels
    from cllm_lab.training import optimizer_kernels

    for dtype in ("float32", "float64"):
        kernels.warm_up(print, dtype)
        optimizer_kernels.warm_up(print, dtype)
    compiled_pass.warm_up(print)


if __name__ == "__main__":
    sys.exit(main())

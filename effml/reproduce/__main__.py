"""`python -m effml.reproduce`: one notebook, in a process of its own; the job is JSON on stdin."""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from effml.reproduce.rewrite import without_iri_grammar


def main() -> int:
    without_iri_grammar()
    import papermill
    from traitlets.config import Config

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # papermill then ends the kernel
    job = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        # Two kernels that start at once may choose the same free TCP port, and one dies of it.
        # Sockets that are files, which Windows has not, cannot meet.
        files = {"transport": "ipc", "ip": str(Path(folder, "kernel"))}
        config = Config(KernelManager=files if os.name == "posix" else {})
        try:
            papermill.execute_notebook(**job, stderr_file=sys.stderr, config=config)
        except papermill.PapermillExecutionError:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

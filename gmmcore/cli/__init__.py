"""The command line."""

import os
import signal
import sys

# While the program is imported, Ctrl-C ends it at once, without the traceback of an import; then
# `main` takes over. Programs that import this package keep their own handler.
if (
    os.path.basename(sys.argv[0]) in ("gmmcore", "-m")
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

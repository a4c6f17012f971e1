"""The one format of log lines, on standard error; standard output holds what a command exists to print."""

import logging
import sys

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Ours speak from INFO on, libraries from WARNING on. A module that is run by its name is called `__main__`.
_OURS = ("flows", "pipelines", "models", "__main__")
# Its warnings quote values of headers; a file that cannot be read is counted with its reason. Its level it sets itself.
_QUOTES_DATA = "pydicom"


class _StandardErrorHandler(logging.StreamHandler):
    """Writes to the standard error of the moment, which programs that run stages in their own process may replace."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


def configure_logging() -> None:
    """Send log lines to standard error. Where a library has set that up already, as Prefect does, its format stays."""
    logging.basicConfig(handlers=[_StandardErrorHandler()], format=_FORMAT, datefmt="%H:%M:%S", level=logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger(_QUOTES_DATA).propagate = False

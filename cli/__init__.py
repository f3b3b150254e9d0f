"""The command line."""

from .commands import cli as cli
from .commands import main as main

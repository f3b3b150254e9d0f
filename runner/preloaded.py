"""What the fork server imports once, so that a worker begins at once; it computes nothing: threads do not survive a fork."""

import os

if hasattr(os, "setpgid"):
    os.setpgid(0, 0)  # first of all: Ctrl-C in a terminal is for the process that started this one

import gc

from .. import cli as cli
from ..axioms.search import cell as cell
from ..methods import registry as registry
from ..sanity import checks
from . import worker as worker
from .limits import die_with_parent

die_with_parent()
checks.every()
gc.collect()
gc.freeze()  # what is imported is never looked at again, so that forks share its memory

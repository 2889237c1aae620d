"""Imported by the fork server alone: when its work is done it ends without taking the interpreter apart.

That would take a tenth of a second for all that workers import, and who reads our output waits for it: the fork server
has inherited stdout. Workers do not come by here; they end by `os._exit` as it is.
"""

from __future__ import annotations

import atexit
import os

atexit.register(os._exit, 0)

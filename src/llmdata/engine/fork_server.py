"""Imported by the fork server alone, first: what it imports from here on is there for all workers.

When its work is done it ends without taking the interpreter apart. That would take a tenth of a second for all that
workers import, and who reads our output waits for it: the fork server has inherited stdout. Workers do not come by
here; they end by `os._exit` as it is.

No garbage is collected while it imports, which makes next to none: a twentieth of the time. Workers set what was
imported aside (`engine.worker`), and collect their own.
"""

from __future__ import annotations

import atexit
import gc
import os

atexit.register(os._exit, 0)
gc.disable()

"""Imported by the fork server, for what it does: loads the bundled model of languages, once for all workers.

A recipe that names another model, or a model that is damaged, is the workers' affair.
"""

from __future__ import annotations

from contextlib import suppress

from llmdata.clean.language import bundled_model
from llmdata.clean.language_model import load_classifier
from llmdata.errors import LlmdataError

with suppress(LlmdataError, OSError):
    load_classifier(bundled_model(), "language.model")

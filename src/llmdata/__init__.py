"""llmdata: from web pages to a trained base model."""

__version__ = "0.1.0"

"""`python -m llmdata` is the same as `llmdata`."""

from llmdata.cli import main

if __name__ == "__main__":
    main()

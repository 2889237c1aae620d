"""The errors a user meets. Each message says what was wrong, where, and what to do; a traceback is a bug."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL: stopped early, the same command goes on
EXIT_INTERRUPTED = 130
EXIT_UNHEARD = 141  # as a shell reports SIGPIPE: whoever read our output went away


class LlmdataError(Exception):
    """Base of every error that `llmdata` raises on purpose; the command ends with `exit_code`."""

    exit_code = EXIT_FAILED


class ConfigError(LlmdataError):
    """A recipe, option or argument is wrong; nothing has been created."""

    exit_code = EXIT_USAGE


class InputError(LlmdataError):
    """Input data cannot be read, or is not what the command needs."""


class ChangedError(LlmdataError):
    """A finished stage was made by another recipe or from other inputs; `--rerun` makes it anew."""

    exit_code = EXIT_USAGE


class BusyError(LlmdataError):
    """Another run holds the folder."""


class StoppedEarly(LlmdataError):
    """The run stopped at a task boundary (SIGTERM, --max-time, disk nearly full) and can go on."""

    exit_code = EXIT_STOPPED


class Interrupted(StoppedEarly):
    """Ctrl-C: stopped cleanly, can go on."""

    exit_code = EXIT_INTERRUPTED

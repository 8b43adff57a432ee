"From a folder of labelled images to a governed, explained, monitored model that Seldon Core serves."

__version__ = "0.1.0"

_commands = (
    "demo",
    "ingest",
    "check",
    "redact",
    "datasheet",
    "split",
    "train",
    "evaluate",
    "explain",
    "fairness",
    "stress",
    "compare",
    "register",
    "why",
    "approve",
    "serve",
    "predict",
    "monitor",
    "forget",
    "run",
    "new",
    "doctor",
)
__all__ = list(_commands)


def __getattr__(name):
    "A command loads when it is first used, so that `import cvkit` stays light."
    if name in _commands:
        from cvkit.commands import run

        return getattr(run, name)
    raise AttributeError(f"module 'cvkit' has no attribute {name!r}; its commands are {', '.join(_commands)}")


def __dir__():
    return sorted([*globals(), *_commands])

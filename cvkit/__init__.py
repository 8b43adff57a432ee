"From a folder of labelled images to a governed, explained, monitored model that Seldon Core serves."

import sys
from types import ModuleType

__version__ = "0.1.0"

_verbs = (
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
__all__ = list(_verbs)


def __getattr__(name):
    "The verbs load when they are first used, so that `import cvkit` stays light."
    if name in _verbs:
        from cvkit.flow import verbs

        return getattr(verbs, name)
    raise AttributeError(f"module 'cvkit' has no attribute {name!r}; its verbs are {', '.join(_verbs)}")


def __dir__():
    return sorted([*globals(), *_verbs])


class _Room(ModuleType):
    "`cvkit.release` is a room and a verb: the room, once imported, can be called as the verb."

    def __call__(self, *args, **kwargs):
        return __getattr__(self.__name__.rpartition(".")[2])(*args, **kwargs)

    @property
    def __signature__(self):
        import inspect

        return inspect.signature(__getattr__(self.__name__.rpartition(".")[2]))


class _Package(ModuleType):
    def __setattr__(self, name, value):
        if name in _verbs and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

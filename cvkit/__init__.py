"From a folder of labelled images to a governed, explained, monitored model that Seldon Core serves."
__version__ = "0.1.0"

_verbs = ("demo", "ingest", "train", "evaluate", "explain", "release", "why", "sign", "serve", "predict", "monitor", "run")
__all__ = list(_verbs)


def __getattr__(name):
    "The verbs load when they are first used, so that `import cvkit` stays light."
    if name in _verbs:
        from cvkit.flow import verbs
        return getattr(verbs, name)
    raise AttributeError(f"module 'cvkit' has no attribute {name!r}; its verbs are {', '.join(_verbs)}")


def __dir__():
    return sorted([*globals(), *_verbs])

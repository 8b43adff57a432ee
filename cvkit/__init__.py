"From a folder of labelled images to a governed, explained, monitored model that Seldon Core serves."

__version__ = "0.1.0"


def __getattr__(name):
    "A command loads when it is first used, so that `import cvkit` stays light."
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module 'cvkit' has no attribute {name!r}")
    from cvkit.commands.cli import find_commands, load_command

    commands = find_commands()
    if name == "__all__":
        return list(commands)
    if name in commands:
        return load_command(name)
    raise AttributeError(f"module 'cvkit' has no attribute {name!r}; its commands are {', '.join(commands)}")


def __dir__():
    from cvkit.commands.cli import find_commands

    return sorted([*globals(), *find_commands()])

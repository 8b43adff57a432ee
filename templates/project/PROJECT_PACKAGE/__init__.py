"A model of ours, built with cvkit."

__version__ = "0.1.0"

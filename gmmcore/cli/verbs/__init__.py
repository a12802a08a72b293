"""The verbs of the command line, one module per verb.

Each module has ``configure(parser)``, which declares the arguments, and ``run(arguments)``, which
does the work. Its docstring is what ``gmmcore --help`` prints.
"""

"""One module a verb: it parses, reads, calls one function and writes one file.

Each module has ``configure(parser)``, which declares the arguments, and ``run(arguments)``,
which does the work. The first line of its docstring is what ``gmmcore --help`` says of it.
"""

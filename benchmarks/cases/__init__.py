"""One module for each benchmark: its docstring's first line says what it measures, its `run(options)` gives the rows.

What it needs (servers, files) it enters by context managers inside `run`, so that all of it ends with the run.
"""

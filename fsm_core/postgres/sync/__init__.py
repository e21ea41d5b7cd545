"""The synchronous store: how its verbs are done, those that look, those of an operator, and those that decide."""

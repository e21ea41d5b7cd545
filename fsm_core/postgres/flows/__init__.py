"""The flows behind the store's verbs: each written once, as a coroutine that awaits statements and nothing else."""

"""What a developer's machine needs and production does not: embedded servers and a small process supervisor.

Nothing here imports the machines or Celery, so that it starts fast and works when they do not.
"""

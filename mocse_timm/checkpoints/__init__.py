"""Trained models from folders and the Hub, opened as if a stranger had written them: ``load_model``, ``from_hub``.

Nothing is unpickled, nothing is fetched but what was asked for, and sizes are checked before memory is taken for them.
"""

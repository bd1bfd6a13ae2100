"""Models on the Hub: saved, described by a card, published, checked; and what they see in a picture.

Everything is imported from its own module: cards need jinja2, and loading a model needs none of it.
"""

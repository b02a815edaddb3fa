"""Interactive figures: each is NAME.py beside NAME.js and works with and without a kernel.

A new figure subclasses `figure.InteractiveFigure`; nothing else needs to be touched.
"""

"""The sections of compare.py: each has ``run(settings)``, which gives a Section."""

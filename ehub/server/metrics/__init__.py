"""Figures of a server for those who run it, in Prometheus' terms; the names are in README.md.

`calls` counts what calls do, `rows` how many rows they carry, `hub` reads what the hub knows of
itself, `recall` repeats searches exactly; `metrics` has them together, `port` is where to ask.
"""

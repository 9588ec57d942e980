"""The benchmark: this library and its peers on the user's own data, compared in one run.

`data` gives rows, queries and their true neighbors; `contenders` has a class for each library;
`building` builds each one's index in a process of its own; `measure` asks all of them in turn;
`report` and `plot` show what came out. Absolute figures of a run are those of one machine on one
day: what carries over are the ratios between contenders of the same run.
"""

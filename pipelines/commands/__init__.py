"""The commands of `python train.py`, one thin file each: parse, call, say where the result is.

Every file but `lightning` has `prepare(arguments)`, which returns a parser and the arguments as it takes them, and
`run(values)`. They are imported when they are asked for: a command waits for nothing that it does not need.
"""

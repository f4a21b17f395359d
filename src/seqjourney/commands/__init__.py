"""One function per verb, which a script or a notebook calls: simulate, prepare, train, evaluate,
export. Each takes a validated configuration, writes files that appear whole or not at all, and
says where they are and what to do next. Nothing else in the package imports from here.
"""

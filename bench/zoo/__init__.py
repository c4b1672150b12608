"""Networks of public model zoos through gate() and the compiler: ``make zoo``.

Tooling of the repository, not part of the package. README.md has the results.
"""

"""The one exception for things a person can put right."""


class UserError(ValueError):
    """Bad input, told in one clear sentence that names the file or the option.

    The command line prints the sentence on standard error and ends with exit status 2; from Python it is an
    ordinary `ValueError`.
    """

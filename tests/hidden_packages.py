"""Programs in which some packages seem not to be installed."""

_PROGRAM = """
import sys
class Finder:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {names}:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]
"""


def hide(*names):
    """Returns the first lines of a program that cannot import the packages."""
    return _PROGRAM.format(names=names)

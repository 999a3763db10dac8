import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

NOBODY = 65534


class OtherUsers:
    """Tests permissions, even for a test that runs as root."""

    @staticmethod
    @contextlib.contextmanager
    def folder(mode):
        """Creates a folder with permissions `mode` where other users can reach it."""
        folder = Path(tempfile.mkdtemp(dir="/tmp"))
        try:
            folder.chmod(mode)
            yield folder
        finally:
            shutil.rmtree(folder)

    @staticmethod
    @contextlib.contextmanager
    def act():
        """Runs the context with the permissions of another user."""
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


@pytest.fixture
def other_users():
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    return OtherUsers

"""The public names of the package: a list that changes only on purpose."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import semsearch
from semsearch import errors

PUBLIC = [
    "Candidates",
    "Corrupt",
    "Document",
    "Hit",
    "InputError",
    "Locked",
    "Mismatch",
    "MissingExtra",
    "ModelError",
    "NotFound",
    "OutOfMemory",
    "Query",
    "SemsearchError",
    "StorageError",
    "UsageError",
    "compare",
    "evaluate",
    "evaluate_ranking",
    "judge",
    "open",
    "read_corpus",
    "read_recipe",
    "train",
    "tune",
]


def test_the_list_of_public_names():
    assert semsearch.__all__ == PUBLIC
    assert set(PUBLIC) | {"__version__"} <= set(dir(semsearch))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves(name):
    value = getattr(semsearch, name)
    assert value.__name__ == name
    assert value.__doc__


def test_every_error_of_the_tree_is_public():
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SemsearchError)
    }
    assert tree <= set(semsearch.__all__)


def test_a_name_is_the_same_object_wherever_it_comes_from():
    assert semsearch.InputError is errors.InputError
    assert semsearch.InputError is semsearch.InputError


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'semsearch' has no attribute 'serach'"):
        semsearch.serach  # noqa: B018


def test_star_import_gives_the_public_names():
    code = "before = set(globals()); from semsearch import *; print(*sorted(set(globals())-before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - {"before"} == set(PUBLIC)


def test_the_version_is_the_installed_one():
    assert version("semsearch") == semsearch.__version__
